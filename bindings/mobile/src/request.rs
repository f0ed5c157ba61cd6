//! What a caller asks for, for both languages: the runtime's request, field by field.

use crate::kinds::{GuidanceSchedule, MaskingSchedule, RngKind, Sampler, Temperature, Tileable};

/// A corner in an image, in pixels from its left and its top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Corner {
    /// Pixels from the left.
    pub left: u32,
    /// Pixels from the top.
    pub top: u32,
}

/// An image to be made. What is left out is as the package says, or as the comment here.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Request {
    /// What the image shows. At most 65,536 bytes; what does not fit the model's 77 tokens is cut
    /// off. Empty by default.
    #[uniffi(default = "")]
    pub prompt: String,
    /// What the image is guided away from. Empty by default; has no effect without guidance.
    #[uniffi(default = "")]
    pub negative_prompt: String,
    /// Whether `(word:1.3)` gives a word weight in both prompts. It does by default.
    #[uniffi(default = true)]
    pub prompt_weighting: bool,
    /// How strongly the prompt steers, finite and at least 0. Up to 1 guidance is off and a step
    /// costs half. By default the package's.
    #[uniffi(default = None)]
    pub guidance_scale: Option<f32>,
    /// Steps from all masked to all chosen, 1 to 10,000. By default the package's.
    #[uniffi(default = None)]
    pub num_inference_steps: Option<u32>,
    /// How noisy the choice of tokens to mask again is. By default the package's.
    #[uniffi(default = None)]
    pub temperature: Option<Temperature>,
    /// The image's height in pixels: whole tokens of the package, up to 4,096. By default the
    /// model's own.
    #[uniffi(default = None)]
    pub height: Option<u32>,
    /// The image's width in pixels, as for `height`.
    #[uniffi(default = None)]
    pub width: Option<u32>,
    /// Images to make at once, 1 to 64. 1 by default.
    #[uniffi(default = 1)]
    pub num_images_per_prompt: u32,
    /// Same seed, same images. 0 by default.
    #[uniffi(default = 0)]
    pub seed: u64,
    /// Which generator draws. `Own` by default.
    #[uniffi(default = None)]
    pub rng: Option<RngKind>,
    /// The aesthetic score that the model is told its image has, about 0 to 10. Finite; 6 by
    /// default.
    #[uniffi(default = 6.0)]
    pub aesthetic_score: f32,
    /// The corner in pixels that the model is told its image was cropped at. Left 0, top 0 by
    /// default.
    #[uniffi(default = None)]
    pub crop_coordinates: Option<Corner>,
    /// Which tokens are chosen in a step. `Confidence` by default.
    #[uniffi(default = None)]
    pub sampler: Option<Sampler>,
    /// How guidance grows over the steps. `Constant` by default.
    #[uniffi(default = None)]
    pub guidance_schedule: Option<GuidanceSchedule>,
    /// How the number of masked tokens falls. By default the package's schedule, or linear where a
    /// mask is given.
    #[uniffi(default = None)]
    pub masking_schedule: Option<MaskingSchedule>,
    /// Of an edit alone: the part of the steps that is run, 0 to 1. 1 starts from scratch; 0 only
    /// encodes and decodes. 0.5 by default, 1 with a mask.
    #[uniffi(default = None)]
    pub strength: Option<f64>,
    /// Whether strength 1 without a mask masks nothing, as in the reference pipeline, for
    /// comparing. Not by default.
    #[uniffi(default = false)]
    pub reference_strength: bool,
    /// Which edges of the image meet. None by default. The networks then see 8 tokens more at each
    /// of these edges, which takes time and memory.
    #[uniffi(default = None)]
    pub tileable: Option<Tileable>,
    /// Share of steps rerun with new random numbers, 0 to 1: 0 repeats the image, 1 shares nothing.
    /// By default there is no variation.
    #[uniffi(default = None)]
    pub variation: Option<f64>,
    /// Which of the images that the request makes without `variation` is varied, from 0, below 64.
    /// 0 by default.
    #[uniffi(default = 0)]
    pub variation_of: u32,
}

impl From<Request> for pocketmuse::Request {
    fn from(request: Request) -> Self {
        let Request {
            prompt,
            negative_prompt,
            prompt_weighting,
            guidance_scale,
            num_inference_steps,
            temperature,
            height,
            width,
            num_images_per_prompt,
            seed,
            rng,
            aesthetic_score,
            crop_coordinates,
            sampler,
            guidance_schedule,
            masking_schedule,
            strength,
            reference_strength,
            tileable,
            variation,
            variation_of,
        } = request;
        Self {
            prompt,
            negative_prompt,
            prompt_weighting,
            guidance_scale,
            num_inference_steps,
            temperature: temperature.map(Into::into),
            height,
            width,
            num_images_per_prompt,
            seed,
            rng: rng.map(Into::into).unwrap_or_default(),
            aesthetic_score,
            crop_coordinates: crop_coordinates.map_or([0; 2], |corner| [corner.left, corner.top]),
            sampler: sampler.map(Into::into).unwrap_or_default(),
            guidance_schedule: guidance_schedule.map(Into::into).unwrap_or_default(),
            masking_schedule: masking_schedule.map(Into::into),
            strength,
            reference_strength,
            tileable: tileable.map(Into::into).unwrap_or_default(),
            variation,
            variation_of,
        }
    }
}

impl From<pocketmuse::Request> for Request {
    fn from(request: pocketmuse::Request) -> Self {
        let pocketmuse::Request {
            prompt,
            negative_prompt,
            prompt_weighting,
            guidance_scale,
            num_inference_steps,
            temperature,
            height,
            width,
            num_images_per_prompt,
            seed,
            rng,
            aesthetic_score,
            crop_coordinates: [left, top],
            sampler,
            guidance_schedule,
            masking_schedule,
            strength,
            reference_strength,
            tileable,
            variation,
            variation_of,
        } = request;
        Self {
            prompt,
            negative_prompt,
            prompt_weighting,
            guidance_scale,
            num_inference_steps,
            temperature: temperature.map(Into::into),
            height,
            width,
            num_images_per_prompt,
            seed,
            rng: Some(rng.into()),
            aesthetic_score,
            crop_coordinates: Some(Corner { left, top }),
            sampler: Some(sampler.into()),
            guidance_schedule: Some(guidance_schedule.into()),
            masking_schedule: masking_schedule.map(Into::into),
            strength,
            reference_strength,
            tileable: Some(tileable.into()),
            variation,
            variation_of,
        }
    }
}
