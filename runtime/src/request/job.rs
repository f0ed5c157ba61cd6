//! A job: a checked request with its origin, and nothing left open. Plain values that do not change
//! any more; knows no network.

use std::{collections::BTreeMap, sync::Arc};

use pocketmuse_package::{Digest, Manifest, MaskingSchedule, Result, Stage};
use serde::{Deserialize, Serialize};

use super::{
    fields::{MAX_IMAGES, MAX_SIDE, MAX_STEPS, Request},
    fitted::FittedSource,
    kinds::{RngKind, Sampler, Temperature, Tileable, bad},
    provider::Provider,
    video::Video,
};

/// A request that was checked against a package, and what its images start from.
///
/// [`Pipeline::job`](crate::Pipeline::job) makes one, [`Pipeline::run`](crate::Pipeline::run) runs
/// it, as often as you like and with the same result.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The request with every default filled in.
    pub(crate) request: Request,
    /// Guidance, finite and at least 0.
    pub(crate) guidance_scale: f32,
    /// The image's height and width in tokens.
    pub(crate) grid: [usize; 2],
    /// Rows above and below the grid, and columns left and right, that the networks see besides.
    pub(crate) margin: [usize; 2],
    /// Pixels along a side of a token.
    pub(crate) pixels_per_token: u32,
    /// Tokens to choose from.
    pub(crate) codebook_size: usize,
    /// Steps from all masked to none.
    pub(crate) steps: usize,
    /// The first of these steps that is run, from 0: an edit leaves some out.
    pub(crate) first_step: usize,
    /// The temperature at the first and at the last step.
    pub(crate) temperature: [f32; 2],
    /// How the number of masked tokens falls.
    pub(crate) masking: MaskingSchedule,
    /// Of a variation: the first of the steps that are run once more.
    pub(crate) redone_from: Option<usize>,
    /// Of an edit: what it starts from.
    pub(crate) source: Option<Arc<FittedSource>>,
    /// Of a job that goes on: what was saved of it.
    pub(crate) saved: Option<Saved>,
    /// Of a video: how the image moves. Its end, if it has one, is of the size of the frames.
    pub(crate) video: Option<Video>,
    /// What the images that it starts from take as long as it is there, as they were given and as
    /// they were fitted.
    pub(crate) held_bytes: u64,
}

/// A job as it was saved after a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The step that comes next, from 0.
    pub(crate) next_step: usize,
    /// The tokens of all images, `None` where masked.
    pub(crate) tokens: Vec<Option<u32>>,
    /// How many random words were drawn.
    pub(crate) drawn: u64,
    /// Of a video: the frame in the making.
    pub(crate) frame: Option<SavedFrame>,
    /// Who computed which stage, but for those that the CPU did.
    pub(crate) providers: BTreeMap<Stage, Provider>,
}

/// A frame of a video in the making: what going on with it needs besides its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedFrame {
    /// Which, from 0.
    pub(crate) frame: u32,
    /// How many tokens were masked when it began.
    pub(crate) masked: usize,
    /// The tokens that the last frame has, if that is said.
    pub(crate) end: Option<Vec<u32>>,
}

/// Steps that are run once over the canvas: a variation is two passes, a video one for each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) kind: PassKind,
    /// The first step that is run, from 0.
    pub(crate) first_step: usize,
    /// Whether the canvas is already one of this pass, since a saved job goes on within it.
    pub(crate) is_begun: bool,
}

/// What a pass makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassKind {
    /// All images, from what the canvas holds.
    Images,
    /// The image that a variation varies, once for all variations.
    Original,
    /// The variations of that image: a share of its steps with other random numbers.
    Variations,
    /// A frame of a video, from 0.
    Frame(u32),
}

impl Pass {
    /// The frame that is finished with this pass, if the job is a video.
    pub(crate) fn frame(&self) -> Option<u32> {
        if let PassKind::Frame(frame) = self.kind { Some(frame) } else { None }
    }
}

