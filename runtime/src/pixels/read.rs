//! Image files become plain sRGB colours and opacity, upright, in bounded memory. Knows no model.

use std::{
    io::Cursor,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};
use pocketmuse_package::{Error, ErrorKind, Result};

use super::{
    colour::Colours,
    inks,
    limits::{self, Claim, MAX_PIXEL_BYTES},
    metadata::{self, End, Metadata},
    opacity,
};

/// Said of an image or a bitmap mask whose alpha is 0 everywhere.
const NO_OPACITY: &str = "no pixel of the image is opaque: its alpha is ignored";

/// An image to start from, upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The colours in sRGB, 8 bits each; what is transparent is laid on white.
    pub image: RgbImage,
    /// The opacity, 255 where opaque, if the file holds one.
    pub opacity: Option<GrayImage>,
    /// What people should know, a sentence each: a damaged colour profile, say.
    pub warnings: Vec<String>,
}

/// What is to be repainted, upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Its brightness: 255 for white. What is transparent is laid on black.
    pub image: GrayImage,
    /// As of an [`Image`].
    pub warnings: Vec<String>,
}

/// Reads an image: PNG, JPEG, WebP, GIF, BMP, PNM or (with the feature `tiff`) TIFF, told by its
/// contents, not by its name.
///
/// It is turned as its EXIF orientation says, and colours with a profile become sRGB. Grey and CMYK
/// become RGB, 16 bits 8. Of an animation the first image is taken, of a JPEG nothing behind its
/// end. Size is checked before anything is decoded.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is no image, is cut short, claims more pixels
/// than it can hold, or has more than [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES) or
/// [`MAX_PIXEL_BYTES`].
pub fn read(path: &Path) -> Result<Image> {
    read_within(path, u64::MAX)
}

/// As [`read`], holding at most `most_bytes` of memory.
///
/// # Errors
///
/// As for [`read`]; `NotEnoughMemory` too, before anything is decoded.
pub fn read_within(path: &Path, most_bytes: u64) -> Result<Image> {
    let bytes = limits::read_file(path, most_bytes)?;
    from_bytes(bytes, most_bytes).map_err(|error| error.within(path.display()))
}

/// As [`read_within`], from what a file holds.
///
/// # Errors
///
/// As for [`read_within`], but for `Io`.
pub fn from_bytes(bytes: Vec<u8>, most_bytes: u64) -> Result<Image> {
    let Decoded { image, mut warnings, .. } = decode(bytes, most_bytes)?;
    let (image, opacity, is_empty) = opacity::on_white(image);
    warnings.extend(is_empty.then(|| NO_OPACITY.to_owned()));
    Ok(Image { image, opacity, warnings })
}

/// Reads a mask, as [`read`] reads an image.
///
/// # Errors
///
/// As for [`read`].
pub fn read_mask(path: &Path) -> Result<Mask> {
    read_mask_within(path, u64::MAX)
}

/// As [`read_mask`], holding at most `most_bytes` of memory.
///
/// # Errors
///
/// As for [`read_within`].
pub fn read_mask_within(path: &Path, most_bytes: u64) -> Result<Mask> {
    let bytes = limits::read_file(path, most_bytes)?;
    mask_from_bytes(bytes, most_bytes).map_err(|error| error.within(path.display()))
}

/// As [`read_mask_within`], from what a file holds.
///
/// # Errors
///
/// As for [`from_bytes`].
pub fn mask_from_bytes(bytes: Vec<u8>, most_bytes: u64) -> Result<Mask> {
    let Decoded { image, format, mut warnings } = decode(bytes, most_bytes)?;
    // Programs that write bitmaps often leave their alpha at 0.
    let (image, is_empty) = opacity::on_black(image, format == ImageFormat::Bmp);
    warnings.extend(is_empty.then(|| NO_OPACITY.to_owned()));
    Ok(Mask { image, warnings })
}

struct Decoded {
    image: DynamicImage,
    format: ImageFormat,
    warnings: Vec<String>,
}

fn wrong(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadInput, "", detail)
}

fn failed(error: impl std::fmt::Display) -> Error {
    wrong(format!("expected an image, found: {error}"))
}

