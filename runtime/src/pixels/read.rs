//! A picture file of any kind becomes plain colours and opacity, upright, within a bound on memory.
//! Knows no model.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::Path,
};

use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};
use pocketmuse_package::{Error, ErrorKind, Result};

/// The most bytes of a picture file.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// The most bytes of a picture's pixels as its file holds them, each counted as four bytes at
/// least, which it may become: 67 million.
pub const MAX_PIXEL_BYTES: u64 = 256 << 20;

/// A picture to start from, upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The colours, 8 bits each; what is transparent is laid on white.
    pub image: RgbImage,
    /// The opacity, 255 where opaque, if the file holds one.
    pub opacity: Option<GrayImage>,
}

/// Reads a picture: PNG, JPEG, WebP, GIF, BMP, PNM or TIFF, told by its contents, not by its name.
///
/// It is turned as its EXIF orientation says. Grey and CMYK become RGB, 16 bits become 8, and of an
/// animation the first picture is taken. Size is checked before anything is decoded.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is no picture, is cut short, or has more than
/// [`MAX_FILE_BYTES`] or [`MAX_PIXEL_BYTES`].
pub fn read(path: &Path) -> Result<Picture> {
    let image = decode(path)?;
    if !image.color().has_alpha() {
        return Ok(Picture { image: image.into_rgb8(), opacity: None });
    }
    let image = image.into_rgba8();
    let opacity = GrayImage::from_fn(image.width(), image.height(), |x, y| {
        image::Luma([image.get_pixel(x, y).0[3]])
    });
    let on_white = |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u32::from);
        image::Rgb(
            [red, green, blue]
                .map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8),
        )
    };
    Ok(Picture {
        image: RgbImage::from_fn(image.width(), image.height(), on_white),
        opacity: Some(opacity),
    })
}

/// Reads a mask, as [`read`] reads a picture: its brightness, 255 for white. Opacity has no effect.
///
/// # Errors
///
/// As for [`read`].
pub fn read_mask(path: &Path) -> Result<GrayImage> {
    Ok(decode(path)?.into_luma8())
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let wrong =
        |detail: String| Error::new(ErrorKind::BadInput, path.display().to_string(), detail);
    let failed = |error| match error {
        ImageError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::io(path, error)
        }
        error => wrong(format!("expected a picture, found: {error}")),
    };
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        let found = if metadata.is_file() {
            format!("{} bytes", metadata.len())
        } else {
            "no file".to_owned()
        };
        return Err(wrong(format!(
            "expected a picture file of at most {MAX_FILE_BYTES} bytes, found {found}"
        )));
    }
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(|e| Error::io(path, e))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(2 * MAX_PIXEL_BYTES);
    reader.limits(limits);
    let Some(format) = reader.format() else {
        return Err(wrong(
            "expected a PNG, JPEG, WebP, GIF, BMP, PNM or TIFF picture, found none of them"
                .to_owned(),
        ));
    };
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    let plain = (u64::from(width) * u64::from(height)).saturating_mul(4);
    if bytes.max(plain) > MAX_PIXEL_BYTES || bytes == 0 {
        let most = MAX_PIXEL_BYTES >> 20;
        return Err(wrong(format!(
            "expected pixels of at most {most} MiB, found {width} x {height} pixels"
        )));
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    if format == ImageFormat::Jpeg && !is_whole_jpeg(path)? {
        return Err(wrong("expected a whole JPEG, found one that is cut short".to_owned()));
    }
    image.apply_orientation(orientation);
    Ok(image)
}

