//! An image becomes a file or its bytes, with what is said of it beside the pixels. Knows no
//! network.

use std::{
    io::{self, Write},
    path::Path,
};

use image::{ImageEncoder, ImageError, RgbImage, codecs::jpeg::JpegEncoder};
use image_webp::{ColorType, EncodingError, WebPEncoder};
use pocketmuse_package::{Error, ErrorKind, Result, files};

use super::{Format, KEYWORD, check_destination, exif, metadata::jpeg, xmp};
use crate::Request;

/// JPEG's quality, 1 to 100.
const JPEG_QUALITY: u8 = 95;

/// Writes an image in the format of the path's ending. The file holds the request, too, unless that
/// is `None`, and `notes`: text under keywords of the caller's own, 1 to 79 Latin-1 characters.
/// Other programs read the note [`PARAMETERS`](super::PARAMETERS).
///
/// A PNG has a chunk of text for each. A JPEG and a WebP have an EXIF block and an XMP packet: the
/// note `PARAMETERS` is EXIF's user's comment and XMP's description, the maker's note and
/// `pocketmuse:notes` hold the others. A JPEG has room for 65,502 bytes of each: if they do not
/// fit, `PARAMETERS` is left out, and if that is not enough, all are.
///
/// It is written beside its place under another name and moved there when it is whole, in place of
/// what was there.
///
/// # Errors
///
/// `BadRequest` for an unknown ending; `Io` if the folder does not exist or cannot be written to,
/// or the disk is full.
pub fn write<'a>(
    image: &RgbImage,
    path: &Path,
    request: impl Into<Option<&'a Request>>,
    notes: &[(&str, String)],
) -> Result<()> {
    let (format, request) = (check_destination(path)?, request.into());
    files::write(path, |out| encode(image, format, request, notes, out))
}

/// What [`write()`] writes to a file of the format.
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
    encode(image, format, request.into(), notes, &mut bytes).map_err(|error| {
        let (width, height) = image.dimensions();
        let detail = format!("expected a size that {format:?} can hold, found {width} x {height}");
        Error::new(ErrorKind::BadRequest, "image", detail).with_source(error)
    })?;
    Ok(bytes)
}

pub(super) fn encode(
    image: &RgbImage,
    format: Format,
    request: Option<&Request>,
    notes: &[(&str, String)],
    writer: &mut impl Write,
) -> io::Result<()> {
    let json = request
        .map(|request| serde_json::to_string(request).expect("plain data always serializes"));
    let notes = notes.iter().map(|(keyword, text)| (*keyword, text.as_str()));
    let notes: Vec<_> = json.iter().map(|json| (KEYWORD, json.as_str())).chain(notes).collect();
    match format {
        Format::Png => encode_png(image, &notes, writer).map_err(|error| match error {
            png::EncodingError::IoError(error) => error,
            error => io::Error::other(error),
        }),
        Format::Jpeg => encode_jpeg(image, &notes, writer).map_err(|error| match error {
            ImageError::IoError(error) => error,
            error => io::Error::other(error),
        }),
        Format::Webp => encode_webp(image, &notes, writer).map_err(|error| match error {
            EncodingError::IoError(error) => error,
            error => io::Error::other(error),
        }),
    }
}

fn encode_png(
    image: &RgbImage,
    notes: &[(&str, &str)],
    writer: &mut impl Write,
) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(writer, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in notes {
        encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()
}

fn encode_jpeg(
    image: &RgbImage,
    notes: &[(&str, &str)],
    writer: &mut impl Write,
) -> Result<(), ImageError> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    if let Some(block) = exif::block(notes, exif::MAX_JPEG_BYTES) {
        encoder.set_exif_metadata(block).map_err(ImageError::Unsupported)?;
    }
    image.write_with_encoder(encoder)?;
    if let Some(packet) = xmp::packet(notes, xmp::MAX_JPEG_BYTES) {
        jpeg::put_xmp(&mut bytes, &packet);
    }
    writer.write_all(&bytes).map_err(ImageError::IoError)
}

fn encode_webp(
    image: &RgbImage,
    notes: &[(&str, &str)],
    writer: &mut impl Write,
) -> Result<(), EncodingError> {
    let mut encoder = WebPEncoder::new(writer);
    if let Some(block) = exif::block(notes, exif::MAX_WEBP_BYTES) {
        encoder.set_exif_metadata(block);
    }
    if let Some(packet) = xmp::packet(notes, exif::MAX_WEBP_BYTES) {
        encoder.set_xmp_metadata(packet.into_bytes());
    }
    encoder.encode(image.as_raw(), image.width(), image.height(), ColorType::Rgb8)
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
            write(&image, &path, &request, &notes).expect("written");
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