/// Libraries that decode may panic at what they did not expect: that is an error, too.
fn decode(bytes: Vec<u8>, most_bytes: u64) -> Result<Decoded> {
    panic::catch_unwind(AssertUnwindSafe(|| decode_trusting(bytes, most_bytes)))
        .unwrap_or_else(|_| Err(wrong("expected an image, found one that breaks its decoder")))
}

fn decode_trusting(mut bytes: Vec<u8>, most_bytes: u64) -> Result<Decoded> {
    let guessed = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(failed)?;
    let Some(format) = guessed.format().filter(ImageFormat::reading_enabled) else {
        let rest = if cfg!(feature = "tiff") { ", PNM or TIFF" } else { " or PNM" };
        let formats = format!("PNG, JPEG, WebP, GIF, BMP{rest}");
        return Err(wrong(format!("expected a {formats} image, found none of them")));
    };
    let metadata = metadata::take(format, &mut bytes).map_err(wrong)?;
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    reader.limits(limits_of(2 * MAX_PIXEL_BYTES));
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let claim = Claim {
        size: decoder.dimensions().into(),
        part: metadata.part,
        decoded_bytes: decoder.total_bytes(),
        file_bytes: bytes.len() as u64,
        pixels_per_byte: metadata.pixels_per_byte,
        scratch_per_pixel: metadata.scratch_per_pixel,
    };
    claim.check(most_bytes)?;
    decoder.set_limits(limits_of(claim.decoder_bytes())).map_err(failed)?;
    let orientation =
        metadata.orientation.map_or_else(|| decoder.orientation(), Ok).map_err(failed)?;
    let (colours, mut warnings) = colours(&metadata);
    warnings.splice(0..0, metadata.warnings);

    let inks = colours.as_ref().filter(|colours| colours.are_inks());
    let mixed = inks.map(|colours| mix(colours, format, &bytes, &claim)).transpose()?.flatten();
    if inks.is_some() && mixed.is_none() {
        warnings.push(ignored("expected an image of four inks, found another"));
    }
    let mut image = match mixed {
        Some(image) => {
            drop(decoder);
            image
        }
        None => pixels(decoder)?,
    };
    let is_cut_short = match metadata.end {
        Some(End::TooEarly) => true,
        Some(End::WithFile) => !inks::is_whole_jpeg(&bytes),
        Some(End::Marked) | None => false,
    };
    if is_cut_short {
        return Err(wrong("expected a whole JPEG, found one that is cut short"));
    }
    drop(bytes);
    if let Some(colours) = colours.filter(|colours| !colours.are_inks()) {
        image = colours.to_srgb(image).unwrap_or_else(|(image, why)| {
            warnings.push(ignored(&why));
            image
        });
    }
    image.apply_orientation(orientation);
    Ok(Decoded { image, format, warnings })
}

fn limits_of(most_bytes: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(most_bytes);
    limits
}

fn pixels(decoder: impl ImageDecoder) -> Result<DynamicImage> {
    DynamicImage::from_decoder(decoder).map_err(|error| match error {
        ImageError::Limits(_) => wrong("expected an image, found one that needs too much memory"),
        error => failed(error),
    })
}

fn ignored(why: &str) -> String {
    format!("the image's colour profile is ignored: {why}")
}

/// The colours of an image that says so: by `cICP`, which goes before a profile. What cannot be
/// used is ignored with a warning.
fn colours(metadata: &Metadata) -> (Option<Colours>, Vec<String>) {
    let mut warnings = Vec::new();
    if let Some(cicp) = metadata.cicp {
        match Colours::of_cicp(cicp) {
            Ok(colours) => return (Some(colours), warnings),
            Err(why) => warnings.push(format!("the image's cICP is ignored: {why}")),
        }
    }
    let colours = metadata.profile.as_ref().and_then(|profile| {
        Colours::of_profile(profile).map_err(|why| warnings.push(ignored(&why))).ok()
    });
    (colours, warnings)
}

