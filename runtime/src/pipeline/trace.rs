//! Looking inside: what was chosen at every step, how sure the model was, and which words it looked
//! at. Collects plain values while an image is made; knows no file. See
//! [`Pipeline::trace`](crate::Pipeline::trace).

use std::{
    mem,
    ops::{ControlFlow, Range},
};

use pocketmuse_package::{Error, ErrorKind, Model, Result};
use serde::Serialize;

use super::watch::{Attention, Prediction, Step, Watch};
pub use crate::text::tokenizer::Word;
use crate::{arithmetic, request::Job};

/// What went on inside while images were made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The prompt's words, in its order. Their places are those in the prompt without its weights.
    pub words: Vec<Word>,
    /// Rows of tokens in an image, and tokens in a row.
    pub grid: [usize; 2],
    /// Rows and columns of the maps of attention: the grid's, or half of each where the model works
    /// on half the grid.
    pub attention_grid: [usize; 2],
    /// Whether the package lets attention be looked at. Packages exported before it was possible do
    /// not.
    pub has_attention: bool,
    /// Steps that a resumed job had made before this trace began: what they fixed and looked at is
    /// not in it. Else 0.
    pub unseen_steps: usize,
    /// The steps of each image.
    #[serde(rename = "pictures")]
    pub images: Vec<Vec<TracedStep>>,
}

/// One step of one image. Positions are row-major.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TracedStep {
    /// Which, from 0.
    pub step: usize,
    /// The tokens after the step, `None` where masked.
    pub tokens: Vec<Option<u32>>,
    /// The probability that each token drawn in this step had; `None` where none was drawn. Drawn
    /// tokens that are masked after the step were too unsure.
    pub confidence: Vec<Option<f32>>,
    /// How undecided the model was, in bits, from 0 to the logarithm of the number of tokens to
    /// choose from; `None` as above.
    pub entropy: Vec<Option<f32>>,
    /// How much of their attention the positions of `attention_grid` give to each word: the mean of
    /// all cross-attentions and heads. With the rest, what a position gives sums to 1. Empty
    /// without attention.
    pub words: Vec<Vec<f32>>,
    /// What goes to no word, the mean over the positions.
    pub rest: Rest,
}

/// Attention to the tokens around a prompt, each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rest {
    /// The token before the prompt, where attention goes that nothing calls for.
    pub begin: f32,
    /// The token after it, where the text encoder gathers the whole prompt.
    pub end: f32,
    /// The tokens that fill up, which know the whole prompt, too.
    pub padding: f32,
}

impl Trace {
    /// How much attention an image gave to a word: 1 is as much as to the prompt's words on
    /// average. `None` if there was no attention to look at, no step, or the word was cut off.
    pub fn share(&self, image: usize, word: usize) -> Option<f32> {
        let kept = self.words.iter().filter(|word| !word.tokens.is_empty()).count();
        let all: f64 = (0..self.words.len()).filter_map(|word| self.total(image, word)).sum();
        let own =
            self.total(image, word).filter(|_| !self.words[word].tokens.is_empty() && all > 0.0)?;
        Some((own * kept as f64 / all) as f32)
    }

    /// The mean map of attention to a word over all steps of an image. `None` as for
    /// [`Self::share`].
    pub fn map(&self, image: usize, word: usize) -> Option<Vec<f32>> {
        let maps: Vec<_> = self.maps(image, word).collect();
        let mean =
            |position: usize| maps.iter().map(|map| map[position]).sum::<f32>() / maps.len() as f32;
        (!maps.is_empty()).then(|| (0..maps[0].len()).map(mean).collect())
    }

    /// The step, from 0, after which each token of an image was never masked again; `None` if it
    /// was known before the first step that is seen.
    pub fn fixed(&self, image: usize) -> Vec<Option<usize>> {
        let steps = self.images.get(image).map_or(&[][..], Vec::as_slice);
        let fixed = |position: usize| {
            let drawn = steps.iter().rev().find(|step| step.confidence[position].is_some())?;
            Some(drawn.step)
        };
        (0..self.grid[0] * self.grid[1]).map(fixed).collect()
    }

    fn maps(&self, image: usize, word: usize) -> impl Iterator<Item = &Vec<f32>> {
        self.images.get(image).into_iter().flatten().filter_map(move |step| step.words.get(word))
    }

    fn total(&self, image: usize, word: usize) -> Option<f64> {
        let mut maps = self.maps(image, word).peekable();
        maps.peek()?;
        Some(maps.flatten().map(|value| f64::from(*value)).sum())
    }
}

/// Collects a [`Trace`] while it watches a job; see [`Pipeline::tracer`](crate::Pipeline::tracer).
#[derive(Clone, Debug)]
pub struct Tracer {
    trace: Trace,
    /// The step at hand, by image.
    steps: Vec<TracedStep>,
}

impl Tracer {
    /// A tracer of `job`, whose prompt has these words.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a job that is more than one pass, or whose images have a margin.
    pub(super) fn new(job: &Job, words: Vec<Word>, model: &Model) -> Result<Self> {
        let refused = |at, detail| Err(Error::new(ErrorKind::BadRequest, at, detail));
        if job.redone_from.is_some() {
            let detail =
                "expected none where a trace is wanted, found one: trace the image that it varies";
            return refused("variation", detail);
        }
        if job.margin != [0; 2] {
            let detail = "expected no where a trace is wanted, found an image whose edges meet";
            return refused("tileable", detail);
        }
        if job.video.is_some() {
            return refused("video", "expected an image where a trace is wanted, found a video");
        }
        let trace = Trace {
            words,
            grid: job.grid,
            attention_grid: job.grid.map(|side| side / (model.grid_multiple as usize).max(1)),
            has_attention: false,
            unseen_steps: job.steps_made(),
            images: vec![Vec::new(); job.images()],
        };
        let steps = vec![TracedStep::blank(job.tokens_per_image()); job.images()];
        Ok(Self { trace, steps })
    }

