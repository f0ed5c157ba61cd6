//! What stays between images: stages that the plan keeps loaded, and what was encoded last. Knows
//! no order of things.

use std::collections::VecDeque;

use pocketmuse_package::{Digest, ErrorKind, Result, Stage};

use crate::{
    engine::loading::Loading,
    memory::plan::{Plan, StagePlan},
    stages::{Decoder, Predictor, Prologue, Text, TextEncoder},
};

/// Texts that are kept: a few prompts and the empty one, a quarter of a MiB each.
const TEXTS: usize = 8;

/// The stages that are loaded, the last texts, and the tokens of the last image by the digest of
/// its pixels.
#[derive(Default)]
pub(crate) struct Warm {
    pub(crate) texts: Texts,
    pub(crate) tokens: Option<(Digest, Vec<u32>)>,
    pub(crate) text_encoder: Slot<TextEncoder>,
    pub(crate) prologue: Slot<Prologue>,
    pub(crate) step: Slot<Predictor>,
    pub(crate) decoder: Slot<Decoder>,
}

impl Warm {
    /// Drops the stages that `plan` does not keep, or wants loaded in another way.
    pub(crate) fn fit(&mut self, plan: &Plan) {
        self.text_encoder.fit(&plan.stage(Stage::TextEncoder));
        self.prologue.fit(&plan.stage(Stage::Prologue));
        self.step.fit(&plan.stage(Stage::Step));
        self.decoder.fit(&plan.stage(Stage::Decoder));
    }
}

/// A stage that may be loaded, and how it was.
pub(crate) struct Slot<S>(Option<(Loading, S)>);

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S> Slot<S> {
    /// The stage, if it is loaded.
    pub(crate) fn take(&mut self) -> Option<S> {
        self.0.take().map(|(_, stage)| stage)
    }

    /// Keeps the stage if the plan says so and its run came to a good end. Being cancelled is one;
    /// a stage that failed is dropped, so that the next request begins anew.
    pub(crate) fn keep<T>(&mut self, stage: S, plan: &StagePlan, result: &Result<T>) {
        let is_sound =
            result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Cancelled);
        self.0 = (plan.warm && is_sound).then_some((plan.loading, stage));
    }

    fn fit(&mut self, plan: &StagePlan) {
        self.0.take_if(|(loading, _)| !plan.warm || *loading != plan.loading);
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
    use crate::engine::{loading::Weights, session::Tensor};

    fn plan(warm: bool, is_packed: bool) -> StagePlan {
        let weights = if is_packed { Weights::Packed } else { Weights::Mapped };
        let loading = Loading { arena: true, weights };
        StagePlan { warm, loading, ..StagePlan::alone(Stage::Step) }
    }

    #[test]
    fn a_stage_stays_if_the_plan_says_so_and_nothing_failed() {
        let kept = |warm, result: Result<()>| {
            let mut slot = Slot::default();
            slot.keep(7, &plan(warm, true), &result);
            slot.take()
        };
        let failed = |kind| Err(Error::new(kind, "", ""));
        assert_eq!(kept(true, Ok(())), Some(7));
        assert_eq!(kept(false, Ok(())), None);
        assert_eq!(kept(true, failed(ErrorKind::Cancelled)), Some(7));
        assert_eq!(kept(true, failed(ErrorKind::EngineFailed)), None);
    }

    #[test]
    fn another_plan_drops_what_it_does_not_want() {
        for (next, stays) in
            [(plan(true, true), true), (plan(false, true), false), (plan(true, false), false)]
        {
            let mut slot = Slot::default();
            slot.keep(7, &plan(true, true), &Ok(()));
            slot.fit(&next);
            assert_eq!(slot.take().is_some(), stays, "{next:?}");
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