/// An image of four inks, mixed as its profile says; `None` if it has other colours.
fn mix(
    colours: &Colours,
    format: ImageFormat,
    bytes: &[u8],
    claim: &Claim,
) -> Result<Option<DynamicImage>> {
    let most = usize::try_from(claim.decoder_bytes()).unwrap_or(usize::MAX);
    let Some(inks) = inks::read(format, bytes, most).map_err(failed)? else { return Ok(None) };
    let rgb = colours.mix_inks(&inks).map_err(failed)?;
    let [width, height] = claim.size;
    let image = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| wrong("expected an image, found another number of pixels than it says"))?;
    Ok(Some(image.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{ImageBuffer, Luma, Rgb, Rgba, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
    use tempfile::TempDir;

    use super::*;

    /// Left half red, right half blue, a green row at the top.
    fn sample() -> RgbImage {
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

    fn read_bytes(bytes: &[u8]) -> Result<Image> {
        let folder: TempDir = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("image");
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
            let read = read_bytes(&encoded(&sample().into(), format))
                .unwrap_or_else(|e| panic!("{format:?}: {e}"));
            assert!(worst(&read.image, &sample()) <= allowed, "{format:?}");
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
            let read = read_bytes(&encoded(&image, ImageFormat::Png)).expect("an image");
            assert_eq!((read.image.get_pixel(3, 3).0, read.opacity), (expected, None));
        }
    }

    #[test]
    fn cmyk_becomes_rgb() {
        // PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), the right half (255, 0, 0, 0), bottom
        // left (0, 0, 0, 255)
        let read = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/cmyk.jpg"))
            .expect("an image");
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
        let read = read_bytes(&encoded(&image.into(), ImageFormat::Png)).expect("an image");
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
        let upright = DynamicImage::from(sample());
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
                read_bytes(&bytes).expect("an image").image,
                sample(),
                "orientation {orientation}"
            );
        }
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 100);
        encoder.set_exif_metadata(exif(6)).expect("JPEG holds EXIF");
        encoder.encode_image(&upright.rotate270().into_rgb8()).expect("encoded");
        assert_eq!(read_bytes(&jpeg).expect("an image").image.dimensions(), sample().dimensions());
    }

    #[test]
    fn of_an_animation_the_first_image_is_taken() {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for red in [250, 10] {
            let frame = ImageBuffer::from_pixel(8, 8, Rgba([red, 0, 0, 255]));
            encoder.encode_frame(image::Frame::new(frame)).expect("encoded");
        }
        drop(encoder);
        assert!(read_bytes(&bytes).expect("an image").image.get_pixel(0, 0).0[0] > 200);
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
    fn a_huge_image_is_refused_before_it_is_decoded() {
        // The size stands in the header; 400 million pixels never come.
        let mut bytes = encoded(&sample().into(), ImageFormat::Bmp);
        for (at, side) in [(18, 20_000u32), (22, 20_000)] {
            bytes[at..at + 4].copy_from_slice(&side.to_le_bytes());
        }
        let error = read_bytes(&bytes).expect_err("huge");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.detail().contains("at most 268 MB, found 20000 x 20000 pixels"), "{error}");
    }

    #[test]
    fn a_pixel_counts_as_four_bytes_at_least() {
        // 67 million pixels of one byte or bit would be as many of three once they are plain
        // colours.
        for (header, expected) in [
            ("P5 8192 8192 255\n", "expected an image, found"), // none of them there
            ("P5 8193 8192 255\n", "expected pixels of at most 268 MB, found 8193 x 8192 pixels"),
            ("P4 8192 8193\n", "expected pixels of at most 268 MB, found 8192 x 8193 pixels"),
        ] {
            let error = read_bytes(header.as_bytes()).expect_err(header);
            assert!(error.detail().starts_with(expected), "{header}: {error}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for bytes in [&b""[..], b"text", b"%PDF-1.7", &[0; 100]] {
            let error = read_bytes(bytes).expect_err("no image");
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.detail().starts_with("expected a PNG, JPEG"), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(folder.path()).expect_err("a folder").kind(), ErrorKind::BadInput);
        let missing = read(&folder.path().join("none")).expect_err("missing");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_mask_is_its_brightness() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mask.png");
        ImageBuffer::from_fn(2, 1, |x, _| Rgb([255u8 * x as u8; 3])).save(&path).expect("written");
        assert_eq!(read_mask(&path).expect("a mask").image.as_raw(), &[0, 255]);
    }
}
