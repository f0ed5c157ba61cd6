//! An image file in memory. Knows no disk.

use image::RgbImage;
use pocketmuse_package::{Error, ErrorKind, Result};

use super::Format;
use crate::Request;

/// What [`write`](super::write()) writes to a file of the format.
///
/// # Errors
///
/// `BadRequest` if the format cannot hold the image: a JPEG has at most 65,535 pixels along a side,
/// a WebP 16,383, and no image has none.
///
/// # Example
///
/// ```
/// use pocketmuse::{Request, pixels::{self, Format}};
///
/// let image = image::RgbImage::new(8, 8);
/// let png = pixels::to_bytes(&image, Format::Png, &Request::default(), &[])?;
/// assert!(png.starts_with(b"\x89PNG"));
/// # Ok::<(), pocketmuse::Error>(())
/// ```
pub fn to_bytes<'a>(
    image: &RgbImage,
    format: Format,
    request: impl Into<Option<&'a Request>>,
    notes: &[(&str, String)],
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    super::encode(image, format, request.into(), notes, &mut bytes).map_err(|error| {
        let (width, height) = image.dimensions();
        let detail = format!("expected a size that {format:?} can hold, found {width} x {height}");
        Error::new(ErrorKind::BadRequest, "image", detail).with_source(error)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bytes_are_those_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = RgbImage::from_fn(20, 10, |x, y| image::Rgb([12 * x as u8, 25 * y as u8, 128]));
        let request = Request { prompt: "a lighthouse".to_owned(), seed: 3, ..Request::default() };
        let notes = [("more", "text".to_owned())];
        for (name, format) in
            [("a.png", Format::Png), ("a.jpg", Format::Jpeg), ("a.webp", Format::Webp)]
        {
            let path = folder.path().join(name);
            super::super::write(&image, &path, &request, &notes).expect("written");
            let bytes = to_bytes(&image, format, &request, &notes).expect("encoded");
            assert!(bytes == fs::read(&path).expect("readable"), "{name}");
        }
    }

    #[test]
    fn a_size_that_a_format_cannot_hold_is_refused() {
        let cases = [
            (Format::Jpeg, 65_536, 1),
            (Format::Webp, 16_385, 1),
            (Format::Png, 0, 4),
            (Format::Jpeg, 0, 4),
            (Format::Webp, 4, 0),
        ];
        for (format, width, height) in cases {
            let image = RgbImage::new(width, height);
            let error = to_bytes(&image, format, &Request::default(), &[]).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{format:?} {width} x {height}");
            assert!(error.to_string().ends_with(&format!("found {width} x {height}")), "{error}");
        }
    }
}
