//! The margin of a tileable image: the token grid is padded by wrapping round. Knows no network;
//! see [`Request::tileable`](crate::Request::tileable).

use crate::request::job::Job;

/// A grid of rows and columns, and how wide the margin round it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Margin {
    grid: [usize; 2],
    /// Rows above and below, columns left and right.
    width: [usize; 2],
}

impl Margin {
    /// The margin of a job's images.
    pub(crate) fn of(job: &Job) -> Self {
        Self { grid: job.grid, width: job.margin }
    }

    /// No margin.
    pub(crate) fn none(grid: [usize; 2]) -> Self {
        Self { grid, width: [0; 2] }
    }

    /// Whether there is no margin.
    pub(crate) fn is_none(self) -> bool {
        self.width == [0; 2]
    }

    /// Rows and columns with the margin.
    pub(crate) fn outer(self) -> [usize; 2] {
        [0, 1].map(|axis| self.grid[axis] + 2 * self.width[axis])
    }

    /// The tokens of the grid and, in the margin, those that lie there when the grid goes on at its
    /// other side.
    pub(crate) fn wrap<T: Copy>(self, tokens: &[T]) -> Vec<T> {
        let [rows, columns] = self.outer();
        // One grid further, so that nothing is below 0 where the margin is the wider.
        let inner = |at: usize, axis: usize| {
            let (side, width) = (self.grid[axis], self.width[axis]);
            (at + width.next_multiple_of(side) - width) % side
        };
        let token = |row, column| tokens[inner(row, 0) * self.grid[1] + inner(column, 1)];
        (0..rows).flat_map(|row| (0..columns).map(move |column| token(row, column))).collect()
    }

    /// The position, in the outer grid, of a token of the grid. Positions keep their order.
    pub(crate) fn outer_position(self, position: usize) -> usize {
        let [row, column] =
            [position / self.grid[1] + self.width[0], position % self.grid[1] + self.width[1]];
        row * self.outer()[1] + column
    }

    /// Left, top, width and height of the grid itself, in an image of `size` pixels (width and
    /// height) of the outer grid.
    pub(crate) fn inner_area(self, [width, height]: [u32; 2]) -> [u32; 4] {
        let [rows, columns] = self.outer().map(|side| side.max(1) as u32);
        let (across, down) = (width / columns, height / rows); // pixels of a token
        let [[top, left], [height, width]] = [self.width, self.grid]
            .map(|[rows, columns]| [rows as u32 * down, columns as u32 * across]);
        [left, top, width, height]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_margin_is_what_lies_at_the_other_side() {
        let margin = Margin { grid: [2, 3], width: [1, 2] };
        let expected = [
            [5, 6, 4, 5, 6, 4, 5], //
            [2, 3, 1, 2, 3, 1, 2],
            [5, 6, 4, 5, 6, 4, 5],
            [2, 3, 1, 2, 3, 1, 2],
        ];
        assert_eq!(margin.outer(), [4, 7]);
        assert_eq!(margin.wrap(&[1, 2, 3, 4, 5, 6]), expected.concat());
    }

    proptest! {
        #[test]
        fn the_grid_itself_stays(
            rows in 1usize..6,
            columns in 1usize..6,
            above in 0usize..12,
            left in 0usize..12,
        ) {
            let margin = Margin { grid: [rows, columns], width: [above, left] };
            let tokens: Vec<_> = (0..rows * columns).collect();
            let wrapped = margin.wrap(&tokens);
            let [down, across] = margin.outer();
            prop_assert_eq!(wrapped.len(), down * across);
            let positions: Vec<_> = tokens.iter().map(|at| margin.outer_position(*at)).collect();
            prop_assert!(positions.is_sorted());
            prop_assert!(positions.iter().map(|at| wrapped[*at]).eq(tokens.iter().copied()));

            // An image of two pixels a token.
            let [x, y, width, height] = margin.inner_area([2 * across as u32, 2 * down as u32]);
            prop_assert_eq!([width, height], [2 * columns as u32, 2 * rows as u32]);
            let pixel = |x: u32, y: u32| wrapped[(y / 2) as usize * across + (x / 2) as usize];
            for (column, row) in
                (0..width).flat_map(|column| (0..height).map(move |row| (column, row)))
            {
                let token = (row / 2) as usize * columns + (column / 2) as usize;
                prop_assert_eq!(pixel(x + column, y + row), token);
            }
        }
    }
}
