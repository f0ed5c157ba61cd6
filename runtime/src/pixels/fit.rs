//! Images of any size become images of the size asked for. Knows no model.

use image::{
    GrayImage, ImageBuffer, Pixel, RgbImage,
    imageops::{self, FilterType},
};

/// The part of an image that is used, and the size it is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    source: [u32; 2],
    target: [u32; 2],
}

impl Fit {
    /// The largest part in the middle of an image of `source` width and height that has the
    /// proportions of `target`.
    pub(crate) fn new(source: [u32; 2], target: [u32; 2]) -> Self {
        Self { source: source.map(|side| side.max(1)), target: target.map(|side| side.max(1)) }
    }

    /// That part of `image`, brought to the target size (Lanczos, 3 lobes). An image of that size
    /// stays as it is.
    pub(crate) fn image(&self, image: &RgbImage) -> RgbImage {
        self.bring(image, self.target)
    }

    /// The same part of a mask, brought to `size`. A mask of another size than the image is
    /// stretched over it.
    pub(crate) fn mask(&self, mask: &GrayImage, size: [u32; 2]) -> GrayImage {
        self.bring(mask, size)
    }

    fn bring<P: Pixel<Subpixel = u8> + 'static>(
        &self,
        image: &ImageBuffer<P, Vec<u8>>,
        [width, height]: [u32; 2],
    ) -> ImageBuffer<P, Vec<u8>> {
        let [x, y, columns, rows] = self.part([image.width(), image.height()]);
        let part = imageops::crop_imm(image, x, y, columns, rows);
        imageops::resize(&*part, width, height, FilterType::Lanczos3)
    }

    /// The part's left, top, width and height, in pixels of something of `size` that covers the
    /// source.
    fn part(&self, size: [u32; 2]) -> [u32; 4] {
        let [source, target] = [self.source, self.target].map(|sides| sides.map(u64::from));
        // The share of each side that is used, as a fraction: the whole of one and less of the
        // other.
        let (across, down) = (source[0] * target[1], source[1] * target[0]);
        let shares = [[down.min(across), across], [across.min(down), down]];
        let [[x, columns], [y, rows]] = [0, 1].map(|axis| {
            let ([part, whole], side) = (shares[axis], u64::from(size[axis].max(1)));
            let used = ((side * part + whole / 2) / whole).clamp(1, side);
            [(side - used) / 2, used].map(|value| u32::try_from(value).expect("at most a side"))
        });
        [x, y, columns, rows]
    }
}

#[cfg(test)]
mod tests {
    use image::{Luma, Rgb};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_middle_is_taken() {
        for (source, target, expected) in [
            ([128, 128], [128, 128], [0, 0, 128, 128]),
            ([400, 300], [64, 64], [50, 0, 300, 300]),
            ([300, 400], [64, 64], [0, 50, 300, 300]),
            ([100, 100], [64, 32], [0, 25, 100, 50]),
            ([1, 1], [512, 64], [0, 0, 1, 1]),
            ([65_535, 1], [32, 512], [32_767, 0, 1, 1]),
        ] {
            assert_eq!(Fit::new(source, target).part(source), expected, "{source:?} to {target:?}");
        }
    }

    #[test]
    fn the_right_size_is_left_alone() {
        let image = RgbImage::from_fn(32, 16, |x, y| Rgb([x as u8, y as u8, 3]));
        assert_eq!(Fit::new([32, 16], [32, 16]).image(&image), image);
    }

    #[test]
    fn a_mask_follows_its_picture() {
        // An image of 40 x 20 is cropped to its middle 20 x 20; a mask of 80 x 20 covers it all
        // the same.
        let mask = GrayImage::from_fn(80, 20, |x, _| Luma([if x < 40 { 255 } else { 0 }]));
        let fitted = Fit::new([40, 20], [10, 10]).mask(&mask, [2, 1]);
        assert!(fitted.as_raw()[0] > 200 && fitted.as_raw()[1] < 50, "{fitted:?}");
    }

    proptest! {
        #[test]
        fn every_part_lies_inside(
            source: [u32; 2],
            target in [1u32..5000, 1..5000],
            size in [1u32..70_000, 1..70_000],
        ) {
            let [x, y, columns, rows] = Fit::new(source, target).part(size);
            prop_assert!(columns > 0 && rows > 0 && x + columns <= size[0] && y + rows <= size[1]);
            prop_assert!(columns == size[0] || rows == size[1], "one side is used whole");
        }
    }
}
