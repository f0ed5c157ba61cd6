//! Images in the making without the decoder: every token has a small patch of colours. Knows no
//! network.

use image::RgbImage;
use pocketmuse_package::{Error, ErrorKind, Manifest, PATCH, PATCH_VALUES, Result};

/// A token that is still masked.
const MASKED: [u8; PATCH_VALUES] = [128; PATCH_VALUES];

/// The patches of a model's tokens; see [`Pipeline::preview`](crate::Pipeline::preview).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    patches: Vec<[u8; PATCH_VALUES]>,
    pixels_per_token: usize,
}

impl Preview {
    /// The patches that a package holds.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if there are not as many as tokens to choose from.
    pub(crate) fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Self> {
        let (patches, rest) = bytes.as_chunks();
        let count = manifest.model.codebook_size as usize;
        if patches.len() != count || !rest.is_empty() {
            let detail = format!(
                "expected {PATCH_VALUES} bytes for each of {count} tokens, found {} bytes",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::PackageDamaged, "preview", detail));
        }
        Ok(Self {
            patches: patches.to_vec(),
            pixels_per_token: manifest.model.pixels_per_token as usize,
        })
    }

    /// The image of row-major tokens, `columns` in a row; `None` if they are no whole rows, or more
    /// than an image has room for.
    pub fn draw(&self, tokens: &[Option<u32>], columns: usize) -> Option<RgbImage> {
        self.of_side(self.pixels_per_token, tokens, columns)
    }

    /// As [`Self::draw`], with [`PATCH`] pixels along a token's side.
    pub fn draw_small(&self, tokens: &[Option<u32>], columns: usize) -> Option<RgbImage> {
        self.of_side(PATCH, tokens, columns)
    }

    /// The image with `side` pixels along a token's side.
    fn of_side(&self, side: usize, tokens: &[Option<u32>], columns: usize) -> Option<RgbImage> {
        if columns == 0 || side == 0 || !tokens.len().is_multiple_of(columns) {
            return None;
        }
        let pixels = |tokens: usize| u32::try_from(tokens.checked_mul(side)?).ok();
        let (width, height) = (pixels(columns)?, pixels(tokens.len() / columns)?);
        let mut bytes = Vec::with_capacity(3 * tokens.len() * side * side);
        for tokens in tokens.chunks_exact(columns) {
            let mut line = 0..0;
            for y in 0..side {
                let row = y * PATCH / side;
                if y == 0 || row != (y - 1) * PATCH / side {
                    let start = bytes.len();
                    tokens.iter().for_each(|token| self.line(*token, [row, side], &mut bytes));
                    line = start..bytes.len();
                } else {
                    bytes.extend_from_within(line.clone());
                }
            }
        }
        RgbImage::from_raw(width, height, bytes)
    }

    /// Adds one line of `side` pixels: the row `row` of a token's patch.
    fn line(&self, token: Option<u32>, [row, side]: [usize; 2], bytes: &mut Vec<u8>) {
        let patch = token.and_then(|token| self.patches.get(token as usize)).unwrap_or(&MASKED);
        let pixels: &[[u8; 3]] = patch[3 * PATCH * row..][..3 * PATCH].as_chunks().0;
        (0..side).for_each(|x| bytes.extend_from_slice(&pixels[x * PATCH / side]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(pixels_per_token: usize) -> Preview {
        let patch = |token: u8| std::array::from_fn(|value| 100 * token + value as u8);
        Preview { patches: vec![patch(0), patch(1)], pixels_per_token }
    }

    #[test]
    fn a_token_is_its_patch_and_a_masked_one_grey() {
        for side in [1, 3, 4, 8, 16] {
            let tokens = [Some(0), None, Some(1), Some(7)];
            let image = preview(side).draw(&tokens, 2).expect("two rows");
            let small = preview(side).draw_small(&tokens, 2);
            assert_eq!(small, preview(PATCH).draw(&tokens, 2), "a patch has no more to show");
            assert_eq!(image.dimensions(), (2 * side as u32, 2 * side as u32));
            for (x, y, pixel) in image.enumerate_pixels() {
                let [x, y] = [x as usize, y as usize];
                let place = 3 * (y % side * PATCH / side * PATCH + x % side * PATCH / side);
                let expected =
                    |token: usize| [0, 1, 2].map(|channel| (100 * token + place + channel) as u8);
                let expected = match (y / side, x / side) {
                    (0, 0) => expected(0),
                    (1, 0) => expected(1),
                    _ => [128; 3], // masked, and no token of this model
                };
                assert_eq!(pixel.0, expected, "{side} pixels a token, at {x}, {y}");
            }
        }
    }
    #[test]
    fn what_is_no_grid_is_no_image() {
        let preview = preview(8);
        for (tokens, columns) in [(&[Some(0); 3][..], 2), (&[Some(0)], 0), (&[Some(0)], usize::MAX)]
        {
            assert_eq!(preview.draw(tokens, columns), None, "{columns} columns");
            assert_eq!(preview.draw_small(tokens, columns), None, "{columns} columns");
        }
        let nothing = preview.draw(&[], 1).expect("no row");
        assert_eq!(nothing.dimensions(), (8, 0));
    }
}
