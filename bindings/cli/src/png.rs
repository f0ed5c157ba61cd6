//! An image as the bytes of a PNG, for files and pages that hold nothing else of it.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

/// The bytes.
pub(crate) fn encode(image: &RgbImage) -> Vec<u8> {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).expect("an image in memory always encodes");
    png.into_inner()
}
