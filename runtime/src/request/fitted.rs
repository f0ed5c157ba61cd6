//! A source brought to the size of a job's images. Plain values; how it is fitted is not known
//! here.

use image::{GrayImage, RgbImage};
use pocketmuse_package::Digest;

use super::extension::Extension;

/// A source brought to the size of a job's images: an image, what of it is repainted, and where it
/// lies if pixels were added around it. A job that goes on needs nothing else of its source.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedSource {
    pub(crate) image: RgbImage,
    pub(crate) mask: Option<Mask>,
    /// Where the image lies if pixels were added around it, each of them its own.
    pub(crate) extension: Option<Extension>,
    /// Left and top of what was asked for, if that is cropped.
    pub(crate) crop: Option<[u32; 2]>,
    /// Stands for all of it.
    pub(crate) digest: Digest,
}

/// What is repainted, in pixels and in tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mask {
    /// `None` if known pixels are not to be pasted back.
    pub(crate) pixels: Option<GrayImage>,
    pub(crate) tokens: Vec<bool>,
    /// How far known pixels fade into new ones, in pixels.
    pub(crate) feather: u32,
}

impl FittedSource {
    /// An image, and what of it is repainted.
    pub(crate) fn new(image: RgbImage, mask: Option<Mask>) -> Self {
        let mut bytes = image.as_raw().clone();
        if let Some(mask) = &mask {
            bytes.extend(mask.tokens.iter().map(|repaint| u8::from(*repaint)));
            bytes.extend(mask.pixels.iter().flat_map(|pixels| pixels.as_raw()));
        }
        Self { digest: Digest::of(&bytes), image, mask, extension: None, crop: None }
    }

    /// The bytes of memory that it takes.
    pub(super) fn held_bytes(&self) -> u64 {
        let pixels = self.mask.as_ref().and_then(|mask| mask.pixels.as_ref());
        (self.image.as_raw().len() + pixels.map_or(0, |pixels| pixels.as_raw().len())) as u64
    }

    /// The part of the tokens that is repainted; 1 without a mask.
    pub(crate) fn mask_ratio(&self) -> f32 {
        self.mask.as_ref().map_or(1.0, |mask| mask.masked() as f32 / mask.tokens.len() as f32)
    }
}

impl Mask {
    /// How many tokens are repainted.
    pub(crate) fn masked(&self) -> usize {
        self.tokens.iter().filter(|repaint| **repaint).count()
    }
}
