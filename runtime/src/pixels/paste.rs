//! Pixels that were to stay come back into an edited image, with a feathered edge. Knows no
//! model.

use image::{
    GrayImage, Luma, RgbImage,
    imageops::{crop_imm, replace},
};

use crate::request::extension::Extension;

/// A mask's pixel is to be repainted from this brightness on, as in the reference: half of 255.
pub(crate) const REPAINT: u8 = 128;

/// Puts `known` back wherever `mask` does not ask for repainting.
///
/// All three have the same size. Inside the mask `edited` stays as it is; outside it fades to
/// `known` over `feather` pixels, counted as a king moves on a chessboard, and from there on the
/// bytes are those of `known`.
pub(crate) fn paste(edited: &mut RgbImage, known: &RgbImage, mask: &GrayImage, feather: u32) {
    let weights = feathered(mask, feather);
    for ((edited, known), weight) in edited.pixels_mut().zip(known.pixels()).zip(weights.pixels()) {
        let weight = u32::from(weight.0[0]);
        for (edited, known) in edited.0.iter_mut().zip(known.0) {
            *edited = ((u32::from(*edited) * weight + u32::from(known) * (255 - weight) + 127)
                / 255) as u8;
        }
    }
}

/// As [`paste`], for an image that `extension` adds pixels to, which all are repainted: the image's
/// own pixels come back up to its border, but for what `mask` asks for inside it.
///
/// So that no seam shows, the added pixels next to the border are shifted by what the border's
/// pixel differs from what `edited` had there, less and less over `feather` pixels.
pub(crate) fn paste_inside(
    edited: &mut RgbImage,
    known: &RgbImage,
    mask: &GrayImage,
    feather: u32,
    extension: &Extension,
) {
    let ([left, top], [width, height]) = (extension.corner(), extension.image());
    let before = crop_imm(edited, left, top, width, height).to_image();
    let mut inside = before.clone();
    paste(
        &mut inside,
        &crop_imm(known, left, top, width, height).to_image(),
        &crop_imm(mask, left, top, width, height).to_image(),
        feather,
    );
    for (x, y, pixel) in edited.enumerate_pixels_mut() {
        let border = |at: u32, first: u32, extent: u32| at.clamp(first, first + extent - 1);
        let (border_x, border_y) = (border(x, left, width), border(y, top, height));
        let distance = x.abs_diff(border_x).max(y.abs_diff(border_y));
        let share = (feather + 1).saturating_sub(distance);
        if distance == 0 || share == 0 {
            continue;
        }
        let [now, was] =
            [&inside, &before].map(|image| image.get_pixel(border_x - left, border_y - top).0);
        for (channel, value) in pixel.0.iter_mut().enumerate() {
            let shift = f64::from(now[channel]) - f64::from(was[channel]);
            let shifted = f64::from(*value) + shift * f64::from(share) / f64::from(feather + 1);
            *value = shifted.round().clamp(0.0, 255.0) as u8;
        }
    }
    replace(edited, &inside, left.into(), top.into());
}

/// 255 in the mask, 0 from `feather` pixels off, evenly falling between.
fn feathered(mask: &GrayImage, feather: u32) -> GrayImage {
    let distances = distances(mask, feather);
    let weight = |distance: u32| 255 * (feather - distance.min(feather)) / feather.max(1);
    GrayImage::from_fn(mask.width(), mask.height(), |x, y| {
        let distance = distances[(y * mask.width() + x) as usize];
        Luma([if distance == 0 { 255 } else { weight(distance) as u8 }])
    })
}

