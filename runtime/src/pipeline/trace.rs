//! Looking inside: what was chosen at every step, how sure the model was, and which words it looked
//! at. Collects plain values while a picture is made; knows no file. See
//! [`Pipeline::trace`](crate::Pipeline::trace).

use std::{cell::RefCell, collections::BTreeMap};

use pocketmuse_package::{ATTENTION, Error, ErrorKind, Model, Result};
use serde::Serialize;

use crate::{
    engine::session::{Taps, Tensor},
    request::Resolved,
    sampler::Predict,
    sampler::arithmetic,
    stages::Prompted,
};

pub use crate::text::tokenizer::Word;

/// The tapped values that a trace reads.
pub(crate) const WANTED: Taps = |name| name.starts_with(ATTENTION);

/// What went on inside while pictures were made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The prompt's words, in its order. Their places are those in the prompt without its weights.
    pub words: Vec<Word>,
    /// Rows of tokens in a picture, and tokens in a row.
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
    /// The steps of each picture.
    pub pictures: Vec<Vec<TracedStep>>,
}

/// One step of one picture. Positions are row-major.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TracedStep {
    /// Which, from 0.
    pub step: usize,
    /// The tokens after the step, `None` where masked.
    pub tokens: Vec<Option<u32>>,
    /// The probability that each token drawn in this step had; `None` where none was drawn. Drawn
    /// tokens that are masked after the step were too unsure.
    pub confidence: Vec<Option<f32>>,
    /// How undecided the model was, in bits, from 0 to the logarithm of the number of codes; `None`
    /// as above.
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
    /// How much attention a picture gave to a word: 1 is as much as to the prompt's words on
    /// average. `None` if there was no attention to look at, no step, or the word was cut off.
    pub fn share(&self, picture: usize, word: usize) -> Option<f32> {
        let kept = self.words.iter().filter(|word| !word.tokens.is_empty()).count();
        let all: f64 = (0..self.words.len()).filter_map(|word| self.total(picture, word)).sum();
        let own = self
            .total(picture, word)
            .filter(|_| !self.words[word].tokens.is_empty() && all > 0.0)?;
        Some((own * kept as f64 / all) as f32)
    }

    /// The mean map of attention to a word over all steps of a picture. `None` as for
    /// [`Self::share`].
    pub fn map(&self, picture: usize, word: usize) -> Option<Vec<f32>> {
        let maps: Vec<_> = self.maps(picture, word).collect();
        let mean =
            |position: usize| maps.iter().map(|map| map[position]).sum::<f32>() / maps.len() as f32;
        (!maps.is_empty()).then(|| (0..maps[0].len()).map(mean).collect())
    }

    /// The step, from 0, after which each token of a picture was never masked again; `None` if it
    /// was known before the first step that is seen.
    pub fn fixed(&self, picture: usize) -> Vec<Option<usize>> {
        let steps = self.pictures.get(picture).map_or(&[][..], Vec::as_slice);
        let fixed = |position: usize| {
            let drawn = steps.iter().rev().find(|step| step.confidence[position].is_some())?;
            Some(drawn.step)
        };
        (0..self.grid[0] * self.grid[1]).map(fixed).collect()
    }

    fn maps(&self, picture: usize, word: usize) -> impl Iterator<Item = &Vec<f32>> {
        self.pictures
            .get(picture)
            .into_iter()
            .flatten()
            .filter_map(move |step| step.words.get(word))
    }

    fn total(&self, picture: usize, word: usize) -> Option<f64> {
        let mut maps = self.maps(picture, word).peekable();
        maps.peek()?;
        Some(maps.flatten().map(|value| f64::from(*value)).sum())
    }
}

/// Collects a [`Trace`].
pub(crate) struct Tracer {
    trace: Trace,
    cells: usize,
}

