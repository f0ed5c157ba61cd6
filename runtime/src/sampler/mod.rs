//! The sampling loop: masked tokens in, chosen tokens out. Knows no model.

pub(crate) mod arithmetic;
mod draw;
mod halton;
mod kinds;
pub(crate) mod margin;
mod remask;
pub(crate) mod rng;
mod schedule;
pub(crate) mod variation;

use std::{fmt, ops::ControlFlow};

use pocketmuse_package::{Error, ErrorKind};

use draw::Drawer;
pub use kinds::{GuidanceSchedule, Sampler};
pub use schedule::Schedule;

use crate::sampler::rng::{Purpose, Rng};

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

    /// Told what was drawn from its last prediction, before any of it is masked again: an image's
    /// tokens, and the probability of each, `f32::MAX` where none was drawn since it was known
    /// before or its turn has not come.
    fn drawn(&mut self, _image: usize, _tokens: &[Option<u32>], _probabilities: &[f32]) {}
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
            ErrorKind::Runtime,
            format!("logits of image {} at step {}", bad.image, bad.step),
            bad.detail,
        )
    }
}

/// Chooses every masked token of some images, `schedule.steps - schedule.first_step` steps long.
///
/// `tokens` are `images` times as many tokens as an image has, image-major, `None` where masked.
/// They are changed in place: after a step they are what the next step sees. `on_step` is told the
/// step that was just finished (the first is `schedule.first_step`), the tokens and the generator,
/// which is all that going on later needs; when it breaks, sampling stops and the tokens stay as
/// they are. After the last step no token is masked.
///
/// # Errors
///
/// What the model failed with, or [`BadLogits`] if there are too few or too many or they are not
/// numbers.
///
/// # Panics
///
/// If `tokens.len()` is not a multiple of `images`.
pub fn sample<P: Predict>(
    model: &mut P,
    tokens: &mut [Option<u32>],
    images: usize,
    schedule: &Schedule,
    rng: &mut Rng,
    mut on_step: impl FnMut(usize, &[Option<u32>], &Rng) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, P::Error> {
    let cells = tokens.len().checked_div(images).unwrap_or(0);
    assert_eq!(cells * images, tokens.len(), "every image has as many tokens");
    let mut run = Run {
        schedule,
        rng,
        probabilities: vec![0.0; tokens.len()],
        positions: vec![],
        drawer: Drawer::default(),
    };
    for step in schedule.first_step..schedule.steps {
        model.begin(step);
        let masked = run.choose(model, tokens, cells, step)?;
        if step + 1 < schedule.steps && schedule.halton.is_none() {
            run.mask_again(tokens, cells, step, &masked);
        }
        if on_step(step, tokens, run.rng).is_break() {
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

impl Run<'_> {
    /// Draws a code for every masked token. Returns how many were masked, by image.
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
            model.drawn(image, tokens, &self.probabilities[first..first + cells]);
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

    /// Draws the codes of one image, whose first token is number `first` of all.
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
                    let uniform = philox.uniform(Purpose::Code, image, step, position);
                    self.drawer.inverse(row, self.schedule.sharpness(step), uniform)
                }
                Rng::Torch(twister) => self.drawer.race(row, twister),
            };
            let drawn = drawn.ok_or_else(|| {
                format!("expected finite numbers, found others at position {position}")
            })?;
            tokens[position] = Some(drawn.code);
            self.probabilities[first + position] = drawn.probability;
        }
        self.pass_over(tokens.len() - next);
        Ok(())
    }

    /// Torch draws for known tokens too: two words per code.
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
            let confidences = &mut self.probabilities[image_at..image_at + cells];
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
                remask::cut(confidences, self.schedule.mask_len(step, cells, *masked), &mut order);
            for (token, confidence) in
                tokens[image_at..image_at + cells].iter_mut().zip(confidences)
            {
                if *confidence < cut {
                    *token = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
