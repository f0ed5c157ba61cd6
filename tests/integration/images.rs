//! Damaged images are errors, whatever is damaged. Here and not beside the reader, since a
//! changed size may take memory that the tests of memory there would see.

use std::{fs, io::Cursor};

use image::{ImageFormat, Rgb, RgbImage};
use pocketmuse::pixels;

#[test]
fn no_changed_byte_makes_reading_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    let image = RgbImage::from_fn(24, 16, |x, y| Rgb([(9 * x) as u8, (9 * y) as u8, 200]));
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Tiff,
        ImageFormat::Gif,
        ImageFormat::WebP,
    ] {
        let mut whole = Cursor::new(Vec::new());
        image.write_to(&mut whole, format).expect("encoded");
        let whole = whole.into_inner();
        let mut refused = 0;
        for at in (0..whole.len().min(400)).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs::write(&path, &bytes).expect("written");
            refused += usize::from(pixels::read(&path).is_err());
        }
        assert!(refused > 0, "{format:?}: the first bytes matter");
    }
}