impl Tracer {
    pub(crate) fn new(
        words: Vec<Word>,
        job: &Resolved,
        model: &Model,
        unseen_steps: usize,
    ) -> Self {
        let attention_grid = job.grid.map(|side| side / (model.grid_multiple as usize).max(1));
        let pictures = vec![Vec::new(); job.images()];
        let trace = Trace {
            words,
            grid: job.grid,
            attention_grid,
            has_attention: false,
            unseen_steps,
            pictures,
        };
        Self { trace, cells: job.grid[0] * job.grid[1] }
    }

    /// The trace, with the tokens that all pictures had after each step.
    pub(crate) fn finish(mut self, tokens: &[Vec<Option<u32>>]) -> Trace {
        for (picture, steps) in self.trace.pictures.iter_mut().enumerate() {
            for (step, tokens) in steps.iter_mut().zip(tokens) {
                step.tokens = tokens[picture * self.cells..][..self.cells].to_vec();
            }
        }
        self.trace
    }

    fn begin(&mut self, step: usize) {
        let nothing = vec![None; self.cells];
        let blank = TracedStep {
            step,
            tokens: vec![None; self.cells],
            confidence: nothing.clone(),
            entropy: nothing,
            words: Vec::new(),
            rest: Rest::default(),
        };
        self.trace.pictures.iter_mut().for_each(|steps| steps.push(blank.clone()));
    }

    /// The step that was begun last.
    fn step(&mut self, image: usize) -> &mut TracedStep {
        self.trace.pictures[image].last_mut().expect("a step is begun before it is predicted")
    }

    fn predicted(&mut self, image: usize, positions: &[usize], logits: &[f32]) {
        let codes = logits.len().checked_div(positions.len()).unwrap_or(0).max(1);
        let entropies = self.step(image).entropy.as_mut_slice();
        for (position, row) in positions.iter().zip(logits.chunks_exact(codes)) {
            entropies[*position] = Some(entropy(row));
        }
    }

    fn drawn(&mut self, image: usize, probabilities: &[f32]) {
        let drawn = |probability: &f32| (*probability < f32::MAX).then_some(*probability);
        self.step(image).confidence = probabilities.iter().map(drawn).collect();
    }

    /// Takes the weights of the cross-attentions. The prompt's branch is the last.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if they are of other shapes than the format says.
    fn attended(&mut self, image: usize, taps: &BTreeMap<String, Tensor>) -> Result<()> {
        let positions = self.trace.attention_grid[0] * self.trace.attention_grid[1];
        let mut mean = Mean::default();
        for (name, tap) in taps.iter().filter(|(name, _)| WANTED(name)) {
            mean.add(&tap.shape(), tap.as_f32()?, positions).map_err(|error| error.within(name))?;
        }
        if mean.count == 0 {
            return Ok(());
        }
        self.trace.has_attention = true;
        let rows = mean.rows();
        let words: Vec<_> = self.trace.words.iter().map(|word| word.tokens.clone()).collect();
        let end = words.last().map_or(1, |last| last.end);
        let step = self.step(image);
        step.words = words
            .into_iter()
            .map(|tokens| rows.iter().map(|row| sum(row, tokens.clone())).collect())
            .collect();
        let over_positions = |tokens: std::ops::Range<usize>| {
            rows.iter().map(|row| sum(row, tokens.clone())).sum::<f32>() / rows.len() as f32
        };
        step.rest = Rest {
            begin: over_positions(0..1),
            end: over_positions(end..end + 1),
            padding: over_positions(end + 1..mean.tokens),
        };
        Ok(())
    }
}

/// The sum of a row's values at `tokens`, as far as there are such.
fn sum(row: &[f32], tokens: std::ops::Range<usize>) -> f32 {
    row.get(tokens).unwrap_or_default().iter().sum()
}

/// A mean of attention weights, `[positions, tokens]`.
#[derive(Default)]
struct Mean {
    sums: Vec<f64>,
    tokens: usize,
    count: usize,
}

