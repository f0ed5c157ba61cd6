//! How alike two flavours of a model are: the same tokens are shown to both, and their choices
//! compared.

use std::ops::ControlFlow;

use pocketmuse::{
    Loading, Pipeline, Request,
    internals::{Network as _, Predict, Predictor},
};
use pocketmuse_package::{Error, Result, Stage};

/// Makes the tokens that `request` asks for with `reference` and, at each step, shows the same
/// tokens to `other`. Returns for each step the share, 0 to 1, of the masked positions at which
/// both hold the same token for the most likely one.
///
/// Both must be packages of the same model. Memory holds both step graphs at once.
///
/// # Errors
///
/// As for [`Pipeline::generate`].
pub fn agreement(reference: &Pipeline, other: &Pipeline, request: &Request) -> Result<Vec<f32>> {
    let prompts = [reference.prompt(request)?, other.prompt(request)?];
    let mut predictors = [
        Predictor::load(reference.package(), Loading::of(Stage::Step))?,
        Predictor::load(other.package(), Loading::of(Stage::Step))?,
    ];
    let [ours, theirs] = &mut predictors;
    let mut both = Both {
        reference: prompts[0].with(ours)?,
        other: prompts[1].with(theirs)?,
        logits: Vec::new(),
        same: Vec::new(),
    };
    reference.choose(request, &mut both, || ControlFlow::Continue(()))?;
    let share = |step: &[[usize; 2]]| {
        let [same, all] =
            step.iter().fold([0, 0], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]]);
        same as f32 / all as f32
    };
    Ok(both.same.chunks(request.num_images_per_prompt as usize).map(share).collect())
}

/// Two models that see the same tokens; the first one's logits are what the sampler gets.
struct Both<A, B> {
    reference: A,
    other: B,
    logits: Vec<f32>,
    /// Of each prediction: positions with the same most likely token, and all positions.
    same: Vec<[usize; 2]>,
}

impl<A: Predict<Error = Error>, B: Predict<Error = Error>> Predict for Both<A, B> {
    type Error = Error;

    fn begin(&mut self, step: usize) {
        self.reference.begin(step);
        self.other.begin(step);
    }

    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        self.logits.clear();
        self.logits.extend_from_slice(self.reference.predict(image, tokens, positions)?);
        let theirs = self.other.predict(image, tokens, positions)?;
        let row = (self.logits.len() / positions.len().max(1)).max(1);
        let rows = self.logits.chunks(row).zip(theirs.chunks(row));
        let same = rows.filter(|(ours, theirs)| most_likely(ours) == most_likely(theirs)).count();
        self.same.push([same, positions.len()]);
        Ok(&self.logits)
    }
}

fn most_likely(logits: &[f32]) -> Option<usize> {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(token, _)| token)
}