/// Each pixel's distance from the mask in king's moves, at most `far + 1`: two sweeps over the
/// rows.
fn distances(mask: &GrayImage, far: u32) -> Vec<u32> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let mut distances: Vec<u32> =
        mask.iter().map(|value| if *value >= REPAINT { 0 } else { far + 1 }).collect();
    let near = |distances: &[u32], at: usize, row: Option<usize>, beside: Option<usize>| {
        let x = at % width;
        let above = row
            .into_iter()
            .flat_map(|row| &distances[row * width..][x.saturating_sub(1)..(x + 2).min(width)]);
        above
            .copied()
            .chain(beside.map(|at| distances[at]))
            .min()
            .map_or(u32::MAX, |nearest| nearest.saturating_add(1))
    };
    for at in 0..width * height {
        let beside = (at % width > 0).then(|| at - 1);
        distances[at] =
            distances[at].min(near(&distances, at, (at / width).checked_sub(1), beside));
    }
    for at in (0..width * height).rev() {
        let beside = (at % width + 1 < width).then(|| at + 1);
        let below = Some(at / width + 1).filter(|row| *row < height);
        distances[at] = distances[at].min(near(&distances, at, below, beside));
    }
    distances
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;

    fn mask(width: u32, height: u32, cells: &[(u32, u32)]) -> GrayImage {
        GrayImage::from_fn(width, height, |x, y| {
            Luma([if cells.contains(&(x, y)) { 255 } else { 127 }])
        })
    }

    #[test]
    fn fades_evenly_and_then_keeps_every_byte() {
        let mask = mask(9, 3, &[(1, 1)]);
        let mut edited = RgbImage::from_pixel(9, 3, Rgb([200; 3]));
        paste(&mut edited, &RgbImage::from_pixel(9, 3, Rgb([100; 3])), &mask, 4);
        let row: Vec<u8> =
            edited.rows().nth(1).expect("three rows").map(|pixel| pixel.0[0]).collect();
        assert_eq!(row, [175, 200, 175, 150, 125, 100, 100, 100, 100]);
    }

    #[test]
    fn without_a_feather_the_edge_is_hard() {
        let mut edited = RgbImage::from_pixel(3, 1, Rgb([9; 3]));
        paste(&mut edited, &RgbImage::from_pixel(3, 1, Rgb([5; 3])), &mask(3, 1, &[(1, 0)]), 0);
        assert_eq!(edited.as_raw(), &[5, 5, 5, 9, 9, 9, 5, 5, 5]);
    }

    #[test]
    fn an_image_comes_back_whole_and_no_seam_shows_around_it() {
        let extension = Extension::new([3, 2], [4, 1, 0, 0], 4096).expect("small");
        let (mut edited, known) =
            (RgbImage::from_pixel(7, 3, Rgb([100; 3])), RgbImage::from_pixel(7, 3, Rgb([160; 3])));
        paste_inside(&mut edited, &known, &GrayImage::new(7, 3), 2, &extension);
        let rows: Vec<Vec<u8>> =
            edited.rows().map(|row| row.map(|pixel| pixel.0[0]).collect()).collect();
        assert_eq!(rows[0], [100, 100, 120, 140, 140, 140, 140]);
        assert_eq!(rows[1], [100, 100, 120, 140, 160, 160, 160]);
        assert_eq!(rows[2], rows[1]);
    }

    #[test]
    fn what_is_repainted_inside_gives_no_shift() {
        let extension = Extension::new([2, 1], [2, 0, 0, 0], 4096).expect("small");
        let (mut edited, known) =
            (RgbImage::from_pixel(4, 1, Rgb([100; 3])), RgbImage::from_pixel(4, 1, Rgb([160; 3])));
        paste_inside(&mut edited, &known, &mask(4, 1, &[(0, 0), (2, 0)]), 0, &extension);
        assert_eq!(edited.iter().step_by(3).copied().collect::<Vec<_>>(), [100, 100, 100, 160]);
    }

    proptest! {
        #[test]
        fn distances_are_king_moves(
            width in 1u32..12,
            height in 1u32..12,
            cells in prop::collection::vec((0u32..12, 0u32..12), 0..6),
            far in 0u32..9,
        ) {
            let mask = mask(width, height, &cells);
            let inside: Vec<_> = cells.iter().filter(|(x, y)| *x < width && *y < height).collect();
            for (at, found) in (0..).zip(distances(&mask, far)) {
                let (x, y): (u32, u32) = (at % width, at / width);
                let exact =
                    inside.iter().map(|cell| cell.0.abs_diff(x).max(cell.1.abs_diff(y))).min();
                prop_assert_eq!(found, exact.unwrap_or(u32::MAX).min(far + 1), "at {}, {}", x, y);
            }
        }
    }
}
