//! What stays between images: stages that the plan keeps loaded, and what was encoded last. Knows
//! no order of things.

use std::{collections::VecDeque, mem};

use pocketmuse_package::{Digest, ErrorKind, Result, Stage};

use super::kept::{KeptPrompt, bytes_of};
use crate::{
    memory::plan::{Plan, StagePlan},
    package::How,
    stages::{Decoder, Encoder, Predictor, Prologue, Text, TextEncoder},
};

/// Texts that are kept: a few prompts and the empty one, 262 kB each.
const TEXTS: usize = 8;

/// The stages that are loaded, the last texts, what the last prompts became, and the tokens of the
/// last image by the digest of its pixels.
#[derive(Default)]
pub(crate) struct Warm {
    pub(crate) prompt: Option<KeptPrompt>,
    pub(crate) texts: Texts,
    pub(crate) tokens: Option<(Digest, Vec<u32>)>,
    pub(crate) encoder: Slot<Encoder>,
    pub(crate) text_encoder: Slot<TextEncoder>,
    pub(crate) prologue: Slot<Prologue>,
    pub(crate) step: Slot<Predictor>,
    /// The step graph with its tapped values, which no other job wants.
    pub(crate) tapped: Slot<Predictor>,
    pub(crate) decoder: Slot<Decoder>,
}

impl Warm {
    /// Drops the stages that `plan` does not keep, or wants loaded in another way.
    pub(crate) fn fit(&mut self, plan: &Plan) {
        let threads = plan.threads;
        self.prompt.take_if(|_| plan.prompt_bytes == 0);
        self.encoder.fit(&plan.stage(Stage::Encoder), threads);
        self.text_encoder.fit(&plan.stage(Stage::TextEncoder), threads);
        self.prologue.fit(&plan.stage(Stage::Prologue), threads);
        self.step.fit(&plan.stage(Stage::Step), threads);
        self.tapped = Slot::default();
        self.decoder.fit(&plan.stage(Stage::Decoder), threads);
    }

    /// Whether a stage is loaded.
    pub(crate) fn is_loaded(&self, stage: Stage) -> bool {
        match stage {
            Stage::Encoder => self.encoder.is_loaded(),
            Stage::TextEncoder => self.text_encoder.is_loaded(),
            Stage::Prologue => self.prologue.is_loaded(),
            Stage::Step => self.step.is_loaded(),
            Stage::Decoder => self.decoder.is_loaded(),
        }
    }

    /// Drops all stages.
    pub(crate) fn drop_stages(&mut self) {
        *self = Self {
            texts: mem::take(&mut self.texts),
            tokens: self.tokens.take(),
            ..Self::default()
        };
    }

    /// The bytes that are held, as the plans that the stages were loaded by count them.
    pub(crate) fn bytes(&self) -> u64 {
        let tokens = self.tokens.as_ref().map_or(0, |(_, tokens)| 4 * tokens.len() as u64);
        let stages = [
            self.encoder.bytes(),
            self.text_encoder.bytes(),
            self.prologue.bytes(),
            self.step.bytes(),
            self.tapped.bytes(),
            self.decoder.bytes(),
        ];
        let prompt = self.prompt.as_ref().map_or(0, KeptPrompt::bytes);
        self.texts.bytes() + tokens + prompt + stages.iter().sum::<u64>()
    }
}

/// A stage that may be loaded, and how it was.
pub(crate) struct Slot<S>(Option<Kept<S>>);

struct Kept<S> {
    loaded: Loaded<S>,
    /// What it holds.
    bytes: u64,
}

/// A stage, and how it was loaded.
pub(crate) struct Loaded<S> {
    pub(crate) stage: S,
    pub(crate) how: How,
}

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S> Slot<S> {
    /// The stage, if it is loaded.
    pub(crate) fn take(&mut self) -> Option<Loaded<S>> {
        self.0.take().map(|kept| kept.loaded)
    }

    /// Whether it is loaded.
    pub(crate) fn is_loaded(&self) -> bool {
        self.0.is_some()
    }

    /// Keeps the stage if the plan says so and its run came to a good end. Being cancelled is one;
    /// a stage that failed is dropped, so that the next request begins anew.
    pub(crate) fn keep<T>(&mut self, loaded: Loaded<S>, plan: &StagePlan, result: &Result<T>) {
        let is_sound =
            result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Cancelled);
        let bytes = plan.kept_bytes();
        self.0 = (plan.warm && is_sound).then_some(Kept { loaded, bytes });
    }

    fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |kept| kept.bytes)
    }

    fn fit(&mut self, plan: &StagePlan, threads: usize) {
        self.0.take_if(|kept| !plan.warm || !kept.loaded.how.is(plan.loading, threads));
    }
}

