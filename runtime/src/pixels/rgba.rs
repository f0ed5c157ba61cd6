//! Pixels as phones hold them: 8-bit red, green, blue, alpha, rows a stride apart. Sizes are
//! checked against the buffer before a byte is read or written. Knows no file.

use image::{GrayImage, Luma, Rgb, RgbImage};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::request::source::Source;

/// Bytes of a pixel.
const PIXEL: usize = 4;

/// What the fourth byte of a pixel means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpha {
    /// Opacity; the colours are as they would be without it. `CGImageAlphaInfo.last`, and a canvas
    /// in a browser.
    Straight,
    /// Opacity, by which the colours are multiplied: Android's `Bitmap`, and
    /// `CGImageAlphaInfo.premultipliedLast`.
    Premultiplied,
    /// Nothing.
    Ignored,
}

/// An image in a buffer of the caller's.
///
/// # Example
///
/// ```
/// use pocketmuse::pixels::{Alpha, Rgba};
///
/// // Two pixels, red and transparent, in a row of 12 bytes.
/// let bytes = [255, 0, 0, 255, 0, 0, 0, 0, 9, 9, 9, 9];
/// let image = Rgba::new(&bytes, 2, 1, 12, Alpha::Premultiplied)?;
/// assert_eq!(image.colours().into_raw(), [255, 0, 0, 255, 255, 255]);
/// assert_eq!(image.opacity().expect("not all are opaque").into_raw(), [255, 0]);
/// # Ok::<(), pocketmuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rgba<'a> {
    bytes: &'a [u8],
    width: u32,
    height: u32,
    stride: usize,
    alpha: Alpha,
}

impl<'a> Rgba<'a> {
    /// `width` x `height` pixels in `bytes`, whose rows begin `stride` bytes apart. The last row
    /// may end with its last pixel.
    ///
    /// # Errors
    ///
    /// `BadRequest` if a side is 0, the stride is shorter than a row, or the buffer than the image.
    pub fn new(
        bytes: &'a [u8],
        width: u32,
        height: u32,
        stride: usize,
        alpha: Alpha,
    ) -> Result<Self> {
        check(bytes.len(), [width, height], stride, PIXEL)?;
        Ok(Self { bytes, width, height, stride, alpha })
    }

    /// The image to edit: what is not opaque is repainted, where opacity is below a half. If all of
    /// it is opaque there is no mask, and it is remade as a whole.
    pub fn source(&self) -> Source {
        let source = Source::new(self.colours());
        match self.opacity() {
            Some(opacity) => source.with_opacity(opacity),
            None => source,
        }
    }

    /// The colours; what is transparent is laid on white.
    pub fn colours(&self) -> RgbImage {
        RgbImage::from_fn(self.width, self.height, |x, y| {
            let [red, green, blue, alpha] = self.pixel(x, y);
            Rgb([red, green, blue].map(|value| self.on_white(value, alpha)))
        })
    }

    /// The opacity, 255 where opaque; `None` if all of it is.
    pub fn opacity(&self) -> Option<GrayImage> {
        if self.alpha == Alpha::Ignored {
            return None;
        }
        let alpha = |x, y| Luma([self.pixel(x, y)[3]]);
        let opacity = GrayImage::from_fn(self.width, self.height, alpha);
        opacity.iter().any(|value| *value < 255).then_some(opacity)
    }

    fn on_white(&self, value: u8, alpha: u8) -> u8 {
        let white = 255 - alpha;
        match self.alpha {
            Alpha::Ignored => value,
            Alpha::Premultiplied => value.saturating_add(white),
            Alpha::Straight => {
                let [value, alpha, white] = [value, alpha, white].map(u32::from);
                ((value * alpha + 255 * white + 127) / 255) as u8
            }
        }
    }

    fn pixel(&self, x: u32, y: u32) -> [u8; PIXEL] {
        let at = y as usize * self.stride + x as usize * PIXEL;
        self.bytes[at..at + PIXEL].try_into().expect("four bytes")
    }
}

