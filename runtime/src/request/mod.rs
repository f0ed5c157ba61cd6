//! What a caller asks for: plain values, checked once against a package. Knows no network.

mod budget;
mod kinds;
mod options;
pub(crate) mod source;
pub mod video;
pub(crate) mod weights;

use pocketmuse_package::{Error, ErrorKind, Manifest, MaskingSchedule, Result};
use serde::{Deserialize, Serialize};

pub use self::{
    budget::{Budget, FALLBACK_BYTES},
    kinds::{GuidanceSchedule, RngKind, Sampler, Temperature, Tileable},
    options::Options,
};
use crate::{request::weights::Weighted, sampler::Schedule};

/// The longest prompt that is looked at, in bytes; a model reads 77 tokens.
pub const MAX_PROMPT_BYTES: usize = 1 << 16;
/// The most steps of a request.
pub const MAX_STEPS: u32 = 10_000;
/// The most pictures of a request.
pub const MAX_IMAGES: u32 = 64;
/// The longest side of a picture in pixels.
pub const MAX_SIDE: u32 = 4096;

/// A picture to be made. `None` stands for the package's default.
///
/// The names are those of the reference pipeline. A request serializes with these names, so it
/// can be stored in the picture that it made.
///
/// # Example
///
/// ```
/// use pocketmuse::Request;
/// let request = Request { prompt: "a red lighthouse".to_owned(), seed: 7, ..Request::default() };
/// assert_eq!(request.num_images_per_prompt, 1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What the picture shows. At most [`MAX_PROMPT_BYTES`]; what does not fit the model's tokens
    /// is cut off.
    pub prompt: String,
    /// What the picture is guided away from. Empty by default; has no effect without guidance.
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
    /// The picture's height in pixels: whole tokens of the package, up to [`MAX_SIDE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The picture's width in pixels, as for `height`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pictures to make at once, 1 to [`MAX_IMAGES`].
    pub num_images_per_prompt: u32,
    /// Same seed, same pictures. Torch mode uses the low 32 bits.
    pub seed: u64,
    /// Which generator draws.
    pub rng: RngKind,
    /// The aesthetic score that the model is told its picture has, about 0 to 10. Finite; 6 by
    /// default.
    pub aesthetic_score: f32,
    /// The left and top corner in pixels that the model is told its picture was cropped at. (0, 0)
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
    /// Which edges of the picture meet, so that copies of it can lie side by side. None by default.
    /// The networks then see 8 tokens more at each of these edges, which takes time and memory.
    #[serde(skip_serializing_if = "is_default")]
    pub tileable: Tileable,
    /// How much of the work on the picture is done anew, 0 to 1: for pictures that resemble it. The
    /// picture that the request makes without this is made again, as tokens; then this share of the
    /// steps is run once more as in an edit of that `strength`, with other random numbers for each
    /// of `num_images_per_prompt`. 0 is the picture itself, and so is less than a step; 1 has
    /// nothing of it. Wants the own generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation: Option<f64>,
    /// Which of the pictures that the request makes without `variation` is varied, from 0, below
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

/// A request that was checked against a package, with nothing left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The request with every default filled in.
    pub request: Request,
    /// Guidance, finite and at least 0.
    pub guidance_scale: f32,
    /// The picture's height and width in tokens.
    pub grid: [usize; 2],
    /// Rows above and below the grid, and columns left and right, that the networks see besides.
    pub margin: [usize; 2],
    /// The steps and their temperatures.
    pub schedule: Schedule,
    /// Of a variation: the first of the steps that are run once more.
    pub redone_from: Option<usize>,
}

