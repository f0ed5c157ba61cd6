//! The sampling loop: masked tokens in, chosen tokens out. Knows no model.

mod canvas;
mod draw;
mod frames;
pub(crate) mod guidance;
mod halton;
pub(crate) mod margin;
pub(crate) mod noise;
pub(crate) mod pass;
mod remask;
pub(crate) mod rng;
mod schedule;

use std::{fmt, ops::ControlFlow};

use pocketmuse_package::{Error, ErrorKind};

use crate::request::job::SavedFrame;

pub use self::{canvas::Canvas, schedule::Schedule};
use self::{
    draw::Drawer,
    rng::{Purpose, Rng},
};

/// A model, as the sampler sees it.
pub trait Predict {
    /// What a prediction fails with.
    type Error: From<BadLogits>;

    /// Told which step comes, for models that depend on it; most do not.
    fn begin(&mut self, _step: usize) {}

    /// The logits of one image at the positions asked for, guidance applied.
    ///
    /// `tokens` are the image's tokens, `None` where masked; `positions` are indices into them,
    /// ascending, at least one. Returns `[positions, codebook_size]`, row-major.
    ///
    /// # Errors
    ///
    /// Whatever the model fails with; it ends the sampling.
    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], Self::Error>;
}

/// A step that was just finished.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Which, from 0.
    pub step: usize,
    /// The tokens of all images, as the next step sees them.
    pub tokens: &'a [Option<u32>],
    /// The tokens as the step drew them, before the unsure ones were masked again; `None` where
    /// nothing was drawn yet.
    pub guess: &'a [Option<u32>],
    /// The probability that each token was drawn with, `f32::MAX` where none was drawn since it was
    /// known before or its turn has not come.
    pub probabilities: &'a [f32],
    /// The generator as the step left it.
    pub rng: &'a Rng,
    /// Of a video: the frame in the making.
    pub(crate) frame: Option<&'a SavedFrame>,
}

/// Logits that nothing can be drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLogits {
    /// The step, from 0.
    pub step: usize,
    /// The image, from 0.
    pub image: usize,
    /// What was expected and found.
    pub detail: String,
}

impl fmt::Display for BadLogits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logits of image {} at step {}: {}", self.image, self.step, self.detail)
    }
}

impl std::error::Error for BadLogits {}

impl From<BadLogits> for Error {
    fn from(bad: BadLogits) -> Self {
        Self::new(
            ErrorKind::EngineFailed,
            format!("logits of image {} at step {}", bad.image, bad.step),
            bad.detail,
        )
    }
}

