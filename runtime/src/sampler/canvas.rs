//! The canvas: the tokens of all images and the generator, in the making. Knows no step.

use super::rng::Rng;
use crate::request::job::{Job, Saved};

/// The tokens of some images of one size, and the generator that draws what is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// The tokens, image after image, row after row; `None` where masked.
    pub tokens: Vec<Option<u32>>,
    /// How many images there are.
    pub images: usize,
    /// The generator as it was left.
    pub rng: Rng,
    /// Of a video: the tokens that its last frame has.
    pub(crate) end: Option<Vec<u32>>,
    /// Of a video: how many tokens were masked when the frame in the making began.
    pub(crate) masked: usize,
}

impl Canvas {
    /// A canvas of `images` times as many tokens as an image has.
    ///
    /// # Panics
    ///
    /// If `tokens.len()` is not a multiple of `images`.
    pub fn new(tokens: Vec<Option<u32>>, images: usize, rng: Rng) -> Self {
        let count = tokens.len().checked_div(images).unwrap_or(0);
        assert_eq!(count * images, tokens.len(), "every image has as many tokens");
        Self { tokens, images, rng, end: None, masked: 0 }
    }

    /// The canvas of a job that starts from nothing.
    pub fn masked(job: &Job) -> Self {
        let rng = Rng::new(job.request.rng, job.request.seed);
        Self::new(vec![None; job.images() * job.tokens_per_image()], job.images(), rng)
    }

    /// The canvas as it was saved.
    pub(crate) fn saved(job: &Job, saved: &Saved) -> Self {
        let rng = Rng::after(job.request.rng, job.request.seed, saved.drawn);
        let frame = saved.frame.as_ref();
        let end = frame.and_then(|frame| frame.end.clone());
        let masked = frame.map_or(0, |frame| frame.masked);
        Self { tokens: saved.tokens.clone(), rng, end, masked, ..Self::masked(job) }
    }

    /// Tokens of an image.
    pub(crate) fn tokens_per_image(&self) -> usize {
        self.tokens.len().checked_div(self.images).unwrap_or(0)
    }
}