impl Job {
    /// Checks every value against its range and the package, and fills in the package's defaults.
    /// The job starts from nothing.
    ///
    /// # Errors
    ///
    /// `BadRequest` at the first field that is out of range or does not fit the model.
    pub(crate) fn new(request: &Request, manifest: &Manifest) -> Result<Self> {
        let (model, defaults) = (&manifest.model, &manifest.defaults);
        request.weighted("prompt", &request.prompt)?;
        request.weighted("negative_prompt", &request.negative_prompt)?;
        let guidance_scale = request.guidance_scale.unwrap_or(defaults.guidance_scale);
        not_negative("guidance_scale", guidance_scale)?;
        let steps = request.num_inference_steps.unwrap_or(defaults.num_inference_steps);
        in_range("num_inference_steps", steps, MAX_STEPS)?;
        let temperature = request.temperature.unwrap_or(Temperature::Range(defaults.temperature));
        temperature.range().into_iter().try_for_each(|value| not_negative("temperature", value))?;
        in_range("num_images_per_prompt", request.num_images_per_prompt, MAX_IMAGES)?;
        if !request.aesthetic_score.is_finite() {
            let detail = format!("expected a finite number, found {}", request.aesthetic_score);
            return Err(bad("aesthetic_score", detail));
        }
        let strength = request.strength.unwrap_or(1.0);
        is_share("strength", strength)?;
        check_variation(request)?;
        if request.tileable != Tileable::No && request.strength.is_some() {
            let detail = "expected an image that a prompt makes, found one to edit";
            return Err(bad("tileable", detail));
        }
        if request.sampler == Sampler::Halton && request.rng == RngKind::Torch {
            return Err(bad("sampler", "expected confidence with torch's numbers, found halton"));
        }
        let masking = request.masking_schedule.unwrap_or(model.masking_schedule);
        let whole = model.sample_size.saturating_mul(model.pixels_per_token);
        let (height, width) = (request.height.unwrap_or(whole), request.width.unwrap_or(whole));
        let unit = model.pixels_per_token.saturating_mul(model.grid_multiple);
        check_side("height", height, unit)?;
        check_side("width", width, unit)?;
        Ok(Self {
            request: Request {
                guidance_scale: Some(guidance_scale),
                num_inference_steps: Some(steps),
                temperature: Some(temperature),
                height: Some(height),
                width: Some(width),
                masking_schedule: Some(masking),
                ..request.clone()
            },
            guidance_scale,
            grid: [height, width].map(|side| (side / model.pixels_per_token) as usize),
            margin: request.tileable.margin(model),
            pixels_per_token: model.pixels_per_token,
            codebook_size: model.codebook_size as usize,
            steps: steps as usize,
            first_step: first_step(steps, strength),
            temperature: temperature.range(),
            masking,
            redone_from: request.variation.map(|variation| first_step(steps, variation)),
            source: None,
            saved: None,
            video: None,
            held_bytes: 0,
        })
    }

    /// The request with every default filled in.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Steps in all: those of a variation come after those of the image that it varies. Of a video,
    /// those of a frame.
    pub fn steps(&self) -> usize {
        self.steps + self.redone_from.map_or(0, |first| self.steps - first)
    }

    /// Steps that were made before, by a job that was saved.
    pub fn steps_made(&self) -> usize {
        self.saved.as_ref().map_or(0, |saved| saved.next_step - self.first_step)
    }

    /// The image's height and width in tokens.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// Tokens of an image.
    pub fn tokens_per_image(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Images to make at once.
    pub fn images(&self) -> usize {
        self.request.num_images_per_prompt as usize
    }

    /// The image's height and width in pixels: less than its tokens have if it is cropped.
    pub fn size(&self) -> [usize; 2] {
        [self.request.height, self.request.width].map(|side| side.unwrap_or_default() as usize)
    }

    /// Width and height of all tokens in pixels.
    pub(crate) fn canvas_size(&self) -> [u32; 2] {
        let [rows, columns] = self.grid.map(|side| side as u32);
        [columns, rows].map(|side| side * self.pixels_per_token)
    }

    /// Rows and columns of tokens that the networks see: the grid with its margin.
    pub(crate) fn outer_grid(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.grid[axis] + 2 * self.margin[axis])
    }