impl Resolved {
    /// Whether the negative prompt is run beside the prompt.
    pub fn is_guided(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// The guidance of each step.
    pub fn guidance_scales(&self) -> Vec<f32> {
        let (schedule, steps) = (self.request.guidance_schedule, self.schedule.steps);
        (0..steps).map(|step| schedule.at(step, steps, self.guidance_scale)).collect()
    }

    /// Steps to run in all: those of a variation come after those of the picture that it varies.
    pub fn steps(&self) -> usize {
        self.schedule.steps + self.redone_from.map_or(0, |first| self.schedule.steps - first)
    }

    /// Tokens of a picture.
    pub fn cells(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Pictures to make.
    pub fn images(&self) -> usize {
        self.request.num_images_per_prompt as usize
    }

    /// The picture's height and width in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.request.height, self.request.width].map(|side| side.unwrap_or_default() as usize)
    }

    /// Width, height, the crop's two numbers and the aesthetic score, as the model is told.
    pub fn micro_conds(&self) -> [f32; 5] {
        let Request { width, height, crop_coordinates: [left, top], aesthetic_score, .. } =
            self.request;
        let side = |side: Option<u32>| side.unwrap_or_default() as f32;
        [side(width), side(height), left as f32, top as f32, aesthetic_score]
    }
}

impl Request {
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
                format!("expected a picture to edit, found strength {strength} alone"),
            )),
        }
    }

    fn check_variation(&self) -> Result<()> {
        let Some(variation) = self.variation else { return Ok(()) };
        is_share("variation", variation)?;
        if self.variation_of >= MAX_IMAGES {
            let detail =
                format!("expected a picture below {MAX_IMAGES}, found {}", self.variation_of);
            return Err(bad("variation_of", detail));
        }
        if self.strength.is_some() {
            return Err(bad(
                "variation",
                "expected a picture that a prompt made, found one to edit",
            ));
        }
        if self.rng == RngKind::Torch {
            return Err(bad("variation", "expected the generator own, found torch"));
        }
        Ok(())
    }

    /// Checks every value against its range and the package, and fills in the package's defaults.
    ///
    /// # Errors
    ///
    /// `BadRequest` at the first field that is out of range or does not fit the model.
    pub fn resolve(&self, manifest: &Manifest) -> Result<Resolved> {
        let (model, defaults) = (&manifest.model, &manifest.defaults);
        self.weighted("prompt", &self.prompt)?;
        self.weighted("negative_prompt", &self.negative_prompt)?;
        let guidance_scale = self.guidance_scale.unwrap_or(defaults.guidance_scale);
        not_negative("guidance_scale", guidance_scale)?;
        let steps = self.num_inference_steps.unwrap_or(defaults.num_inference_steps);
        in_range("num_inference_steps", steps, MAX_STEPS)?;
        let temperature = self.temperature.unwrap_or(Temperature::Range(defaults.temperature));
        temperature.range().into_iter().try_for_each(|value| not_negative("temperature", value))?;
        in_range("num_images_per_prompt", self.num_images_per_prompt, MAX_IMAGES)?;
        if !self.aesthetic_score.is_finite() {
            return Err(bad(
                "aesthetic_score",
                format!("expected a finite number, found {}", self.aesthetic_score),
            ));
        }
        let strength = self.strength.unwrap_or(1.0);
        is_share("strength", strength)?;
        self.check_variation()?;
        if self.tileable != Tileable::No && self.strength.is_some() {
            return Err(bad(
                "tileable",
                "expected a picture that a prompt makes, found one to edit",
            ));
        }
        if self.sampler == Sampler::Halton && self.rng == RngKind::Torch {
            return Err(bad("sampler", "expected confidence with torch's numbers, found halton"));
        }
        let masking = self.masking_schedule.unwrap_or(model.masking_schedule);
        let whole = model.sample_size.saturating_mul(model.pixels_per_token);
        let (height, width) = (self.height.unwrap_or(whole), self.width.unwrap_or(whole));
        let unit = model.pixels_per_token.saturating_mul(model.grid_multiple);
        check_side("height", height, unit)?;
        check_side("width", width, unit)?;
        let tokens = |side: u32| (side / model.pixels_per_token) as usize;
        Ok(Resolved {
            request: Self {
                guidance_scale: Some(guidance_scale),
                num_inference_steps: Some(steps),
                temperature: Some(temperature),
                height: Some(height),
                width: Some(width),
                masking_schedule: Some(masking),
                ..self.clone()
            },
            guidance_scale,
            grid: [tokens(height), tokens(width)],
            margin: self.tileable.margin(model),
            schedule: Schedule {
                steps: steps as usize,
                temperature: temperature.range(),
                masking,
                starting_mask_ratio: 1.0,
                first_step: first_step(steps, strength),
                codebook_size: model.codebook_size as usize,
                halton: (self.sampler == Sampler::Halton)
                    .then_some([tokens(height), tokens(width)]),
            },
            redone_from: self.variation.map(|variation| first_step(steps, variation)),
        })
    }
}

/// The first step if so much of the steps is run: the part is cut off to whole steps, as Python's
/// `int()` does.
fn first_step(steps: u32, part: f64) -> usize {
    (steps - (f64::from(steps) * part) as u32) as usize
}

fn is_share(name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(bad(name, format!("expected a number of 0 to 1, found {value}")))
}

fn not_negative(name: &str, value: f32) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(bad(name, format!("expected a finite number of at least 0, found {value}")))
}

fn in_range(name: &str, value: u32, most: u32) -> Result<()> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(bad(name, format!("expected 1 to {most}, found {value}")))
}

/// Says the nearest sizes that fit when `side` does not.
fn check_side(name: &str, side: u32, unit: u32) -> Result<()> {
    let most = MAX_SIDE / unit * unit;
    if side > 0 && side <= most && side.is_multiple_of(unit) {
        return Ok(());
    }
    let below = (side / unit * unit).min(most);
    let nearest = match below {
        _ if most == 0 => "none fits".to_owned(),
        0 => format!("the nearest is {unit}"),
        below if below == most => format!("the nearest is {most}"),
        below => format!("the nearest are {below} and {}", below + unit),
    };
    Err(bad(
        name,
        format!("expected a multiple of {unit} pixels up to {most}, found {side}: {nearest}"),
    ))
}

fn bad(at: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadRequest, at, detail)
}

#[cfg(test)]
pub(crate) mod tests;