    /// What was seen.
    pub fn finish(self) -> Trace {
        self.trace
    }
}

impl Watch for Tracer {
    fn wants_predictions(&self) -> bool {
        true
    }

    fn prediction(&mut self, prediction: &Prediction<'_>) {
        let Prediction { image, positions, logits, attention } = *prediction;
        let step = &mut self.steps[image];
        let tokens = logits.len().checked_div(positions.len()).unwrap_or(0).max(1);
        for (position, row) in positions.iter().zip(logits.chunks_exact(tokens)) {
            step.entropy[*position] = Some(entropy(row));
        }
        if let Some(Attention { rows }) = attention {
            self.trace.has_attention = true;
            step.look(rows, &self.trace.words);
        }
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        let count = step.height * step.width;
        let drawn = |probability: &f32| (*probability < f32::MAX).then_some(*probability);
        for (image, steps) in self.trace.images.iter_mut().enumerate() {
            let seen = mem::replace(&mut self.steps[image], TracedStep::blank(count));
            steps.push(TracedStep {
                step: step.step,
                tokens: step.tokens[image * count..][..count].to_vec(),
                confidence: step.probabilities[image * count..][..count]
                    .iter()
                    .map(drawn)
                    .collect(),
                ..seen
            });
        }
        ControlFlow::Continue(())
    }
}

impl TracedStep {
    /// A step of which nothing was seen yet.
    fn blank(tokens: usize) -> Self {
        let nothing = vec![None; tokens];
        Self {
            step: 0,
            tokens: vec![None; tokens],
            confidence: nothing.clone(),
            entropy: nothing,
            words: Vec::new(),
            rest: Rest::default(),
        }
    }

    /// Takes what each position gives to the tokens of the prompt.
    fn look(&mut self, rows: &[Vec<f32>], words: &[Word]) {
        let of_positions =
            |tokens: Range<usize>| rows.iter().map(move |row| sum(row, tokens.clone()));
        let mean = |tokens: Range<usize>| of_positions(tokens).sum::<f32>() / rows.len() as f32;
        let (end, all) =
            (words.last().map_or(1, |last| last.tokens.end), rows.first().map_or(0, Vec::len));
        self.words = words.iter().map(|word| of_positions(word.tokens.clone()).collect()).collect();
        self.rest =
            Rest { begin: mean(0..1), end: mean(end..end + 1), padding: mean(end + 1..all) };
    }
}

/// The sum of a row's values at `tokens`, as far as there are such.
fn sum(row: &[f32], tokens: Range<usize>) -> f32 {
    row.get(tokens).unwrap_or_default().iter().sum()
}

/// The entropy of the softmax of a row, in bits.
fn entropy(logits: &[f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut total, mut weighted) = (0.0, 0.0);
    for logit in logits {
        let below = logit - largest;
        let weight = f64::from(arithmetic::exp(below));
        total += weight;
        if weight > 0.0 {
            weighted += weight * f64::from(below);
        }
    }
    // -sum p ln p, with p = weight / total and ln p = below - ln total
    ((arithmetic::ln(total) - weighted / total) / std::f64::consts::LN_2).max(0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_in_bits() {
        for (logits, bits) in [
            (&[0.0f32; 8][..], 3.0),
            (&[5.0], 0.0),
            (&[7.0, 7.0, f32::NEG_INFINITY], 1.0),
            (&[90.0, 0.0], 0.0),
            // p = numpy.array([.5, .25, .25]); print(-(p * numpy.log2(p)).sum())
            (&[std::f32::consts::LN_2, 0.0, 0.0], 1.5),
        ] {
            assert!(
                (entropy(logits) - bits).abs() < 1e-6,
                "{logits:?}: expected {bits}, found {}",
                entropy(logits)
            );
        }
    }

    fn word(text: &str, tokens: Range<usize>) -> Word {
        Word { text: text.to_owned(), bytes: 0..text.len(), tokens, pieces: vec![text.to_owned()] }
    }

    fn step(step: usize, confidence: [Option<f32>; 2], words: [f32; 3]) -> TracedStep {
        let words = words.map(|value| vec![value; 2]).to_vec();
        let confidence = confidence.to_vec();
        TracedStep {
            step,
            tokens: vec![None; 2],
            entropy: confidence.clone(),
            confidence,
            words,
            rest: Rest::default(),
        }
    }

    #[test]
    fn words_share_attention_and_tokens_stay_fixed() {
        let trace = Trace {
            words: vec![word("a", 1..2), word("tree", 2..4), word("cut", 4..4)],
            grid: [1, 2],
            attention_grid: [1, 2],
            has_attention: true,
            unseen_steps: 0,
            images: vec![
                vec![
                    step(0, [Some(0.5), None], [0.1, 0.2, 0.0]),
                    step(1, [Some(0.9), None], [0.0, 0.1, 0.0]),
                ],
                vec![],
            ],
        };
        let close = |found: Option<f32>, expected: f32| {
            found.is_some_and(|found| (found - expected).abs() < 1e-6)
        };
        assert!(close(trace.share(0, 0), 0.5), "{:?}", trace.share(0, 0));
        assert!(close(trace.share(0, 1), 1.5));
        assert_eq!((trace.share(0, 2), trace.share(1, 0)), (None, None), "cut off, and no step");
        assert!(close(trace.map(0, 1).map(|map| map[0]), 0.15));
        assert_eq!(trace.fixed(0), [Some(1), None]);
    }
}
