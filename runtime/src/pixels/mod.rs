//! Pixels become an image file, and the request that made it is read back; images to edit are
//! read and fitted. The only module that decodes or encodes: elsewhere `image` is but a name for
//! pixels. Knows no network.

mod animation;
mod colour;
mod container;
mod encode;
mod ending;
mod exif;
mod fit;
mod inks;
mod limits;
mod metadata;
mod opacity;
mod paste;
pub(crate) mod preview;
mod read;
mod rgba;
mod text;
mod xmp;

use std::path::Path;

use image::RgbImage;
use pocketmuse_package::{Error, ErrorKind, Result, files};

pub use animation::Animation;
pub use encode::{to_bytes, write};
pub use exif::PARAMETERS;
pub(crate) use fit::Fit;
pub use limits::{MAX_FILE_BYTES, MAX_PIXEL_BYTES};
pub(crate) use paste::{REPAINT, paste, paste_inside};
pub use read::{
    Image, Mask, from_bytes, mask_from_bytes, read, read_mask, read_mask_within, read_within,
};
pub use rgba::{Alpha, Rgba, gray, write_rgba};
pub use text::{note_in, read_note, read_request};

use self::ending::{ending, other_ending};

/// The keyword of the note that holds the request as JSON.
pub const KEYWORD: &str = "pocketmuse";

/// The kinds of image files that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `.png`, exact.
    Png,
    /// `.jpg`, `.jpeg`.
    Jpeg,
    /// `.webp`, exact.
    Webp,
}

impl Format {
    /// The format that a file's ending asks for, in upper or lower case.
    ///
    /// # Errors
    ///
    /// `BadRequest` if the ending is none of them.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = ending(path);
        match ending.as_str() {
            "png" => Ok(Self::Png),
            "jpg" | "jpeg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::Webp),
            _ => Err(other_ending(path, &ending, ".png, .jpg, .jpeg or .webp")),
        }
    }
}

/// Turns `[1, 3, height, width]` pixels, 0 to 1 and row-major, into an image: what lies outside is
/// clipped, then `255 x` is rounded to the nearest integer, half to even.
///
/// # Errors
///
/// `EngineFailed` if there are too few or too many pixels or one is NaN.
///
/// # Example
///
/// ```
/// let image = pocketmuse::pixels::to_image(&[-1.0, 0.5, 1.0], 1, 1)?;
/// assert_eq!(image.get_pixel(0, 0).0, [0, 128, 255]);
/// # Ok::<(), pocketmuse::Error>(())
/// ```
pub fn to_image(pixels: &[f32], height: usize, width: usize) -> Result<RgbImage> {
    let wrong = |detail| Error::new(ErrorKind::EngineFailed, "pixels", detail);
    let plane = height
        .checked_mul(width)
        .filter(|plane| *plane > 0 && plane.checked_mul(3) == Some(pixels.len()));
    let (Some(plane), Ok(rows), Ok(columns)) = (plane, u32::try_from(height), u32::try_from(width))
    else {
        return Err(wrong(format!(
            "expected [1, 3, {height}, {width}], found {} numbers",
            pixels.len()
        )));
    };
    if let Some(index) = pixels.iter().position(|value| value.is_nan()) {
        let (y, x) = (index % plane / width, index % width);
        return Err(wrong(format!("expected numbers, found NaN at row {y}, column {x}")));
    }
    let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0)).round_ties_even() as u8;
    let mut bytes = vec![0; 3 * plane];
    for (channel, plane) in pixels.chunks_exact(plane).enumerate() {
        for (index, value) in plane.iter().enumerate() {
            bytes[3 * index + channel] = byte(*value); // CHW => HWC
        }
    }
    Ok(RgbImage::from_raw(columns, rows, bytes).expect("three bytes for every pixel"))
}

