//! An image that a job made.

use std::sync::Arc;

use image::RgbImage;
use pocketmuse::{
    MadeBy,
    pixels::{self, Format},
};

use crate::{
    bytes::Bytes,
    error::{PocketMuseError, guard},
    pixels::rgba_bytes,
    request::Request,
};

/// The kinds of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum ImageFormat {
    /// Exact, and holds the request, prompts included.
    Png,
    /// Small, quality 95 of 100.
    Jpeg,
    /// Exact.
    Webp,
}

impl From<ImageFormat> for Format {
    fn from(format: ImageFormat) -> Self {
        match format {
            ImageFormat::Png => Self::Png,
            ImageFormat::Jpeg => Self::Jpeg,
            ImageFormat::Webp => Self::Webp,
        }
    }
}

/// An image that a job made: opaque pixels in sRGB, and the request that makes it again. Its memory
/// is 3 bytes a pixel, until it is closed or no longer used.
#[derive(Debug, uniffi::Object)]
pub struct GeneratedImage {
    image: RgbImage,
    request: pocketmuse::Request,
    /// What is not known of a frame before its video is done.
    made_by: Option<MadeBy>,
}

impl GeneratedImage {
    pub(crate) fn new(
        image: RgbImage,
        request: &pocketmuse::Request,
        made_by: Option<MadeBy>,
    ) -> Arc<Self> {
        Arc::new(Self { image, request: request.clone(), made_by })
    }
}

#[uniffi::export]
impl GeneratedImage {
    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.image.width()
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.image.height()
    }

    /// The pixels as bytes: red, green, blue and 255 of each, row after row from the top, without
    /// gaps.
    pub fn rgba(&self) -> Result<Bytes, PocketMuseError> {
        guard(|| Ok(rgba_bytes(&self.image, 4 * self.image.width())?.into()))
    }

    /// As `rgba`, with `stride` bytes from one row to the next; 0 between them.
    ///
    /// Throws `BadRequest` if the stride is below 4 x `width`.
    pub fn rgba_with_stride(&self, stride: u32) -> Result<Bytes, PocketMuseError> {
        guard(|| Ok(rgba_bytes(&self.image, stride)?.into()))
    }

    /// The image as a file. It holds the request, prompts included, and of an image that is no frame
    /// of a video what made it: model, package, flavour, and providers other than the CPU.
    ///
    /// Throws `BadRequest` if the format cannot hold an image of this size.
    pub fn encode(&self, format: ImageFormat) -> Result<Bytes, PocketMuseError> {
        let notes = self.made_by.as_ref().map(|made_by| made_by.notes(&self.request));
        let notes = notes.unwrap_or_default();
        guard(|| Ok(pixels::to_bytes(&self.image, format.into(), &self.request, &notes)?.into()))
    }

    /// The request with every default filled in: it makes the same image again. Of a request for
    /// several images it makes all of them.
    pub fn request(&self) -> Request {
        self.request.clone().into()
    }
}