    /// Whether the negative prompt is run beside the prompt.
    pub(crate) fn is_guided(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// Width, height, the crop's two numbers and the aesthetic score, as the model is told.
    pub(crate) fn micro_conds(&self) -> [f32; 5] {
        let Request { crop_coordinates: [left, top], aesthetic_score, .. } = self.request;
        let [width, height] = self.canvas_size().map(|side| side as f32);
        [width, height, left as f32, top as f32, aesthetic_score]
    }

    /// The part of the tokens that is masked before the first step, 0 to 1: 1 unless a mask says
    /// what is repainted.
    pub(crate) fn starting_mask_ratio(&self) -> f32 {
        self.source.as_ref().map_or(1.0, |source| source.mask_ratio())
    }

    /// What stands for the image and the mask of an edit.
    pub(crate) fn source_digest(&self) -> Option<Digest> {
        self.source.as_ref().map(|source| source.digest)
    }

    /// What is left to run, in its order.
    pub(crate) fn passes(&self) -> impl Iterator<Item = Pass> + use<> {
        let next = self.saved.as_ref().map(|saved| saved.next_step);
        let pass = |kind, first_step, is_begun| Pass { kind, first_step, is_begun };
        let first = next.unwrap_or(self.first_step);
        let passes = match (self.redone_from, &self.video) {
            (Some(from), _) if first >= self.steps => {
                let made = first - self.steps;
                vec![pass(PassKind::Variations, from + made, made > 0)]
            }
            (Some(from), _) => {
                vec![pass(PassKind::Original, first, true), pass(PassKind::Variations, from, false)]
            }
            (None, Some(_)) => Vec::new(),
            (None, None) => vec![pass(PassKind::Images, first, true)],
        };
        let saved = self.saved.as_ref().and_then(|saved| saved.frame.as_ref());
        let saved = saved.map(|saved| saved.frame);
        let frames = saved.unwrap_or(0)..self.video.as_ref().map_or(0, |video| video.frames);
        passes.into_iter().chain(frames.map(move |frame| {
            let is_begun = saved == Some(frame);
            pass(PassKind::Frame(frame), if is_begun { first } else { 0 }, is_begun)
        }))
    }
}

fn check_variation(request: &Request) -> Result<()> {
    let Some(variation) = request.variation else { return Ok(()) };
    is_share("variation", variation)?;
    if request.variation_of >= MAX_IMAGES {
        let found = request.variation_of;
        let detail = format!("expected an image below {MAX_IMAGES}, found {found}");
        return Err(bad("variation_of", detail));
    }
    if request.strength.is_some() {
        return Err(bad("variation", "expected an image that a prompt made, found one to edit"));
    }
    if request.rng == RngKind::Torch {
        return Err(bad("variation", "expected the generator own, found torch"));
    }
    Ok(())
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
    let detail =
        format!("expected a multiple of {unit} pixels up to {most}, found {side}: {nearest}");
    Err(bad(name, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::manifest;

    fn passes(change: impl FnOnce(&mut Job)) -> Vec<(PassKind, usize, bool)> {
        let request = Request { num_inference_steps: Some(8), ..Request::default() };
        let mut job = Job::new(&request, &manifest()).expect("fits");
        change(&mut job);
        job.passes().map(|pass| (pass.kind, pass.first_step, pass.is_begun)).collect()
    }

    fn saved(next_step: usize) -> Option<Saved> {
        Some(Saved { next_step, ..Saved::default() })
    }

    #[test]
    fn images_are_one_pass_that_goes_on_where_it_was_saved() {
        use PassKind::Images;
        assert_eq!(passes(|_| ()), [(Images, 0, true)]);
        assert_eq!(passes(|job| job.first_step = 3), [(Images, 3, true)]);
        for next in [4, 8] {
            let found = passes(|job| (job.first_step, job.saved) = (3, saved(next)));
            assert_eq!(found, [(Images, next, true)]);
        }
    }

    #[test]
    fn a_variation_is_two_passes_of_which_the_first_may_be_over() {
        use PassKind::{Original, Variations};
        let varied = |next| {
            passes(|job| (job.redone_from, job.saved) = (Some(6), Option::and_then(next, saved)))
        };
        assert_eq!(varied(None), [(Original, 0, true), (Variations, 6, false)]);
        assert_eq!(varied(Some(7)), [(Original, 7, true), (Variations, 6, false)]);
        assert_eq!(varied(Some(8)), [(Variations, 6, false)], "its tokens are masked yet");
        assert_eq!(varied(Some(9)), [(Variations, 7, true)]);
        assert_eq!(varied(Some(10)), [(Variations, 8, true)], "only the decoder is left");
    }

    #[test]
    fn a_video_is_a_pass_for_each_frame() {
        let video = Video { frames: 3, ..Video::default() };
        let found = passes(|job| job.video = Some(video));
        assert_eq!(found, [0, 1, 2].map(|frame| (PassKind::Frame(frame), 0, false)));

        let frame = SavedFrame { frame: 1, masked: 5, end: None };
        let found = passes(|job| {
            job.video = Some(Video { frames: 3, ..Video::default() });
            job.saved = saved(4).map(|saved| Saved { frame: Some(frame), ..saved });
        });
        assert_eq!(found, [(PassKind::Frame(1), 4, true), (PassKind::Frame(2), 0, false)]);
    }

    #[test]
    fn steps_are_counted_over_all_passes() {
        let request = Request { num_inference_steps: Some(8), ..Request::default() };
        let mut job = Job::new(&request, &manifest()).expect("fits");
        assert_eq!((job.steps(), job.steps_made()), (8, 0));
        (job.redone_from, job.saved) = (Some(6), saved(9));
        assert_eq!((job.steps(), job.steps_made()), (10, 9));
    }
}