/// Writes an image into a buffer of the caller's, opaque, its rows `stride` bytes apart. What lies
/// between the rows stays as it is.
///
/// # Errors
///
/// `BadRequest` as for [`Rgba::new`]; nothing is written then.
///
/// # Example
///
/// ```
/// let image = image::RgbImage::from_pixel(1, 2, image::Rgb([1, 2, 3]));
/// let mut bytes = [0; 10];
/// pocketmuse::pixels::write_rgba(&image, &mut bytes, 6)?;
/// assert_eq!(bytes, [1, 2, 3, 255, 0, 0, 1, 2, 3, 255]);
/// # Ok::<(), pocketmuse::Error>(())
/// ```
pub fn write_rgba(image: &RgbImage, bytes: &mut [u8], stride: usize) -> Result<()> {
    check(bytes.len(), image.dimensions().into(), stride, PIXEL)?;
    for (row, line) in image.rows().zip(bytes.chunks_mut(stride)) {
        for (Rgb([red, green, blue]), pixel) in row.zip(line.chunks_exact_mut(PIXEL)) {
            pixel.copy_from_slice(&[*red, *green, *blue, 255]);
        }
    }
    Ok(())
}

/// A mask, or anything else of one byte a pixel, from a buffer of the caller's whose rows begin
/// `stride` bytes apart: Android's `ALPHA_8`, and a grey `CGImage`.
///
/// # Errors
///
/// `BadRequest` as for [`Rgba::new`].
///
/// # Example
///
/// ```
/// let mask = pocketmuse::pixels::gray(&[0, 255, 9, 255, 0], 2, 2, 3)?;
/// assert_eq!(mask.into_raw(), [0, 255, 255, 0]);
/// # Ok::<(), pocketmuse::Error>(())
/// ```
pub fn gray(bytes: &[u8], width: u32, height: u32, stride: usize) -> Result<GrayImage> {
    check(bytes.len(), [width, height], stride, 1)?;
    let pixel = |x, y| Luma([bytes[y as usize * stride + x as usize]]);
    Ok(GrayImage::from_fn(width, height, pixel))
}