/// The texts of the last prompts, by their token ids, the last used at the end.
#[derive(Default)]
pub(crate) struct Texts {
    kept: VecDeque<(Vec<u32>, Text)>,
    /// More than usual that the prompts at hand need.
    needed: usize,
}

impl Texts {
    /// Whether the text of a prompt is there; if so it counts as used now.
    pub(crate) fn touch(&mut self, ids: &[u32]) -> bool {
        let index = self.kept.iter().position(|(kept, _)| kept == ids);
        let used = index.and_then(|index| self.kept.remove(index));
        let is_there = used.is_some();
        self.kept.extend(used);
        is_there
    }

    /// Makes room for as many texts as a request needs.
    pub(crate) fn make_room(&mut self, needed: usize) {
        self.needed = needed;
    }

    /// Keeps a text, and drops those that were not used for longest.
    pub(crate) fn keep(&mut self, ids: &[u32], text: Text) {
        while self.kept.len() >= TEXTS.max(self.needed) {
            self.kept.pop_front();
        }
        self.kept.push_back((ids.to_vec(), text));
    }

    fn bytes(&self) -> u64 {
        self.kept.iter().map(|(_, text)| bytes_of(&text.hidden) + bytes_of(&text.pooled)).sum()
    }

    /// The texts of `prompts`, which must be there, one after another.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if they are of different sizes.
    pub(crate) fn join(&self, prompts: &[&[u32]]) -> Result<Text> {
        let text =
            |ids: &&[u32]| self.kept.iter().find(|(kept, _)| kept == ids).map(|(_, text)| text);
        Text::join(prompts.iter().filter_map(text))
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::Error;

    use super::*;
    use crate::{
        engine::{
            loading::{Intermediates, Loading, Weights},
            session::Tensor,
        },
        request::Provider,
    };

    fn plan(warm: bool, is_packed: bool) -> StagePlan {
        let weights = if is_packed { Weights::Packed } else { Weights::Mapped };
        let loading = Loading { intermediates: Intermediates::Arena, weights };
        StagePlan { warm, loading, ..StagePlan::alone(Stage::Step) }
    }

    fn loaded(plan: &StagePlan) -> Loaded<u32> {
        let (by, taps, sizes) = (Provider::Cpu, None, None);
        let how = How { loading: plan.loading, by, threads: 2, taps, sizes, floats: false };
        Loaded { stage: 7, how }
    }

    #[test]
    fn a_stage_stays_if_the_plan_says_so_and_nothing_failed() {
        let kept = |warm, result: Result<()>| {
            let mut slot = Slot::default();
            slot.keep(loaded(&plan(warm, true)), &plan(warm, true), &result);
            slot.take().map(|loaded| loaded.stage)
        };
        let failed = |kind| Err(Error::new(kind, "", ""));
        assert_eq!(kept(true, Ok(())), Some(7));
        assert_eq!(kept(false, Ok(())), None);
        assert_eq!(kept(true, failed(ErrorKind::Cancelled)), Some(7));
        assert_eq!(kept(true, failed(ErrorKind::EngineFailed)), None);
    }

    #[test]
    fn another_plan_drops_what_it_does_not_want() {
        for (next, threads, stays) in [
            (plan(true, true), 2, true),
            (plan(false, true), 2, false),
            (plan(true, false), 2, false),
            (plan(true, true), 1, false),
        ] {
            let mut slot = Slot::default();
            slot.keep(loaded(&plan(true, true)), &plan(true, true), &Ok(()));
            assert_eq!(slot.bytes(), plan(true, true).kept_bytes());
            slot.fit(&next, threads);
            assert_eq!(slot.is_loaded(), stays, "{threads} threads, {next:?}");
            assert_eq!(slot.bytes() > 0, stays);
        }
    }

    #[test]
    fn the_last_used_texts_stay() {
        crate::Runtime::for_tests();
        let text = |value: u32| Text {
            hidden: Tensor::f32("hidden", &[1, 2], vec![value as f32; 2]).expect("a tensor"),
            pooled: Tensor::f32("pooled", &[1, 1], vec![value as f32]).expect("a tensor"),
        };
        let mut texts = Texts::default();
        for id in 0..20 {
            texts.keep(&[id], text(id));
            assert!(texts.touch(&[0]), "used again");
        }
        assert_eq!(
            (0..20).filter(|id| texts.touch(&[*id])).collect::<Vec<_>>(),
            [0, 13, 14, 15, 16, 17, 18, 19]
        );
        let joined = texts.join(&[&[19], &[0], &[19]]).expect("of one size");
        assert_eq!(
            joined.hidden.shaped(&[3, 2]).expect("three"),
            [19.0, 19.0, 0.0, 0.0, 19.0, 19.0]
        );
        assert_eq!(joined.pooled.shaped(&[3, 1]).expect("three"), [19.0, 0.0, 19.0]);
    }
}
