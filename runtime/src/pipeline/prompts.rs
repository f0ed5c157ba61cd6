//! The prompts of a request as token ids, and what their weights do to the texts that the text
//! encoder makes of them. Knows no graph.
//!
//! A token of weight `w` gets the hidden state `e + w (h - e)`, where `h` is its own and `e` that
//! of the empty prompt at its place: scaling `h` itself would do nothing, since the prologue
//! normalises each token's state. What sums up the whole prompt, the pooled embedding and the
//! states of the end and the padding, has no token to weigh; it becomes `t + (w - 1) (t - u)` with
//! `u` the same of the prompt without the weighted words, for every run of tokens of one weight. So
//! a weight of 0 leaves the pooled embedding of the prompt without the words, and 1 changes no bit.

use std::ops::Range;

use pocketmuse_package::Result;

use super::{kept::About, warm::Texts};
use crate::{
    engine::session::Tensor,
    request::Job,
    stages::Text,
    text::tokenizer::{Tokenizer, Word},
};

/// The prompts in the order of the guidance branches, and how much each branch counts.
pub(crate) struct Prompts {
    branches: Vec<Branch>,
    /// The ids of the empty prompt.
    empty: Vec<u32>,
    pub(crate) guidance: Vec<f32>,
    /// What of a prompt did not fit, for people.
    pub(crate) truncated: Vec<String>,
    /// Words of the prompt that the model hardly knows.
    pub(crate) unknown_words: Vec<String>,
}

/// A prompt's ids, and what its own tokens, from the second on, weigh.
struct Branch {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Prompts {
    /// The prompt, and the negative prompt before it if there is guidance.
    pub(crate) fn new(job: &Job, tokenizer: &Tokenizer, knows: &[String]) -> Result<Self> {
        let request = &job.request;
        let prompt = request.weighted("prompt", &request.prompt)?;
        let words = tokenizer.words(&prompt.text)?;
        let (mut texts, mut guidance) = (vec![("prompt", prompt)], vec![1.0]);
        if job.is_guided() {
            let name = "negative prompt";
            texts.insert(0, (name, request.weighted(name, &request.negative_prompt)?));
            guidance = vec![1.0 - job.guidance_scale, job.guidance_scale];
        }
        let (mut branches, mut truncated) = (Vec::new(), Vec::new());
        for (name, weighted) in texts {
            let encoded = tokenizer.encode(&weighted.text)?;
            let weights = encoded.starts.iter().map(|start| weighted.at(*start)).collect();
            branches.push(Branch { ids: encoded.ids, weights });
            truncated.extend(encoded.truncated.map(|rest| format!("{name}: {rest}")));
        }
        let mut unknown_words = Vec::new();
        for word in words.into_iter().filter(|word| is_unknown(word, knows)).map(|word| word.text) {
            if !unknown_words.contains(&word) {
                unknown_words.push(word);
            }
        }
        let empty = tokenizer.encode("")?.ids;
        Ok(Self { branches, empty, guidance, truncated, unknown_words })
    }

    /// These prompts in an image of `job`.
    pub(crate) fn about(&self, job: &Job) -> About {
        let (micro_conds, grid) = (job.micro_conds(), job.outer_grid());
        let branch = |branch: &Branch| (branch.ids.clone(), branch.weights.clone());
        About { branches: self.branches.iter().map(branch).collect(), micro_conds, grid }
    }

    /// The ids of all texts that [`Self::text`] needs.
    pub(crate) fn needed(&self) -> Vec<Vec<u32>> {
        let mut needed: Vec<_> = self.branches.iter().map(|branch| branch.ids.clone()).collect();
        for branch in self.branches.iter().filter(|branch| branch.is_weighted()) {
            needed.push(self.empty.clone());
            needed
                .extend(branch.runs().into_iter().map(|(run, _)| branch.without(run, &self.empty)));
        }
        needed
    }