/// Chooses every masked token of a canvas, in `schedule.steps - schedule.first_step` steps.
///
/// The canvas is changed in place: after a step it is what the next step sees, and all that going
/// on later needs. `on_step` is told of every step when it is finished (the first is
/// `schedule.first_step`), together with the model; when it breaks, sampling stops and the canvas
/// stays as it is. After the last step no token is masked.
///
/// # Errors
///
/// What the model failed with, or [`BadLogits`] if there are too few or too many or they are not
/// numbers.
pub fn sample<P: Predict>(
    model: &mut P,
    canvas: &mut Canvas,
    schedule: &Schedule,
    mut on_step: impl FnMut(&mut P, &Progress<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, P::Error> {
    let count = canvas.tokens_per_image();
    let Canvas { tokens, rng, .. } = canvas;
    let (mut guess, mut run) = (Vec::new(), Run::new(schedule, rng, tokens.len()));
    for step in schedule.first_step..schedule.steps {
        model.begin(step);
        let masked = run.choose(model, tokens, count, step)?;
        guess.clone_from(tokens);
        if step + 1 < schedule.steps && schedule.halton.is_none() {
            run.mask_again(tokens, count, step, &masked);
        }
        let (guess, probabilities) = (&guess, &run.probabilities);
        let rng = &*run.rng;
        let progress = Progress { step, tokens, guess, probabilities, rng, frame: None };
        if on_step(model, &progress).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// What a run keeps from step to step.
struct Run<'a> {
    schedule: &'a Schedule,
    rng: &'a mut Rng,
    /// Of every token: the probability it was drawn with in this step, `f32::MAX` if it was known
    /// before.
    probabilities: Vec<f32>,
    positions: Vec<usize>,
    drawer: Drawer,
}

impl<'a> Run<'a> {
    fn new(schedule: &'a Schedule, rng: &'a mut Rng, tokens: usize) -> Self {
        let (probabilities, positions) = (vec![f32::MAX; tokens], Vec::new());
        Self { schedule, rng, probabilities, positions, drawer: Drawer::default() }
    }

    /// Draws a token for every masked token. Returns how many were masked, by image.
    fn choose<P: Predict>(
        &mut self,
        model: &mut P,
        tokens: &mut [Option<u32>],
        cells: usize,
        step: usize,
    ) -> Result<Vec<usize>, P::Error> {
        let mut masked = Vec::new();
        for (image, first) in (0..tokens.len()).step_by(cells.max(1)).enumerate() {
            let tokens = &mut tokens[first..first + cells];
            self.positions.clear();
            self.positions.extend((0..cells).filter(|position| tokens[*position].is_none()));
            masked.push(self.positions.len());
            self.probabilities[first..first + cells].fill(f32::MAX);
            if self.positions.is_empty() {
                self.pass_over(cells);
                continue;
            }
            if let Some(grid) = self.schedule.halton {
                self.keep_next(image, step, grid);
            }
            let logits = model.predict(image, tokens, &self.positions)?;
            self.draw(image, step, logits, tokens, first).map_err(|detail| BadLogits {
                step,
                image,
                detail,
            })?;
        }
        Ok(masked)
    }

    /// Keeps of the masked positions those that the Halton order brings in this step.
    fn keep_next(&mut self, image: usize, step: usize, grid: [usize; 2]) {
        let (cells, masked) = (grid[0] * grid[1], self.positions.len());
        let roll = match self.rng {
            Rng::Own(philox) => {
                (philox.uniform(Purpose::Order, image, 0, 0) * cells as f64) as usize
            }
            Rng::Torch(_) => 0,
        };
        let mut is_masked = vec![false; cells];
        self.positions.iter().for_each(|position| is_masked[*position] = true);
        let next = halton::order(grid, roll).into_iter().filter(|position| is_masked[*position]);
        let count = masked - self.schedule.mask_len(step, cells, masked).min(masked - 1);
        self.positions = next.take(count).collect();
        self.positions.sort_unstable();
    }

    /// Draws the tokens of one image, whose first token is number `first` of all.
    fn draw(
        &mut self,
        image: usize,
        step: usize,
        logits: &[f32],
        tokens: &mut [Option<u32>],
        first: usize,
    ) -> Result<(), String> {
        let columns = self.schedule.codebook_size;
        let expected = self.positions.len().saturating_mul(columns);
        if logits.len() != expected || columns == 0 {
            let rows = self.positions.len();
            return Err(format!(
                "expected {rows} rows of {columns}, found {} numbers",
                logits.len()
            ));
        }
        let mut next = 0;
        for (index, row) in logits.chunks_exact(columns).enumerate() {
            let position = self.positions[index];
            self.pass_over(position - next);
            next = position + 1;
            let drawn = match self.rng {
                Rng::Own(philox) => {
                    let uniform = philox.uniform(Purpose::Token, image, step, position);
                    self.drawer.inverse(row, self.schedule.sharpness(step), uniform)
                }
                Rng::Torch(twister) => self.drawer.race(row, twister),
            };
            let drawn = drawn.ok_or_else(|| {
                format!("expected finite numbers, found others at position {position}")
            })?;
            tokens[position] = Some(drawn.token);
            self.probabilities[first + position] = drawn.probability;
        }
        self.pass_over(tokens.len() - next);
        Ok(())
    }

    /// Torch draws for known tokens too: two words per token to choose from.
    fn pass_over(&mut self, known: usize) {
        if let Rng::Torch(twister) = self.rng {
            twister.skip(2 * (known * self.schedule.codebook_size) as u64);
        }
    }

    /// Masks the least confident tokens of every image.
    fn mask_again(
        &mut self,
        tokens: &mut [Option<u32>],
        cells: usize,
        step: usize,
        masked: &[usize],
    ) {
        let temperature = self.schedule.temperature(step);
        let mut order = Vec::with_capacity(cells);
        for (image, masked) in masked.iter().enumerate() {
            let image_at = image * cells;
            let mut confidences = self.probabilities[image_at..image_at + cells].to_vec();
            for (position, value) in confidences.iter_mut().enumerate() {
                let noise = match self.rng {
                    Rng::Own(philox) => {
                        remask::gumbel(philox.uniform(Purpose::Confidence, image, step, position))
                    }
                    Rng::Torch(twister) => remask::gumbel_as_torch(twister.uniform()),
                };
                *value = remask::confidence(*value, temperature, noise);
            }
            let cut =
                remask::cut(&confidences, self.schedule.mask_len(step, cells, *masked), &mut order);
            for (token, confidence) in
                tokens[image_at..image_at + cells].iter_mut().zip(confidences)
            {
                if confidence < cut {
                    *token = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
