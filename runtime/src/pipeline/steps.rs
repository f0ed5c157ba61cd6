//! The step graph as the sampler asks it, while whoever watches is told of every step. Knows no
//! order of passes.

use std::{ops::ControlFlow, time::Instant};

use pocketmuse_package::{Error, Result, Stage};

use super::{
    attention,
    effort::images_of,
    kept::KeptPrompt,
    progress::Phase,
    steered::{Steered, Using},
    watch::{Prediction, Step},
};
use crate::{
    request::job::{Pass, PassKind},
    sampler::{self, Predict, guidance, margin::Margin},
    stages::{Answer, Asked, Predictor},
};

/// What all steps are given: what the prompts became, and what the guidance branches weigh.
pub(super) struct Conditions {
    pub(super) prompt: KeptPrompt,
    pub(super) guidance: Vec<f32>,
    /// What of the prompts did not fit, for people.
    pub(super) truncated: Vec<String>,
    pub(super) unknown_words: Vec<String>,
}

/// The step graph in a pass.
pub(super) struct Steps<'s, 'a> {
    steered: &'s mut Steered<'a>,
    using: &'s mut Using<Predictor>,
    asked: Asked<'s>,
    is_tapped: bool,
    /// Positions that attend to the prompt.
    attending: usize,
    counts: Counts,
}

/// Which step and run of all it is.
struct Counts {
    /// Steps of the passes before this one.
    steps_before: usize,
    /// Runs of the graph in the passes before this one.
    runs_before: usize,
    first_step: usize,
    /// Images that the pass makes.
    images: usize,
    /// The step that is made, as the sampler counts it.
    step: usize,
}

impl Counts {
    /// Runs when the step has made so many images.
    fn runs(&self, images: usize) -> usize {
        self.runs_before + self.images * self.step.saturating_sub(self.first_step) + images
    }
}

impl<'s, 'a> Steps<'s, 'a> {
    /// The step graph, asked in `pass`, before which it ran `runs_before` times in the job.
    ///
    /// # Errors
    ///
    /// `BadRequest` if there are not as many weights as guidance branches.
    pub(super) fn new(
        (steered, using): (&'s mut Steered<'a>, &'s mut Using<Predictor>),
        conditions: &'s mut Conditions,
        pass: &Pass,
        runs_before: usize,
    ) -> Result<Self> {
        let job = steered.job;
        let Conditions { prompt: KeptPrompt { primed, first, .. }, guidance, .. } = conditions;
        let asked = Asked::new(primed, guidance, job.grid)?;
        let asked = asked.within(guidance::scales(job), Margin::of(job));
        let is_tapped = steered.watch.wants_predictions();
        // An answer that is kept has no tapped values.
        let keeps = steered.keeps_prompt() && !is_tapped;
        let asked = if keeps { asked.keeping(first) } else { asked };
        if is_tapped {
            using.tap(attention::WANTED);
        }
        let multiple = (steered.package.manifest().model.grid_multiple as usize).max(1);
        let attending = job.outer_grid().map(|side| side / multiple).iter().product();
        let again = if pass.kind == PassKind::Variations { job.redone_from } else { None };
        let counts = Counts {
            steps_before: again.map_or(0, |from| job.steps - from),
            runs_before,
            first_step: pass.first_step,
            images: images_of(job, pass),
            step: pass.first_step,
        };
        Ok(Self { steered, using, asked, is_tapped, attending, counts })
    }

    /// A step is over.
    pub(super) fn step(&mut self, step: &sampler::Progress<'_>) -> ControlFlow<()> {
        let steered = &mut *self.steered;
        steered.passed(Stage::Step, self.counts.runs(self.counts.images));
        let by = (steered.job, &steered.package.providers().stages);
        steered.watch.step(&Step::new(by, step))
    }
}

impl Predict for Steps<'_, '_> {
    type Error = Error;

    fn begin(&mut self, step: usize) {
        self.counts.step = step;
        self.asked.begin(step);
    }

    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        let Self { steered, using, asked, .. } = self;
        let predictor = steered.ready(using)?;
        let (step, of) = (self.counts.steps_before + self.counts.step, steered.job.steps());
        steered.begin(Phase::Step { step, of });
        let started = Instant::now();
        let Answer { logits, is_new } = asked.predict(predictor, tokens, positions)?;
        let runs = self.counts.runs(image + 1);
        if is_new {
            steered.ran(Stage::Step, runs, started);
        } else {
            steered.passed(Stage::Step, runs);
        }
        if self.is_tapped {
            let attention = attention::mean(predictor.taps(), self.attending)?;
            let attention = attention.as_ref();
            steered.watch.prediction(&Prediction { image, positions, logits, attention });
        }
        Ok(logits)
    }
}