    /// The texts of the branches, one after another.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if one is missing or of another size.
    pub(crate) fn text(&self, texts: &Texts) -> Result<Text> {
        let all =
            texts.join(&self.branches.iter().map(|branch| &branch.ids[..]).collect::<Vec<_>>())?;
        if !self.branches.iter().any(Branch::is_weighted) {
            return Ok(all);
        }
        let (mut hidden, mut pooled) = (Vec::new(), Vec::new());
        for branch in &self.branches {
            let text = texts.join(&[&branch.ids])?;
            let mut values = [text.hidden.as_f32()?.to_vec(), text.pooled.as_f32()?.to_vec()];
            if branch.is_weighted() {
                branch.weigh(&text, texts, &self.empty, &mut values)?;
            }
            hidden.extend_from_slice(&values[0]);
            pooled.extend_from_slice(&values[1]);
        }
        Ok(Text {
            hidden: Tensor::f32("hidden", &all.hidden.shape(), hidden)?,
            pooled: Tensor::f32("pooled", &all.pooled.shape(), pooled)?,
        })
    }
}

/// Whether the model hardly knows a word that is none of those that it `knows` by its package. Without
/// such a list the word's pieces tell: a tokenizer that has seen a word often makes long ones.
fn is_unknown(word: &Word, knows: &[String]) -> bool {
    let (pieces, letters) = (word.pieces.len(), word.text.chars().count());
    if letters < 3 || pieces < 2 || !word.text.chars().all(char::is_alphabetic) {
        return false;
    }
    let lower = word.text.to_lowercase();
    let is_listed = |known: &String| known.to_lowercase() == lower;
    if knows.is_empty() { 2 * pieces >= letters } else { !knows.iter().any(is_listed) }
}

impl Branch {
    fn is_weighted(&self) -> bool {
        self.weights.iter().any(|weight| *weight != 1.0)
    }

    /// The runs of its own tokens that have one weight other than 1.
    fn runs(&self) -> Vec<(Range<usize>, f32)> {
        let mut runs: Vec<(Range<usize>, f32)> = Vec::new();
        for (at, weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight != 1.0) {
            match runs.last_mut() {
                Some((run, last)) if run.end == at && last == weight => run.end += 1,
                _ => runs.push((at..at + 1, *weight)),
            }
        }
        runs
    }

    /// The ids of the prompt without a run, padded as `empty` is.
    fn without(&self, run: Range<usize>, empty: &[u32]) -> Vec<u32> {
        let (before, after) = (&self.ids[..=run.start], &self.ids[run.end + 1..]);
        let padding = vec![empty.last().copied().unwrap_or_default(); run.len()];
        [before, after, &padding[..]].concat()
    }

