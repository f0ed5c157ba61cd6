//! How alike two flavours of a model are: the same tokens are shown to both, and their choices
//! compared.

use std::ops::ControlFlow;

use pocketmuse_package::{Error, Result, Stage};

use crate::{
    engine::loading::Loading,
    pipeline::Pipeline,
    request::{Job, Request},
    sampler::{Canvas, Predict, Schedule, guidance, sample},
    stages::Predictor,
};

impl Pipeline {
    /// Makes the tokens that `request` asks for and, at each step, shows the same tokens to
    /// `other`. Returns for each step the share, 0 to 1, of the masked positions at which both hold
    /// the same code for the most likely one.
    ///
    /// Both must be packages of the same model. Memory holds both step graphs at once.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`].
    pub fn agreement(&self, other: &Self, request: &Request) -> Result<Vec<f32>> {
        let job = Job::new(request, self.manifest())?;
        let scales = guidance::scales(&job);
        let (ours, guidance) = self.primed(&job)?;
        let (theirs, _) = other.primed(&job)?;
        let [mut reference, mut compared] = [
            Predictor::load(self.package(), Loading::of(Stage::Step))?,
            Predictor::load(other.package(), Loading::of(Stage::Step))?,
        ];
        let mut both = Both {
            reference: reference.with(&ours, &guidance, job.grid)?.guided(scales.clone()),
            other: compared.with(&theirs, &guidance, job.grid)?.guided(scales.clone()),
            logits: Vec::new(),
            same: Vec::new(),
        };
        let (mut canvas, schedule) = (Canvas::masked(&job), Schedule::of(&job));
        let _ = sample(&mut both, &mut canvas, &schedule, |_, _| ControlFlow::Continue(()))?;
        let share = |step: &[[usize; 2]]| {
            let [same, all] =
                step.iter().fold([0, 0], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]]);
            same as f32 / all as f32
        };
        Ok(both.same.chunks(job.images()).map(share).collect())
    }
}

/// Two models that see the same tokens; the first one's logits are what the sampler gets.
struct Both<A, B> {
    reference: A,
    other: B,
    logits: Vec<f32>,
    /// Of each prediction: positions with the same most likely code, and all positions.
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
        let codes = self.logits.len() / positions.len().max(1);
        let rows = self.logits.chunks(codes.max(1)).zip(theirs.chunks(codes.max(1)));
        let same = rows.filter(|(ours, theirs)| most_likely(ours) == most_likely(theirs)).count();
        self.same.push([same, positions.len()]);
        Ok(&self.logits)
    }
}

fn most_likely(logits: &[f32]) -> Option<usize> {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(code, _)| code)
}
