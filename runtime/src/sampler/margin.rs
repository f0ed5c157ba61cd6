//! Pictures whose edges meet: the networks see the grid of tokens with a margin of those from the
//! other side around it. Knows no network; see [`Request::tileable`](crate::Request::tileable).

use image::{RgbImage, imageops};

use crate::{request::Resolved, sampler::Predict};

/// A grid of rows and columns, with a margin around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surrounded {
    grid: [usize; 2],
    margin: [usize; 2],
}

impl Surrounded {
    pub(crate) fn of(job: &Resolved) -> Self {
        Self { grid: job.grid, margin: job.margin }
    }

    /// Rows and columns with the margin.
    pub(crate) fn outer(self) -> [usize; 2] {
        [0, 1].map(|axis| self.grid[axis] + 2 * self.margin[axis])
    }

    /// The tokens of the grid and, in the margin, those that lie there when the grid goes on at its
    /// other side.
    pub(crate) fn wrapped<T: Copy>(self, tokens: &[T]) -> Vec<T> {
        let [rows, columns] = self.outer();
        // One grid further, so that nothing is below 0 where the margin is the wider.
        let inner = |at: usize, axis: usize| {
            let (side, margin) = (self.grid[axis], self.margin[axis]);
            (at + margin.next_multiple_of(side) - margin) % side
        };
        let token = |row, column| tokens[inner(row, 0) * self.grid[1] + inner(column, 1)];
        (0..rows).flat_map(|row| (0..columns).map(move |column| token(row, column))).collect()
    }

    /// Where a token of the grid lies in the outer one.
    fn place(self, position: usize) -> usize {
        let [row, column] =
            [position / self.grid[1] + self.margin[0], position % self.grid[1] + self.margin[1]];
        row * self.outer()[1] + column
    }

    /// The picture without its margin.
    pub(crate) fn cropped(self, image: RgbImage) -> RgbImage {
        if self.margin == [0; 2] {
            return image;
        }
        let [rows, columns] = self.outer().map(|side| side.max(1) as u32);
        let (down, across) = (image.height() / rows, image.width() / columns); // pixels of a token
        let [top, left] = [self.margin[0] as u32 * down, self.margin[1] as u32 * across];
        let [height, width] = [self.grid[0] as u32 * down, self.grid[1] as u32 * across];
        imageops::crop_imm(&image, left, top, width, height).to_image()
    }
}

/// A model that sees each picture with its margin, asked by a sampler that knows of none.
pub(crate) struct Wrapping<P> {
    pub(crate) model: P,
    pub(crate) surrounded: Surrounded,
}

impl<P: Predict> Predict for Wrapping<P> {
    type Error = P::Error;

    fn begin(&mut self, step: usize) {
        self.model.begin(step);
    }

    /// Positions keep their order, so logits do.
    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], P::Error> {
        if self.surrounded.margin == [0; 2] {
            return self.model.predict(image, tokens, positions);
        }
        let positions: Vec<_> =
            positions.iter().map(|position| self.surrounded.place(*position)).collect();
        self.model.predict(image, &self.surrounded.wrapped(tokens), &positions)
    }

    fn drawn(&mut self, image: usize, tokens: &[Option<u32>], probabilities: &[f32]) {
        self.model.drawn(image, tokens, probabilities);
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;
    use crate::sampler::BadLogits;

    #[test]
    fn the_margin_is_what_lies_at_the_other_side() {
        let surrounded = Surrounded { grid: [2, 3], margin: [1, 2] };
        let expected = [
            [5, 6, 4, 5, 6, 4, 5], //
            [2, 3, 1, 2, 3, 1, 2],
            [5, 6, 4, 5, 6, 4, 5],
            [2, 3, 1, 2, 3, 1, 2],
        ];
        assert_eq!(surrounded.outer(), [4, 7]);
        assert_eq!(surrounded.wrapped(&[1, 2, 3, 4, 5, 6]), expected.concat());
    }

    /// Answers with the tokens at the positions asked for.
    struct Echo(Vec<f32>);

    impl Predict for Echo {
        type Error = BadLogits;

        fn predict(
            &mut self,
            _: usize,
            tokens: &[Option<u32>],
            positions: &[usize],
        ) -> Result<&[f32], BadLogits> {
            assert!(positions.is_sorted());
            self.0 = positions
                .iter()
                .map(|position| tokens[*position].map_or(-1.0, |token| token as f32))
                .collect();
            Ok(&self.0)
        }
    }

    proptest! {
        #[test]
        fn the_grid_itself_stays(rows in 1usize..6, columns in 1usize..6, above in 0usize..12, left in 0usize..12) {
            let surrounded = Surrounded { grid: [rows, columns], margin: [above, left] };
            let tokens: Vec<_> = (0..rows * columns).map(|token| Some(token as u32)).collect();
            let positions: Vec<_> = (0..tokens.len()).step_by(2).collect();
            let mut model = Wrapping { model: Echo(vec![]), surrounded };
            let found = model.predict(0, &tokens, &positions).expect("an answer");
            prop_assert!(found.iter().map(|token| *token as usize).eq(positions));

            let wrapped = surrounded.wrapped(&tokens);
            let [down, across] = surrounded.outer();
            let image = RgbImage::from_fn(across as u32 * 2, down as u32 * 2, |x, y| {
                Rgb([wrapped[(y / 2) as usize * across + (x / 2) as usize].unwrap_or(0) as u8; 3])
            });
            let cropped = surrounded.cropped(image);
            prop_assert_eq!(cropped.dimensions(), (2 * columns as u32, 2 * rows as u32));
            let token = |x: u32, y: u32| (y / 2) as u8 * columns as u8 + (x / 2) as u8;
            prop_assert!(cropped.enumerate_pixels().all(|(x, y, pixel)| pixel.0[0] == token(x, y)));
        }
    }
}
