//! Pixels on their way across the border: a copy each way, checked before a byte is read.

use image::RgbImage;
use pocketmuse::pixels::{self, Rgba};

use crate::{
    bytes::Bytes,
    error::{PocketMuseError, guard, size},
};

/// What the fourth byte of a pixel means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Alpha {
    /// Opacity; the colours are as they would be without it. `CGImageAlphaInfo.last`.
    Straight,
    /// Opacity, by which the colours are multiplied: Android's `Bitmap`, and
    /// `CGImageAlphaInfo.premultipliedLast`.
    Premultiplied,
    /// Nothing.
    Ignored,
}

impl From<Alpha> for pixels::Alpha {
    fn from(alpha: Alpha) -> Self {
        match alpha {
            Alpha::Straight => Self::Straight,
            Alpha::Premultiplied => Self::Premultiplied,
            Alpha::Ignored => Self::Ignored,
        }
    }
}

/// An image as bytes: red, green, blue, alpha of each pixel, row after row from the top.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Pixels {
    /// The rows. The last one may end with its last pixel.
    pub bytes: Bytes,
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// Bytes from one row to the next, at least 4 x `width`.
    pub stride: u32,
    /// What the fourth byte of a pixel means.
    pub alpha: Alpha,
}

impl Pixels {
    /// The image in the bytes.
    pub(crate) fn rgba(&self) -> Result<Rgba<'_>, PocketMuseError> {
        let Self { bytes, width, height, stride, alpha } = self;
        let stride = size(*stride, "stride")?;
        Ok(Rgba::new(bytes, *width, *height, stride, (*alpha).into())?)
    }

    /// The bytes of an image, opaque, row after row.
    pub(crate) fn of(image: &RgbImage) -> Result<Self, PocketMuseError> {
        let (width, height) = image.dimensions();
        let bytes = rgba_bytes(image, 4 * width)?.into();
        Ok(Self { bytes, width, height, stride: 4 * width, alpha: Alpha::Straight })
    }
}

/// The bytes of an image, opaque, `stride` from one row to the next.
pub(crate) fn rgba_bytes(image: &RgbImage, stride: u32) -> Result<Vec<u8>, PocketMuseError> {
    let bad = |reason| PocketMuseError::BadRequest { field: "stride".to_owned(), reason };
    let least = 4 * u64::from(image.width());
    if u64::from(stride) < least {
        return Err(bad(format!("expected at least {least} bytes, found {stride}")));
    }
    let length = size(u64::from(stride) * u64::from(image.height()), "stride")?;
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(length).is_err() {
        return Err(bad(format!("expected room for {length} bytes, found less")));
    }
    bytes.resize(length, 0);
    pixels::write_rgba(image, &mut bytes, size(stride, "stride")?)?;
    Ok(bytes)
}

/// Reads an image file: PNG, JPEG, WebP, GIF, BMP or PNM, told by its contents.
///
/// It is turned as its EXIF orientation says, and its colours become sRGB if it has a profile. The
/// rows lie without gaps; alpha is straight.
///
/// Throws `BadRequest` if it is no image, is cut short, or claims more pixels than it can hold.
#[uniffi::export]
pub fn decode_image(bytes: Bytes) -> Result<Pixels, PocketMuseError> {
    guard(|| {
        let image = pixels::from_bytes(bytes.0, u64::MAX)?;
        let mut pixels = Pixels::of(&image.image)?;
        if let Some(opacity) = image.opacity {
            for (pixel, opacity) in pixels.bytes.0.chunks_exact_mut(4).zip(opacity.as_raw()) {
                pixel[3] = *opacity;
            }
        }
        Ok(pixels)
    })
}
