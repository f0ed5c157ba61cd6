//! What a request holds, each field with its range. Checks what needs no package.

use pocketmuse_package::{MaskingSchedule, Result};
use serde::{Deserialize, Serialize};

use super::{
    kinds::{GuidanceSchedule, RngKind, Sampler, Temperature, Tileable, bad},
    weights::Weighted,
};

/// The longest prompt that is looked at, in bytes; a model reads 77 tokens.
pub const MAX_PROMPT_BYTES: usize = 1 << 16;
/// The most steps of a request.
pub const MAX_STEPS: u32 = 10_000;
/// The most images of a request.
pub const MAX_IMAGES: u32 = 64;
/// The longest side of an image in pixels.
pub const MAX_SIDE: u32 = 4096;

/// An image to be made. `None` stands for the package's default.
///
/// The names are those of the reference pipeline. A request serializes with these names, so it
/// can be stored in the image that it made.
///
/// # Example
///
/// ```
/// use pocketmuse::Request;
/// let request = Request { seed: 7, ..Request::new("a red lighthouse") };
/// assert_eq!(request.num_images_per_prompt, 1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What the image shows. At most [`MAX_PROMPT_BYTES`]; what does not fit the model's tokens
    /// is cut off.
    pub prompt: String,
    /// What the image is guided away from. Empty by default; has no effect without guidance.
    pub negative_prompt: String,
    /// Whether `(word:1.3)` gives a word weight in both prompts. Set by default; a stored request
    /// without it is from before there were weights, and its brackets are text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt_weighting: bool,
    /// How strongly the prompt steers, finite and at least 0. Up to 1 guidance is off and a step
    /// costs half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f32>,
    /// Steps from all masked to all chosen, 1 to [`MAX_STEPS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_inference_steps: Option<u32>,
    /// How noisy the choice of tokens to mask again is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// The image's height in pixels: whole tokens of the package, up to [`MAX_SIDE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The image's width in pixels, as for `height`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Images to make at once, 1 to [`MAX_IMAGES`].
    pub num_images_per_prompt: u32,
    /// Same seed, same images. Torch mode uses the low 32 bits.
    pub seed: u64,
    /// Which generator draws.
    pub rng: RngKind,
    /// The aesthetic score that the model is told its image has, about 0 to 10. Finite; 6 by
    /// default.
    pub aesthetic_score: f32,
    /// The left and top corner in pixels that the model is told its image was cropped at. (0, 0)
    /// by default.
    pub crop_coordinates: [u32; 2],
    /// Which tokens are chosen in a step. The Halton order takes no heed of `temperature` and
    /// cannot draw as torch does.
    #[serde(skip_serializing_if = "is_default")]
    pub sampler: Sampler,
    /// How guidance grows over the steps.
    #[serde(skip_serializing_if = "is_default")]
    pub guidance_schedule: GuidanceSchedule,
    /// How the number of masked tokens falls: the package's schedule, or linear where a mask is
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masking_schedule: Option<MaskingSchedule>,
    /// Of an edit alone: the part of the steps that is run, 0 to 1. 1 starts from scratch; 0 only
    /// encodes and decodes. 0.5 by default, 1 with a mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Whether strength 1 without a mask masks nothing, as in the reference pipeline, for parity.
    /// Not by default.
    #[serde(skip_serializing_if = "is_default")]
    pub reference_strength: bool,
    /// Which edges of the image meet, so that copies of it can lie side by side. None by default.
    /// The networks then see 8 tokens more at each of these edges, which takes time and memory.
    #[serde(skip_serializing_if = "is_default")]
    pub tileable: Tileable,
    /// Share of steps rerun with new random numbers, 0 to 1: 0 repeats the image, and so does less
    /// than a step; 1 shares nothing. The image that the request makes without this is made first,
    /// as tokens; then that share of the steps is run once more, as in an edit of that `strength`,
    /// for each of `num_images_per_prompt`. Wants the own generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation: Option<f64>,
    /// Which of the images that the request makes without `variation` is varied, from 0, below
    /// [`MAX_IMAGES`].
    #[serde(skip_serializing_if = "is_default")]
    pub variation_of: u32,
}

/// For fields that are left out of files unless set.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Request {
    /// An empty prompt and the reference pipeline's values.
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: String::new(),
            prompt_weighting: true,
            guidance_scale: None,
            num_inference_steps: None,
            temperature: None,
            height: None,
            width: None,
            num_images_per_prompt: 1,
            seed: 0,
            rng: RngKind::Own,
            aesthetic_score: 6.0,
            crop_coordinates: [0, 0],
            sampler: Sampler::Confidence,
            guidance_schedule: GuidanceSchedule::Constant,
            masking_schedule: None,
            strength: None,
            reference_strength: false,
            tileable: Tileable::No,
            variation: None,
            variation_of: 0,
        }
    }
}

impl Request {
    /// A request for what `prompt` says, with the reference pipeline's values and seed 0.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), ..Self::default() }
    }

    /// One of the prompts and its weights, if it is one that can be.
    pub(crate) fn weighted(&self, name: &str, prompt: &str) -> Result<Weighted> {
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(bad(
                name,
                format!("expected at most {MAX_PROMPT_BYTES} bytes, found {}", prompt.len()),
            ));
        }
        if !self.prompt_weighting {
            return Ok(Weighted::plain(prompt));
        }
        Weighted::read(prompt).map_err(|error| error.within(name))
    }

    /// Refuses what only an edit can be asked for.
    pub(crate) fn check_starts_from_nothing(&self) -> Result<()> {
        match self.strength {
            None => Ok(()),
            Some(strength) => Err(bad(
                "strength",
                format!("expected an image to edit, found strength {strength} alone"),
            )),
        }
    }
}