/// Checks that an image of `pixel` bytes for each pixel lies in a buffer.
fn check(bytes: usize, [width, height]: [u32; 2], stride: usize, pixel: usize) -> Result<()> {
    let bad = |at: &str, detail| Err(Error::new(ErrorKind::BadRequest, at, detail));
    for (name, side) in [("width", width), ("height", height)] {
        if side == 0 {
            return bad(name, "expected at least 1 pixel, found 0".to_owned());
        }
    }
    let row = u64::from(width) * pixel as u64;
    if (stride as u64) < row {
        let detail = format!("expected at least {row} bytes for {width} pixels, found {stride}");
        return bad("stride", detail);
    }
    let needed =
        u64::from(height - 1).checked_mul(stride as u64).and_then(|at| at.checked_add(row));
    if needed.is_none_or(|needed| needed > bytes as u64) {
        let detail = match needed {
            Some(needed) => format!("expected at least {needed} bytes, found {bytes}"),
            None => format!("expected fewer rows of {stride} bytes than {height}"),
        };
        return bad("pixels", detail);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_buffer_must_hold_the_image() {
        let cases: [(usize, u32, u32, usize, &str); 9] = [
            (16, 0, 2, 8, "width: expected at least 1 pixel, found 0"),
            (16, 2, 0, 8, "height: expected at least 1 pixel, found 0"),
            (16, 2, 2, 7, "stride: expected at least 8 bytes for 2 pixels, found 7"),
            (16, 2, 2, 0, "stride: expected at least 8 bytes for 2 pixels, found 0"),
            (15, 2, 2, 8, "pixels: expected at least 16 bytes, found 15"),
            (0, 1, 1, 4, "pixels: expected at least 4 bytes, found 0"),
            (16, 2, 2, 12, "pixels: expected at least 20 bytes, found 16"),
            (
                16,
                1,
                3,
                usize::MAX,
                "pixels: expected fewer rows of 18446744073709551615 bytes than 3",
            ),
            (
                16,
                u32::MAX,
                1,
                16,
                "stride: expected at least 17179869180 bytes for 4294967295 pixels, found 16",
            ),
        ];
        for (bytes, width, height, stride, expected) in cases {
            let buffer = vec![0; bytes];
            let error = Rgba::new(&buffer, width, height, stride, Alpha::Straight);
            let error = error.expect_err(expected);
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::BadRequest, expected.into()));
        }
    }

    #[test]
    fn alpha_becomes_the_mask_unless_all_is_opaque() {
        let bytes = [10, 20, 30, 255, 40, 50, 60, 100];
        let cases = [
            (Alpha::Straight, Some([255, 100]), [10, 20, 30, 171, 175, 179]),
            (Alpha::Premultiplied, Some([255, 100]), [10, 20, 30, 195, 205, 215]),
            (Alpha::Ignored, None, [10, 20, 30, 40, 50, 60]),
        ];
        for (alpha, opacity, colours) in cases {
            let image = Rgba::new(&bytes, 2, 1, 8, alpha).expect("an image");
            assert_eq!(
                image.opacity().map(GrayImage::into_raw),
                opacity.map(Vec::from),
                "{alpha:?}"
            );
            assert_eq!(image.colours().into_raw(), colours, "{alpha:?}");
        }
        let opaque = Rgba::new(&bytes[..4], 1, 1, 4, Alpha::Straight).expect("an image");
        assert_eq!(opaque.opacity(), None);
    }

    proptest! {
        #[test]
        fn pixels_come_back(width in 1u32..9, height in 1u32..9, more in 0usize..9, seed: u8) {
            let image = RgbImage::from_fn(width, height, |x, y| {
                Rgb([x as u8 ^ seed, y as u8 ^ seed, seed])
            });
            let stride = width as usize * PIXEL + more;
            let needed = stride * (height as usize - 1) + width as usize * PIXEL;
            let mut bytes = vec![7; needed];
            write_rgba(&image, &mut bytes, stride).expect("room");
            for alpha in [Alpha::Straight, Alpha::Premultiplied, Alpha::Ignored] {
                let read = Rgba::new(&bytes, width, height, stride, alpha).expect("an image");
                prop_assert_eq!(read.colours(), image.clone());
                prop_assert_eq!(read.opacity(), None);
            }
            let between = |at: usize| at % stride >= width as usize * PIXEL;
            prop_assert!((0..needed).filter(|at| between(*at)).all(|at| bytes[at] == 7));
            let mut short = vec![7; needed - 1];
            prop_assert!(write_rgba(&image, &mut short, stride).is_err());
            prop_assert!(short.iter().all(|byte| *byte == 7), "nothing is written");
        }

        #[test]
        fn no_size_panics(bytes in 0usize..64, width: u32, height: u32, stride: usize) {
            let buffer = vec![0; bytes];
            prop_assert!(
                gray(&buffer, width, height, stride).is_err()
                    || u64::from(width) * u64::from(height) <= 64
            );
            prop_assert!(
                Rgba::new(&buffer, width, height, stride, Alpha::Straight).is_err()
                    || u64::from(width) * u64::from(height) <= 16
            );
        }

        #[test]
        fn small_sizes_read_no_byte_outside(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            width in 0u32..5,
            height in 0u32..5,
            stride in 0usize..24,
        ) {
            if let Ok(image) = Rgba::new(&bytes, width, height, stride, Alpha::Premultiplied) {
                prop_assert_eq!(image.colours().dimensions(), (width, height));
                prop_assert!(gray(&bytes, width, height, stride).is_ok(), "a fourth of it");
                let _ = image.source(); // nor does this panic
            }
        }
    }
}
