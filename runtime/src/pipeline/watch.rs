//! What happens while a job runs, for whoever watches. Knows no stage.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use image::RgbImage;
use pocketmuse_package::Stage;

use super::progress::Progress;
use crate::{
    pixels::preview::Preview,
    request::{Job, Provider, Request, fitted::FittedSource, job::SavedFrame, video::Video},
    sampler::{self, rng::Rng},
};

/// Somebody who watches a job. Implement the methods that you want; each does nothing by itself.
///
/// A closure that is told of every step is one, too. It may not run another job of the same
/// pipeline: that is an error.
///
/// # Example
///
/// ```no_run
/// # use std::ops::ControlFlow;
/// # use pocketmuse::{Origin, Pipeline, Request, Step};
/// let pipeline = Pipeline::open("tiny-world-package")?;
/// let job = pipeline.job(&Request::default(), Origin::Nothing)?;
/// let output = pipeline.run(&job, &mut |step: &Step<'_>| {
///     println!("step {} of {}", step.step + 1, step.num_inference_steps);
///     ControlFlow::Continue(())
/// })?;
/// # Ok::<(), pocketmuse::Error>(())
/// ```
pub trait Watch {
    /// Told how far the job is, often.
    fn progress(&mut self, _progress: &Progress) {}

    /// Whether [`Self::prediction`] is wanted. The step graph is then loaded for this job alone
    /// and, in a full-size model, takes 79 MB more.
    fn wants_predictions(&self) -> bool {
        false
    }

    /// Told what the model says of an image, before tokens are drawn from it.
    fn prediction(&mut self, _prediction: &Prediction<'_>) {}

    /// Told of every step when it is finished. When it breaks, no further work is done.
    fn step(&mut self, _step: &Step<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Given every frame of a video, from 0, when it is finished; it is kept nowhere else. When it
    /// breaks, no further work is done.
    fn frame(&mut self, _frame: u32, _image: RgbImage) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(&Step<'_>) -> ControlFlow<()>> Watch for F {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self(step)
    }
}

/// Two who watch. Both are told of everything; it breaks if one does.
impl<A: Watch, B: Watch> Watch for (&mut A, &mut B) {
    fn progress(&mut self, progress: &Progress) {
        self.0.progress(progress);
        self.1.progress(progress);
    }

    fn wants_predictions(&self) -> bool {
        self.0.wants_predictions() || self.1.wants_predictions()
    }

    fn prediction(&mut self, prediction: &Prediction<'_>) {
        self.0.prediction(prediction);
        self.1.prediction(prediction);
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        either([self.0.step(step), self.1.step(step)])
    }

    fn frame(&mut self, frame: u32, image: RgbImage) -> ControlFlow<()> {
        either([self.0.frame(frame, image.clone()), self.1.frame(frame, image)])
    }
}

fn either([first, second]: [ControlFlow<()>; 2]) -> ControlFlow<()> {
    if first.is_break() { first } else { second }
}

/// A step that was just finished.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Which, from 0.
    pub step: usize,
    /// How many there are: those of the request, and for a variation those that are run anew after
    /// them.
    pub num_inference_steps: usize,
    /// The tokens of all images, image after image, row after row; `None` where still masked.
    pub tokens: &'a [Option<u32>],
    /// What all tokens would be if the images were finished now: tokens as the step drew them,
    /// before the unsure ones were masked again. `None` where nothing was drawn yet.
    pub guess: &'a [Option<u32>],
    /// The probability that each token of `guess` was drawn with; `f32::MAX` where none was drawn
    /// in this step.
    pub probabilities: &'a [f32],
    /// Images in the making.
    pub images: usize,
    /// Rows of tokens in an image.
    pub height: usize,
    /// Tokens in a row.
    pub width: usize,
    /// The generator as the step left it.
    pub rng: &'a Rng,
    /// The request with every default filled in.
    pub request: &'a Request,
    /// The image and the mask of an edit.
    pub source: Option<&'a Arc<FittedSource>>,
    /// Of a video: how it moves, and the frame in the making.
    pub video: Option<(&'a Video, &'a SavedFrame)>,
    /// Who computes which stage of the job, chosen where `auto` was to choose; the CPU does if none
    /// is named.
    pub providers: &'a BTreeMap<Stage, Provider>,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        (job, providers): (&'a Job, &'a BTreeMap<Stage, Provider>),
        progress: &sampler::Progress<'a>,
    ) -> Self {
        let sampler::Progress { step, tokens, guess, probabilities, rng, frame } = *progress;
        let ([height, width], num_inference_steps) = (job.grid, job.steps());
        let (images, request, source) = (job.images(), &job.request, job.source.as_ref());
        Self {
            step,
            num_inference_steps,
            tokens,
            guess,
            probabilities,
            images,
            height,
            width,
            rng,
            request,
            source,
            video: job.video.as_ref().zip(frame),
            providers,
        }
    }

    /// The part of [`Self::guess`] that is of one image, from 0; `None` if there is no such image.
    pub fn guess_of(&self, image: usize) -> Option<&'a [Option<u32>]> {
        self.guess
            .chunks(self.height.checked_mul(self.width).filter(|tokens| *tokens > 0)?)
            .nth(image)
    }
}

impl Preview {
    /// What an image of a step, from 0, would be if it were finished now, in its own size: see
    /// [`Step::guess`]. Grey where there is no guess yet. `None` if the step has no such image.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use std::ops::ControlFlow;
    /// # use pocketmuse::{Pipeline, Request};
    /// let pipeline = Pipeline::open("tiny-world-package")?;
    /// let preview = pipeline.preview()?;
    /// pipeline.generate(&Request::default(), |step| {
    ///     if let Some(image) = preview.as_ref().and_then(|preview| preview.image(step, 0)) {
    ///         println!("{:?}", image.dimensions());
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), pocketmuse::Error>(())
    /// ```
    pub fn image(&self, step: &Step<'_>, image: usize) -> Option<RgbImage> {
        self.draw(step.guess_of(image)?, step.width)
    }

    /// As [`Self::image`], small: 4 x 4 pixels for each token, as many as this knows of it. An
    /// image of 512 x 512 pixels is 128 x 128 of them: 49 kB instead of 786.
    pub fn thumbnail(&self, step: &Step<'_>, image: usize) -> Option<RgbImage> {
        self.draw_small(step.guess_of(image)?, step.width)
    }
}

/// What the model says of one image in a step.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'a> {
    /// The image, from 0.
    pub image: usize,
    /// Its positions that were asked for, row-major and ascending.
    pub positions: &'a [usize],
    /// A row for each of these positions, as many columns as there are tokens to choose from.
    pub logits: &'a [f32],
    /// Where the model looked in the prompt; `None` if the package does not let it be seen.
    pub attention: Option<&'a Attention>,
}

/// How much of their attention the positions of an image give to the tokens of the prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// A row for each position that the model works on (those of the margin of a tileable image
    /// included), a value for each of the prompt's [`Encoded::ids`]: the mean of all
    /// cross-attentions and heads. A row sums to 1.
    ///
    /// [`Encoded::ids`]: crate::tokenize::Encoded::ids
    pub rows: Vec<Vec<f32>>,
}