    /// Weighs hidden states and the pooled embedding, `values`, of this prompt's `text`.
    fn weigh(
        &self,
        text: &Text,
        texts: &Texts,
        empty: &[u32],
        [hidden, pooled]: &mut [Vec<f32>; 2],
    ) -> Result<()> {
        let nothing = texts.join(&[empty])?;
        let (width, nothing) = (hidden.len() / self.ids.len(), nothing.hidden.as_f32()?);
        for (at, weight) in (1..).zip(&self.weights).filter(|(_, weight)| **weight != 1.0) {
            let states = hidden.iter_mut().zip(nothing).skip(at * width).take(width);
            states.for_each(|(state, origin)| *state = origin + weight * (*state - origin));
        }
        let end = (1 + self.weights.len()) * width;
        for (run, weight) in self.runs() {
            let without = texts.join(&[&self.without(run, empty)])?;
            grow(
                &mut hidden[end..],
                &text.hidden.as_f32()?[end..],
                &without.hidden.as_f32()?[end..],
                weight,
            );
            grow(pooled, text.pooled.as_f32()?, without.pooled.as_f32()?, weight);
        }
        Ok(())
    }
}

/// Adds to `values` what a weight changes: `(weight - 1) (with - without)`.
fn grow(values: &mut [f32], with: &[f32], without: &[f32], weight: f32) {
    let differences = with.iter().zip(without).map(|(with, without)| with - without);
    values
        .iter_mut()
        .zip(differences)
        .for_each(|(value, difference)| *value += (weight - 1.0) * difference);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text encoder of two numbers a token: the id, and the sum of the ids up to it; the sum of
    /// all is pooled.
    fn encoded(ids: &[u32]) -> Text {
        let mut sum = 0.0;
        let states = ids.iter().flat_map(|id| {
            sum += *id as f32;
            [*id as f32, sum]
        });
        let hidden = Tensor::f32("hidden", &[1, ids.len(), 2], states.collect()).expect("a tensor");
        Text { hidden, pooled: Tensor::f32("pooled", &[1, 1], vec![sum]).expect("a tensor") }
    }

    fn text(weights: &[f32]) -> [Vec<f32>; 2] {
        crate::Runtime::for_tests();
        let branch = Branch { ids: vec![0, 10, 20, 30, 1, 1], weights: weights.to_vec() };
        let (empty, guidance, truncated) = (vec![0, 1, 1, 1, 1, 1], vec![1.0], Vec::new());
        let unknown_words = Vec::new();
        let prompts = Prompts { branches: vec![branch], empty, guidance, truncated, unknown_words };
        let mut texts = Texts::default();
        prompts.needed().iter().for_each(|ids| texts.keep(ids, encoded(ids)));
        let text = prompts.text(&texts).expect("all are there");
        [
            text.hidden.as_f32().expect("numbers").to_vec(),
            text.pooled.as_f32().expect("numbers").to_vec(),
        ]
    }

    #[test]
    fn a_weight_moves_its_tokens_and_the_sum() {
        let plain = [0.0, 0.0, 10.0, 10.0, 20.0, 30.0, 30.0, 60.0, 1.0, 61.0, 1.0, 62.0];
        assert_eq!(text(&[1.0; 3]), [plain.to_vec(), vec![62.0]]);
        // 1 + 2 (20 - 1), 2 + 2 (30 - 2); 61 + (61 - 42), 62 + (62 - 43)
        let doubled = [0.0, 0.0, 10.0, 10.0, 39.0, 58.0, 30.0, 60.0, 1.0, 80.0, 1.0, 81.0];
        assert_eq!(text(&[1.0, 2.0, 1.0]), [doubled.to_vec(), vec![81.0]]);
        // As if the words were not there; the last state is that of one more padding.
        let [hidden, pooled] = text(&[1.0, 0.0, 0.0]);
        assert_eq!((&hidden[4..8], &pooled[..]), (&[1.0, 2.0, 1.0, 3.0][..], &[14.0][..]));
    }

    #[test]
    fn weights_of_several_runs_add_up() {
        let [_, pooled] = text(&[2.0, 1.0, 0.5]);
        assert_eq!(pooled, [62.0 + (62.0 - 53.0) - 0.5 * (62.0 - 33.0)]);
        let runs = Branch { ids: vec![0; 9], weights: vec![2.0, 2.0, 3.0, 1.0, 3.0, 1.0] }.runs();
        assert_eq!(runs, [(0..2, 2.0), (2..3, 3.0), (4..5, 3.0)]);
    }

    #[test]
    fn a_word_that_is_spelled_is_hardly_known() {
        let word = |text: &str, pieces: &[&str]| Word {
            text: text.to_owned(),
            bytes: 0..text.len(),
            tokens: 1..1 + pieces.len(),
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
        };
        let list = ["Wigwam".to_owned()];
        for (text, pieces, spelled, unlisted) in [
            ("cat", &["ca", "t"][..], true, true),
            ("elephant", &["el", "e", "ph", "an", "t"], true, true),
            ("wigwam", &["wi", "gw", "am"], true, false),
            ("house", &["house"], false, false),
            ("lighthouses", &["lighthouse", "s"], false, true),
            ("TV", &["T", "V"], false, false),
            ("12:30", &["1", "2", ":", "3", "0"], false, false),
        ] {
            let word = word(text, pieces);
            let found = [&[][..], &list].map(|knows| is_unknown(&word, knows));
            assert_eq!(found, [spelled, unlisted], "{text}");
        }
    }
}