/// Checks early what [`write()`] needs: a known ending, and a folder that exists.
///
/// # Errors
///
/// `BadRequest` for the ending, `Io` for the folder.
pub fn check_destination(path: &Path) -> Result<Format> {
    let format = Format::of(path)?;
    let folder = files::parent(path);
    if !folder.is_dir() {
        let (kind, detail) = if folder.exists() {
            (ErrorKind::Io, "expected a folder, found a file")
        } else {
            (ErrorKind::NotFound, "the folder does not exist")
        };
        return Err(Error::new(kind, folder.display().to_string(), detail));
    }
    Ok(format)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Request, RngKind, Temperature};

    fn request() -> Request {
        Request {
            prompt: "a \"red\" Leuchtturm \u{1F680} \n\0".to_owned(),
            guidance_scale: Some(1.5),
            temperature: Some(Temperature::Range([0.7, 0.0])),
            seed: u64::MAX,
            rng: RngKind::Torch,
            ..Request::default()
        }
    }

    fn sample() -> RgbImage {
        RgbImage::from_fn(20, 10, |x, y| image::Rgb([12 * x as u8, 25 * y as u8, 128]))
    }

    #[test]
    fn pixels_are_clipped_and_rounded_half_to_even() {
        let half = |n: f32| (n + 0.5) / 255.0;
        for (value, expected) in [
            (-0.1, 0),
            (1.1, 255),
            (f32::INFINITY, 255),
            (f32::NEG_INFINITY, 0),
            (half(0.0), 0),
            (half(2.0), 2),
            (half(127.0), 128),
            (0.999, 255),
        ] {
            let image = to_image(&[value; 3], 1, 1).expect("one pixel");
            assert_eq!(image.as_raw(), &[expected; 3], "{value}");
        }
    }

    #[test]
    fn planes_become_rows_of_pixels() {
        let pixels: Vec<_> = (0..18).map(|value| value as f32 / 255.0).collect();
        let image = to_image(&pixels, 2, 3).expect("six pixels");
        assert_eq!((image.width(), image.height()), (3, 2));
        assert_eq!(image.get_pixel(2, 1).0, [5, 11, 17]);
    }

    #[test]
    fn refuses_what_is_no_picture() {
        for (pixels, height, width, expected) in [
            (vec![0.0; 5], 1, 2, "pixels: expected [1, 3, 1, 2], found 5 numbers"),
            (vec![], 0, 0, "pixels: expected [1, 3, 0, 0], found 0 numbers"),
            (
                vec![],
                usize::MAX,
                2,
                "pixels: expected [1, 3, 18446744073709551615, 2], found 0 numbers",
            ),
            (
                vec![0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0],
                2,
                1,
                "pixels: expected numbers, found NaN at row 1, column 0",
            ),
        ] {
            assert_eq!(to_image(&pixels, height, width).expect_err(expected).to_string(), expected);
        }
    }

    #[test]
    fn exact_formats_keep_every_byte() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.png", "a.WEBP", "a.jpg", "a.jpeg"] {
            let path = folder.path().join(name);
            write(&sample(), &path, &request(), &[]).expect(name);
            let read = image::open(&path).expect(name).into_rgb8();
            let worst =
                read.as_raw().iter().zip(sample().as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(
                worst <= Some(if name.starts_with("a.j") { 40 } else { 0 }),
                "{name}: {worst:?}"
            );
        }
        let names = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(names, 4, "nothing else is left");
    }

    #[test]
    fn a_file_holds_its_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let notes = [(PARAMETERS, "Prompt \u{1F680}".to_owned()), ("own", String::new())];
        for name in ["a.png", "a.jpg", "a.webp"] {
            let path = folder.path().join(name);
            fs::write(&path, "replaced").expect("written");
            write(&sample(), &path, &request(), &notes).expect("written");
            assert_eq!(read_request(&path).expect("inside"), request());
            for (keyword, text) in &notes {
                assert_eq!(read_note(&path, keyword).expect("whole").as_ref(), Some(text));
            }
            assert_eq!(read_note(&path, "none").expect("whole"), None);
            write(&sample(), &path, None, &[]).expect("written");
            let error = read_request(&path).expect_err("none").to_string();
            assert!(error.ends_with("found no request in it"), "{error}");
            let bytes = fs::read(&path).expect("written");
            let is_beside =
                |four: &[u8]| matches!(four, b"tEXt" | b"iTXt" | b"zTXt" | b"Exif" | b"EXIF");
            assert!(!bytes.windows(4).any(is_beside), "{name}");
        }
    }

    #[test]
    fn a_jpeg_holds_pixels_whatever_is_said_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jpg");
        for (length, is_there) in [(60_000, true), (70_000, false)] {
            let request = Request::new("a".repeat(length));
            let notes = [(PARAMETERS, request.prompt.clone())];
            write(&sample(), &path, &request, &notes).expect("written");
            assert_eq!(read_request(&path).is_ok(), is_there);
            assert_eq!(read_note(&path, PARAMETERS).expect("whole"), None);
            image::open(&path).expect("an image");
        }
    }

    #[test]
    fn says_why_there_is_no_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        write(&sample(), &path, &request(), &[]).expect("written");
        let whole = fs::read(&path).expect("written");
        let plain = folder.path().join("plain.png");
        sample().save(&plain).expect("written");
        let cases = [
            (
                fs::read(&plain).expect("written"),
                "expected an image made by pocketmuse, found no request in it",
            ),
            (b"GIF89a".to_vec(), "expected a PNG, JPEG or WebP, found"),
            (vec![], "expected a PNG, JPEG or WebP, found"),
            (whole[..60].to_vec(), "expected a PNG, found"),
        ];
        for (bytes, expected) in cases {
            fs::write(&path, &bytes).expect("written");
            let error = read_request(&path).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.detail().starts_with(expected), "expected {expected}, found {error}");
        }
        assert_eq!(read_request(folder.path()).expect_err("a folder").kind(), ErrorKind::BadInput);
        assert_eq!(
            read_request(&folder.path().join("none")).expect_err("missing").kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn no_changed_byte_makes_it_panic() {
        for format in [Format::Png, Format::Jpeg, Format::Webp] {
            let whole = to_bytes(&sample(), format, &request(), &[]).expect("encoded");
            for at in 0..whole.len().min(800) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x55;
                let _ = note_in(&bytes, KEYWORD);
            }
        }
    }

    #[test]
    fn says_why_a_picture_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("written");
        for (name, kind, expected) in [
            (
                "a.gif",
                ErrorKind::BadRequest,
                "expected a file ending in .png, .jpg, .jpeg or .webp, found .gif",
            ),
            (
                "a",
                ErrorKind::BadRequest,
                "expected a file ending in .png, .jpg, .jpeg or .webp, found none",
            ),
            ("none/a.png", ErrorKind::NotFound, "the folder does not exist"),
            ("file/a.png", ErrorKind::Io, "expected a folder, found a file"),
        ] {
            let error =
                write(&sample(), &folder.path().join(name), &request(), &[]).expect_err(name);
            assert_eq!((error.kind(), error.detail()), (kind, expected), "{name}");
        }
        assert_eq!(check_destination(Path::new("a.png")).expect("here"), Format::Png);
    }
}
