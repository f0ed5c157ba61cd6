//! The colours of tokens, which previews are made of: what is measured of decoded images, used by
//! the exporter, and the bytes that a package holds. Knows no network.

use std::collections::BTreeMap;

use crate::{Ranges, Stage};

/// Pixels along each side of a token's patch.
pub const PATCH: usize = 4;

/// Numbers of a patch: row-major pixels of red, green and blue.
pub const PATCH_VALUES: usize = 3 * PATCH * PATCH;

/// The file that holds the patches of all tokens, one after another, a byte for each number: in
/// packages, and in checkpoints that bring it.
pub const PREVIEW: &str = "preview.rgb";

/// A token of a decoded image and what its square looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The token.
    pub token: u32,
    /// Its patch, 0 to 1: the means of the pixels.
    pub patch: [f32; PATCH_VALUES],
}

/// What is measured of a draft of a package.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Of the decoder's inner values; none if it has no taps for them.
    pub ranges: Ranges,
    /// Of the inner values of every stage that has taps for them, by the values' names.
    pub activations: BTreeMap<Stage, Ranges>,
    /// Of images that the model makes; none if no preview is wanted.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// The cells of an image, `[3, rows * side, columns * side]` pixels of 0 to 1, whose tokens
    /// are `tokens`, row-major. What lies outside is clipped.
    ///
    /// # Panics
    ///
    /// If there are not as many pixels as `tokens` and `columns` say.
    pub fn of_image(tokens: &[u32], columns: usize, pixels: &[f32]) -> Vec<Self> {
        let rows = tokens.len() / columns.max(1);
        let side = (pixels.len() / 3 / tokens.len().max(1)).isqrt();
        assert_eq!(
            pixels.len(),
            3 * rows * columns * side * side,
            "a square of pixels for each token"
        );
        let cell = |(at, token): (usize, &u32)| {
            let corner = [at / columns * side, at % columns * side];
            let value = |index: usize| {
                let (pixel, channel) = (index / 3, index % 3);
                let plane = &pixels[channel * rows * side * columns * side..];
                let [down, across] = [pixel / PATCH, pixel % PATCH].map(|place| part(place, side));
                let values = down.clone().flat_map(|y| {
                    let row = (corner[0] + y) * columns * side + corner[1];
                    across.clone().map(move |x| plane[row + x].clamp(0.0, 1.0))
                });
                values.sum::<f32>() / (down.len() * across.len()) as f32
            };
            Self { token: *token, patch: std::array::from_fn(value) }
        };
        tokens.iter().enumerate().map(cell).collect()
    }
}

/// The pixels of a square with `side` that the pixel `place` of a patch stands for, at least one.
fn part(place: usize, side: usize) -> std::ops::Range<usize> {
    let start = place * side / PATCH;
    start..((place + 1) * side / PATCH).max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_the_means_of_its_pixels() {
        // One row of two tokens, 8 x 8 pixels each; red grows to the right, green downwards, blue
        // is too much.
        let plane = |value: fn(usize, usize) -> f32| {
            (0..8).flat_map(move |y| (0..16).map(move |x| value(y, x)))
        };
        let pixels: Vec<_> = plane(|_, x| x as f32 / 16.0)
            .chain(plane(|y, _| y as f32 / 8.0))
            .chain(plane(|_, _| 7.0))
            .collect();
        let cells = Cell::of_image(&[5, 9], 2, &pixels);
        assert_eq!([cells[0].token, cells[1].token], [5, 9]);
        let pixel =
            |cell: &Cell, y: usize, x: usize| cell.patch[3 * (y * PATCH + x)..][..3].to_vec();
        assert_eq!(pixel(&cells[0], 0, 0), [0.5 / 16.0, 0.5 / 8.0, 1.0]);
        assert_eq!(pixel(&cells[1], 3, 2), [12.5 / 16.0, 6.5 / 8.0, 1.0]);
    }

    #[test]
    fn small_squares_repeat_their_pixels() {
        let cells = Cell::of_image(&[0], 1, &[0.0, 0.25, 0.5, 1.0].repeat(3));
        assert_eq!(cells[0].patch[..6], [0.0; 6]);
        assert_eq!(cells[0].patch[45..], [1.0; 3]);
    }
}