/// Whether a JPEG's last scan has an end; the decoder makes up what is missing.
fn is_whole_jpeg(path: &Path) -> Result<bool> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    Ok(last([0xff, 0xd9]) > last([0xff, 0xda]))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageBuffer, Luma, Rgb, Rgba, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
    use tempfile::TempDir;

    use super::*;

    /// Left half red, right half blue, a green row at the top.
    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |x, y| match (x, y) {
            (_, 0..4) => Rgb([0, 200, 0]),
            (0..12, _) => Rgb([200, 0, 0]),
            _ => Rgb([0, 0, 200]),
        })
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("encoded");
        bytes.into_inner()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Picture> {
        let folder: TempDir = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("picture");
        fs::write(&path, bytes).expect("written");
        read(&path)
    }

    fn worst(a: &RgbImage, b: &RgbImage) -> u8 {
        assert_eq!(a.dimensions(), b.dimensions());
        a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    }

    #[test]
    fn reads_every_format_by_its_contents() {
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
        for (format, allowed) in
            [(Png, 0), (WebP, 0), (Bmp, 0), (Pnm, 0), (Tiff, 0), (Gif, 8), (Jpeg, 90)]
        {
            let read = read_bytes(&encoded(&picture().into(), format))
                .unwrap_or_else(|e| panic!("{format:?}: {e}"));
            assert!(worst(&read.image, &picture()) <= allowed, "{format:?}");
        }
    }

    #[test]
    fn every_depth_becomes_eight_bits_of_three_colours() {
        let deep = ImageBuffer::from_pixel(4, 4, Rgb([65535u16, 32896, 0]));
        let grey = ImageBuffer::from_pixel(4, 4, Luma([77u8]));
        let deep_grey = ImageBuffer::from_pixel(4, 4, Luma([257u16 * 9]));
        let cases: [(DynamicImage, [u8; 3]); 3] =
            [(deep.into(), [255, 128, 0]), (grey.into(), [77; 3]), (deep_grey.into(), [9; 3])];
        for (image, expected) in cases {
            let read = read_bytes(&encoded(&image, ImageFormat::Png)).expect("a picture");
            assert_eq!((read.image.get_pixel(3, 3).0, read.opacity), (expected, None));
        }
    }

    #[test]
    fn cmyk_becomes_rgb() {
        // PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), the right half (255, 0, 0, 0), bottom
        // left (0, 0, 0, 255)
        let read = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/cmyk.jpg"))
            .expect("a picture");
        for (x, y, expected) in [(3, 3, [255, 0, 0]), (12, 12, [0, 255, 255]), (3, 12, [0, 0, 0])] {
            let found = read.image.get_pixel(x, y).0;
            assert!(
                found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 8),
                "{x}, {y}: {found:?}"
            );
        }
        assert_eq!(read.opacity, None);
    }

    #[test]
    fn what_is_transparent_lies_on_white() {
        let image =
            ImageBuffer::from_fn(3, 1, |x, _| Rgba([200u8, 100, 0, [0, 255, 51][x as usize]]));
        let read = read_bytes(&encoded(&image.into(), ImageFormat::Png)).expect("a picture");
        assert_eq!(read.image.as_raw(), &[255, 255, 255, 200, 100, 0, 244, 224, 204]);
        assert_eq!(read.opacity.expect("in the file").as_raw(), &[0, 255, 51]);
    }

    /// An EXIF block with one entry, the orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        block
    }

    #[test]
    fn every_exif_orientation_stands_upright() {
        use image::ImageEncoder as _;
        let upright = DynamicImage::from(picture());
        let stored = [
            upright.clone(),
            upright.fliph(),
            upright.rotate180(),
            upright.flipv(),
            upright.rotate270().flipv(),
            upright.rotate270(),
            upright.rotate90().flipv(),
            upright.rotate90(),
        ];
        for (orientation, stored) in (1..).zip(stored) {
            let mut bytes = Vec::new();
            let mut encoder = PngEncoder::new(&mut bytes);
            encoder.set_exif_metadata(exif(orientation)).expect("PNG holds EXIF");
            let stored = stored.into_rgb8();
            encoder
                .write_image(
                    &stored,
                    stored.width(),
                    stored.height(),
                    image::ExtendedColorType::Rgb8,
                )
                .expect("encoded");
            assert_eq!(
                read_bytes(&bytes).expect("a picture").image,
                picture(),
                "orientation {orientation}"
            );
        }
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif(6)).expect("JPEG holds EXIF");
        encoder.encode_image(&upright.rotate270().into_rgb8()).expect("encoded");
        assert_eq!(
            read_bytes(&jpeg).expect("a picture").image.dimensions(),
            picture().dimensions()
        );
    }

    #[test]
    fn of_an_animation_the_first_picture_is_taken() {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for red in [250, 10] {
            let frame = ImageBuffer::from_pixel(8, 8, Rgba([red, 0, 0, 255]));
            encoder.encode_frame(image::Frame::new(frame)).expect("encoded");
        }
        drop(encoder);
        assert!(read_bytes(&bytes).expect("a picture").image.get_pixel(0, 0).0[0] > 200);
    }

    #[test]
    fn a_file_cut_short_is_refused() {
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
        let noisy = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([(x * y * 7 % 251) as u8, (x * 31 + y * 17) as u8, (x * x + y) as u8])
        });
        for format in [Png, Jpeg, WebP, Gif, Bmp, Pnm, Tiff] {
            let bytes = encoded(&noisy.clone().into(), format);
            for part in [1, 10, 50, 90] {
                let cut = &bytes[..bytes.len() * part / 100];
                let error =
                    read_bytes(cut).map(|_| ()).expect_err(&format!("{format:?} cut to {part}%"));
                assert_eq!(error.kind(), ErrorKind::BadInput, "{format:?}: {error}");
            }
        }
    }

    #[test]
    fn a_huge_picture_is_refused_before_it_is_decoded() {
        // The size stands in the header; 400 million pixels never come.
        let mut bytes = encoded(&picture().into(), ImageFormat::Bmp);
        for (at, side) in [(18, 20_000u32), (22, 20_000)] {
            bytes[at..at + 4].copy_from_slice(&side.to_le_bytes());
        }
        let error = read_bytes(&bytes).expect_err("huge");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.detail().contains("at most 256 MiB, found 20000 x 20000 pixels"), "{error}");
    }

    #[test]
    fn a_pixel_counts_as_four_bytes_at_least() {
        // 67 million pixels of one byte or bit would be as many of three once they are plain
        // colours.
        for (header, expected) in [
            ("P5 8192 8192 255\n", "expected a picture, found"), // none of them there
            ("P5 8193 8192 255\n", "expected pixels of at most 256 MiB, found 8193 x 8192 pixels"),
            ("P4 8192 8193\n", "expected pixels of at most 256 MiB, found 8192 x 8193 pixels"),
        ] {
            let error = read_bytes(header.as_bytes()).expect_err(header);
            assert!(error.detail().starts_with(expected), "{header}: {error}");
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bytes in [&b""[..], b"text", b"%PDF-1.7", &[0; 100]] {
            let error = read_bytes(bytes).expect_err("no picture");
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.detail().starts_with("expected a PNG, JPEG"), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(folder.path()).expect_err("a folder").kind(), ErrorKind::BadInput);
        assert_eq!(read(&folder.path().join("none")).expect_err("missing").kind(), ErrorKind::Io);
    }

    #[test]
    fn a_mask_is_its_brightness() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mask.png");
        ImageBuffer::from_fn(2, 1, |x, _| Rgb([255u8 * x as u8; 3])).save(&path).expect("written");
        assert_eq!(read_mask(&path).expect("a mask").as_raw(), &[0, 255]);
    }
}
