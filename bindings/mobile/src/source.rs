//! What an edit starts from, for both languages.

use image::GrayImage;
use pocketmuse::pixels::Rgba;

use crate::{
    bytes::Bytes,
    error::{PocketMuseError, size},
    pixels::Pixels,
};

/// What of an image is repainted: a byte for each pixel, row after row from the top.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Mask {
    /// Brightness: 128 to 255 is repainted, the rest stays. The last row may end with its last
    /// pixel.
    pub bytes: Bytes,
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1. A mask of another size than the image is stretched over it.
    pub height: u32,
    /// Bytes from one row to the next, at least `width`.
    pub stride: u32,
}

/// A box in an image, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Area {
    /// Pixels from the image's left.
    pub left: u32,
    /// Pixels from the image's top.
    pub top: u32,
    /// Pixels from left to right, at least 1.
    pub width: u32,
    /// Pixels from top to bottom, at least 1.
    pub height: u32,
}

/// Pixels at the four sides of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Sides {
    /// At the left; 0 by default.
    #[uniffi(default = 0)]
    pub left: u32,
    /// At the top; 0 by default.
    #[uniffi(default = 0)]
    pub top: u32,
    /// At the right; 0 by default.
    #[uniffi(default = 0)]
    pub right: u32,
    /// At the bottom; 0 by default.
    #[uniffi(default = 0)]
    pub bottom: u32,
}

/// An image to edit, of any size, and what of it is repainted: of `mask`, `area` and its own
/// transparent pixels the first that is there, and what `extend` adds. Without any of them the
/// image is remade as a whole.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Source {
    /// The image. Unless its alpha is ignored, what is less than half opaque is repainted.
    pub image: Pixels,
    /// What is repainted. None by default.
    #[uniffi(default = None)]
    pub mask: Option<Mask>,
    /// A box that is repainted, inside the image. None by default.
    #[uniffi(default = None)]
    pub area: Option<Area>,
    /// Pixels that are added and painted: at most 4,096 a side with the image. None by default.
    #[uniffi(default = None)]
    pub extend: Option<Sides>,
    /// Whether known pixels come back outside the mask, with an edge one token wide. They do by
    /// default.
    #[uniffi(default = true)]
    pub paste: bool,
}

impl Mask {
    /// The mask in the bytes, checked against their length first.
    fn image(&self) -> Result<GrayImage, PocketMuseError> {
        let Self { bytes, width, height, stride } = self;
        // As four bytes are a pixel's there, a row here is a fourth of one.
        let bad = |field: &str, reason| {
            Err(PocketMuseError::BadRequest { field: format!("mask: {field}"), reason })
        };
        if *width == 0 || *height == 0 {
            return bad(
                "size",
                format!("expected at least 1 x 1 pixels, found {width} x {height}"),
            );
        }
        if stride < width {
            return bad("stride", format!("expected at least {width} bytes, found {stride}"));
        }
        let needed = u64::from(height - 1) * u64::from(*stride) + u64::from(*width);
        if needed > bytes.len() as u64 {
            let found = bytes.len();
            return bad("bytes", format!("expected at least {needed} bytes, found {found}"));
        }
        let (stride, row) = (size(*stride, "mask: stride")?, size(*width, "mask: width")?);
        let rows = bytes.chunks(stride).take(size(*height, "mask: height")?);
        let gray = rows.flat_map(|line| line[..row].iter().copied()).collect();
        Ok(GrayImage::from_raw(*width, *height, gray).expect("as many bytes as pixels"))
    }
}

impl TryFrom<Source> for pocketmuse::Source {
    type Error = PocketMuseError;

    fn try_from(source: Source) -> Result<Self, PocketMuseError> {
        let Source { image, mask, area, extend, paste } = source;
        let rgba: Rgba<'_> = image.rgba()?;
        let source = match (mask, area) {
            (Some(mask), _) => Self::new(rgba.colours()).with_mask(mask.image()?),
            (None, Some(Area { left, top, width, height })) => {
                Self::new(rgba.colours()).with_box([left, top, width, height])?
            }
            (None, None) => rgba.source(),
        };
        let source = match extend {
            Some(Sides { left, top, right, bottom }) => {
                source.extended([left, top, right, bottom])?
            }
            None => source,
        };
        Ok(source.with_paste(paste))
    }
}
