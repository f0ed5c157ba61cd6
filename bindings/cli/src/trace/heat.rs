//! Numbers on a grid become labelled images, and those a sheet. Knows not what the numbers mean.

use image::{Rgb, RgbImage, imageops};

use crate::label;

/// The least length of a map's longer side in pixels.
const SIDE: u32 = 128;
/// Between panels, and around them.
const GAP: u32 = 8;
/// Of a title or a note.
const LINE: u32 = label::LETTER + 3;
const INK: Rgb<u8> = Rgb([20, 20, 20]);
const NOTE: Rgb<u8> = Rgb([110, 110, 110]);
const PAPER: Rgb<u8> = Rgb([255; 3]);
/// Where there is no number.
const NOTHING: Rgb<u8> = Rgb([222; 3]);
/// Colours from the least number to the most, dark to light also in grey.
const RAMP: [[u8; 3]; 6] =
    [[13, 8, 65], [84, 15, 109], [158, 42, 99], [221, 81, 58], [249, 149, 10], [252, 236, 130]];

/// An image with a line above it and one below.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) image: RgbImage,
}

/// A map of `values` on `grid` rows and columns: each a square, coloured from `least` to `most`,
/// grey where there is none.
pub(super) fn map(values: &[Option<f32>], grid: [usize; 2], [least, most]: [f32; 2]) -> RgbImage {
    let [rows, columns] = grid.map(|side| side as u32);
    let scale = SIDE.div_ceil(rows.max(columns).max(1)).max(1);
    RgbImage::from_fn(columns * scale, rows * scale, |x, y| {
        let value = values.get((y / scale * columns + x / scale) as usize).copied().flatten();
        value.map_or(NOTHING, |value| {
            colour((value - least) / (most - least).max(f32::MIN_POSITIVE))
        })
    })
}

/// The colour of a part of the ramp, 0 to 1.
pub(super) fn colour(part: f32) -> Rgb<u8> {
    let at = part.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let (low, high) = (RAMP[at as usize], RAMP[(at as usize + 1).min(RAMP.len() - 1)]);
    let mix = |channel: usize| {
        let [low, high] = [low, high].map(|colour| f32::from(colour[channel]));
        (low + (high - low) * at.fract()).round() as u8
    };
    Rgb([0, 1, 2].map(mix))
}

/// Panels side by side, `columns` in a row.
pub(super) fn sheet(panels: &[Panel], columns: usize) -> RgbImage {
    let most =
        |of: fn(&RgbImage) -> u32| panels.iter().map(|panel| of(&panel.image)).max().unwrap_or(0);
    let (width, height) = (most(RgbImage::width).max(SIDE), most(RgbImage::height));
    let (columns, full) = (columns.clamp(1, panels.len().max(1)), height + 2 * LINE);
    let rows = panels.len().div_ceil(columns);
    let across = GAP + columns as u32 * (width + GAP);
    let mut sheet = RgbImage::from_pixel(across, GAP + rows as u32 * (full + GAP), PAPER);
    for (index, panel) in panels.iter().enumerate() {
        let x = GAP + (index % columns) as u32 * (width + GAP);
        let y = GAP + (index / columns) as u32 * (full + GAP);
        label::write(&mut sheet, [x, y], width, &panel.title, INK);
        imageops::replace(&mut sheet, &panel.image, x.into(), (y + LINE).into());
        label::write(
            &mut sheet,
            [x, y + LINE + panel.image.height() + 2],
            width,
            &panel.note,
            NOTE,
        );
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_square_for_each_number() {
        let map = map(&[Some(0.0), None, Some(2.0), Some(9.0)], [2, 2], [0.0, 2.0]);
        assert_eq!(map.dimensions(), (128, 128));
        let at = |x, y| *map.get_pixel(x, y);
        let (first, last) = (Rgb(RAMP[0]), Rgb(RAMP[5]));
        assert_eq!(
            [at(0, 0), at(63, 63), at(64, 0), at(0, 64), at(127, 127)],
            [first, first, NOTHING, last, last]
        );
        assert_eq!(
            super::map(&[Some(1.0); 3], [3, 1], [1.0, 1.0]).dimensions(),
            (43, 129),
            "one value, no range"
        );
    }

    #[test]
    fn colours_grow_lighter() {
        let light = |part: f32| colour(part).0.iter().map(|value| u32::from(*value)).sum::<u32>();
        let lights: Vec<_> = (0..=20).map(|part| light(part as f32 / 20.0)).collect();
        assert!(lights.is_sorted(), "{lights:?}");
    }

    #[test]
    fn panels_do_not_cover_each_other() {
        let panel = |value| Panel {
            title: "a title that is much too long for its panel".to_owned(),
            note: "note".to_owned(),
            image: RgbImage::from_pixel(128, 64, Rgb([value; 3])),
        };
        let sheet = sheet(&[panel(1), panel(2), panel(3)], 2);
        let count = |value| sheet.pixels().filter(|pixel| pixel.0 == [value; 3]).count();
        assert_eq!([1, 2, 3].map(count), [128 * 64; 3]);
        assert_eq!(super::sheet(&[], 4).dimensions(), (144, 8));
    }
}