impl Mean {
    /// Adds all heads of the last branch of `[branches, heads, positions, tokens]` weights.
    fn add(&mut self, shape: &[usize], weights: &[f32], positions: usize) -> Result<()> {
        let &[branches, heads, rows, tokens] = shape else { return Err(other(shape, positions)) };
        let plane = rows * tokens;
        if shape.contains(&0)
            || rows != positions
            || weights.len() != branches * heads * plane
            || ![0, plane].contains(&self.sums.len())
        {
            return Err(other(shape, positions));
        }
        self.sums.resize(plane, 0.0);
        self.tokens = tokens;
        for head in weights[(branches - 1) * heads * plane..].chunks_exact(plane) {
            self.sums.iter_mut().zip(head).for_each(|(sum, weight)| *sum += f64::from(*weight));
            self.count += 1;
        }
        Ok(())
    }

    /// The mean, a row for each position.
    fn rows(&self) -> Vec<Vec<f32>> {
        let mean = |sum: &f64| (sum / self.count as f64) as f32;
        self.sums.chunks_exact(self.tokens).map(|row| row.iter().map(mean).collect()).collect()
    }
}

fn other(shape: &[usize], positions: usize) -> Error {
    let detail = format!("expected f32 [branches, heads, {positions}, tokens], found {shape:?}");
    Error::new(ErrorKind::PackageDamaged, "", detail)
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

/// A model that tells what was drawn from it and, if there is a tracer, what it does.
pub(crate) struct Traced<'a, 'b> {
    pub(crate) model: Prompted<'a>,
    pub(crate) tracer: Option<&'b mut Tracer>,
    /// The tokens of all pictures as last drawn, before any was masked again.
    pub(crate) guess: &'b RefCell<Vec<Option<u32>>>,
}

impl Predict for Traced<'_, '_> {
    type Error = Error;

    fn begin(&mut self, step: usize) {
        self.model.begin(step);
        if let Some(tracer) = &mut self.tracer {
            tracer.begin(step);
        }
    }

    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        let Some(tracer) = &mut self.tracer else {
            return self.model.predict(image, tokens, positions);
        };
        self.model.predict(image, tokens, positions)?;
        tracer.attended(image, self.model.taps())?;
        let logits = self.model.logits()?;
        tracer.predicted(image, positions, logits);
        Ok(logits)
    }

    fn drawn(&mut self, image: usize, tokens: &[Option<u32>], probabilities: &[f32]) {
        self.guess.borrow_mut()[image * tokens.len()..][..tokens.len()].copy_from_slice(tokens);
        if let Some(tracer) = &mut self.tracer {
            tracer.drawn(image, probabilities);
        }
    }
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

    #[test]
    fn attention_is_the_mean_of_the_prompts_branch() {
        let mut mean = Mean::default();
        // Two branches, two heads, one position, two tokens; then one head of another layer.
        mean.add(&[2, 2, 1, 2], &[9.0, 9.0, 9.0, 9.0, 0.2, 0.8, 0.4, 0.6], 1)
            .expect("as the format says");
        mean.add(&[2, 1, 1, 2], &[9.0, 9.0, 0.9, 0.1], 1).expect("as the format says");
        assert_eq!(mean.rows(), [[0.5, 0.5]]);
        for (shape, weights) in [
            (&[1, 1, 2, 1][..], &[0.5f32, 0.5][..]),
            (&[1, 1, 1, 3], &[0.5; 3]),
            (&[1, 1, 1], &[1.0]),
            (&[2, 1, 1, 2], &[1.0]),
            (&[0, 1, 1, 2], &[]),
        ] {
            let error = mean.add(shape, weights, 1).expect_err("another shape");
            assert!(
                error.detail().starts_with("expected f32 [branches, heads, 1, tokens], found"),
                "{error}"
            );
        }
    }

    fn word(text: &str, tokens: std::ops::Range<usize>) -> Word {
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
            pictures: vec![
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
