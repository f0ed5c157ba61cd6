//! An image and what is added around it, as plain arithmetic on sides: how large both are together,
//! where the image lies, and what more makes whole tokens. Knows no pixel.

/// An image with pixels added at its left, top, right and bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    image: [u32; 2],
    added: [u32; 4],
}

impl Extension {
    /// `None` if a side has more than `most` pixels, or none.
    pub(crate) fn new(image: [u32; 2], added: [u32; 4], most: u32) -> Option<Self> {
        let fits = |axis: usize| {
            let parts = [added[axis], image[axis], added[axis + 2]];
            let side: u64 = parts.into_iter().map(u64::from).sum();
            image[axis] > 0 && side <= u64::from(most)
        };
        (fits(0) && fits(1)).then_some(Self { image, added })
    }

    /// Width and height of the whole.
    pub(crate) fn size(&self) -> [u32; 2] {
        [0, 1].map(|axis| self.added[axis] + self.image[axis] + self.added[axis + 2])
    }

    /// The image's left and top.
    pub(crate) fn corner(&self) -> [u32; 2] {
        [self.added[0], self.added[1]]
    }

    /// The image's width and height.
    pub(crate) fn image(&self) -> [u32; 2] {
        self.image
    }

    /// What is added at the left, the top, the right and the bottom.
    pub(crate) fn added(&self) -> [u32; 4] {
        self.added
    }

    /// The sides that have to be added besides, so that width and height are multiples of `unit`.
    ///
    /// They go where pixels are added anyway, half to each side if that is both, and else to the
    /// right and the bottom.
    pub(crate) fn missing(&self, unit: u32) -> [u32; 4] {
        let mut missing = [0; 4];
        for (axis, side) in self.size().into_iter().enumerate() {
            let more = side.next_multiple_of(unit.max(1)) - side;
            let before = match (self.added[axis], self.added[axis + 2]) {
                (0, _) => 0,
                (_, 0) => more,
                _ => more / 2,
            };
            (missing[axis], missing[axis + 2]) = (before, more - before);
        }
        missing
    }

    /// With what is missing so that width and height are multiples of `unit`.
    pub(crate) fn whole(&self, unit: u32) -> Self {
        self.grown(self.missing(unit))
    }

    /// With more at the sides.
    pub(crate) fn grown(&self, more: [u32; 4]) -> Self {
        let added = std::array::from_fn(|side| self.added[side] + more[side]);
        Self { image: self.image, added }
    }

    /// Whether a square of `side` pixels, so many squares from the left and the top, holds a pixel
    /// that was added.
    pub(crate) fn is_added_in(&self, [column, row]: [u32; 2], side: u32) -> bool {
        let inside = |axis: usize, at: u32| {
            let first = self.corner()[axis];
            at * side >= first && (at + 1) * side <= first + self.image[axis]
        };
        !(inside(0, column) && inside(1, row))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: u32 = 4096;

    #[test]
    fn what_is_missing_goes_where_pixels_are_added() {
        for (image, added, missing) in [
            ([128, 128], [0, 0, 10, 0], [0, 0, 6, 0]),
            ([128, 128], [0, 0, 20, 0], [0, 0, 12, 0]),
            ([128, 128], [4, 0, 0, 0], [12, 0, 0, 0]),
            ([128, 128], [0, 3, 0, 0], [0, 13, 0, 0]),
            ([128, 128], [5, 0, 6, 0], [2, 0, 3, 0]),
            ([128, 128], [64, 64, 64, 64], [0; 4]),
            ([100, 30], [12, 0, 0, 0], [0, 0, 0, 2]),
            ([1, 1], [0, 0, 1, 0], [0, 0, 14, 15]),
        ] {
            let extension = Extension::new(image, added, MOST).expect("small");
            assert_eq!(extension.missing(16), missing, "{image:?}, {added:?}");
        }
    }

    #[test]
    fn what_is_too_large_or_nothing_is_none() {
        for (image, added) in [
            ([0, 5], [1; 4]),
            ([5, 0], [1; 4]),
            ([4096, 1], [1, 0, 0, 0]),
            ([1, 1], [u32::MAX; 4]),
            ([u32::MAX; 2], [u32::MAX; 4]),
        ] {
            assert_eq!(Extension::new(image, added, MOST), None);
        }
    }

    proptest! {
        #[test]
        fn every_pixel_of_the_image_is_in_whole_tokens(
            image in [1u32..2000, 1..2000],
            added in [0u32..500, 0..500, 0..500, 0..500],
            unit in 1u32..65,
        ) {
            let extension = Extension::new(image, added, MOST).expect("small");
            let (missing, whole) = (extension.missing(unit), extension.whole(unit));
            prop_assert_eq!(whole.image(), image);
            for axis in 0..2 {
                let (side, asked) = (whole.size()[axis], extension.size()[axis]);
                prop_assert!(side % unit == 0 && (asked..asked + unit).contains(&side));
                prop_assert!(whole.corner()[axis] >= extension.corner()[axis]);
                prop_assert!(whole.corner()[axis] + image[axis] <= side);
                // The side that does not grow keeps the image at the edge.
                if added[axis] == 0 {
                    prop_assert_eq!(missing[axis], 0);
                }
                if added[axis] > 0 && added[axis + 2] == 0 {
                    prop_assert_eq!(missing[axis + 2], 0);
                }
            }
        }

        #[test]
        fn a_square_of_the_image_alone_has_nothing_added(
            image in [1u32..60, 1..60],
            added in [0u32..30, 0..30, 0..30, 0..30],
            side in 1u32..17,
            at in [0u32..8, 0..8],
        ) {
            let extension = Extension::new(image, added, MOST).expect("small");
            let is_image = |axis: usize, pixel: u32| {
                (extension.corner()[axis]..extension.corner()[axis] + image[axis]).contains(&pixel)
            };
            let square = |axis: usize| at[axis] * side..(at[axis] + 1) * side;
            let of_image = |axis: usize| square(axis).all(|pixel| is_image(axis, pixel));
            prop_assert_eq!(extension.is_added_in(at, side), !(of_image(0) && of_image(1)));
        }
    }
}
