//! Where `auto` says who computes a stage: each provider that has a library and fits the budget is
//! proved, and the fastest of those that are right is taken, if it is faster than the CPU. What is
//! found is kept as proofs are, so only the first job measures.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use pocketmuse_package::{ErrorKind, Result, Stage};

use super::{
    Pipeline,
    proof::{self, Candidate},
    turns::Turn,
    watch::Watch,
};
use crate::{
    memory::{
        measured,
        metrics::Report,
        plan::Plan,
        trials::{Outcome, Trial, Trials},
    },
    package::prepared::{Speed, Verdict},
    request::{Job, Provider, Providers},
};

/// The order in which stages are given to somebody, since each takes of the budget: what takes the
/// most time comes first.
const ORDER: [Stage; 5] =
    [Stage::Step, Stage::Decoder, Stage::Encoder, Stage::Prologue, Stage::TextEncoder];

/// A pipeline whose stages are each computed by somebody, and who was tried for those of `auto`.
pub(super) struct Chosen<'a> {
    pub(super) pipeline: Cow<'a, Pipeline>,
    tried: BTreeMap<Stage, Trials>,
}

impl Chosen<'_> {
    /// The report of a job of it, with who was tried.
    pub(super) fn told(&self, report: Report) -> Report {
        let mut report = report;
        for stage in &mut report.stages {
            let tried = self.tried.iter().find(|(tried, _)| tried.name() == stage.name);
            stage.tried = tried.map(|(_, trials)| trials.clone());
        }
        report
    }
}

/// Who computes each stage, as far as that is known.
struct Choice {
    providers: Providers,
    tried: BTreeMap<Stage, Trials>,
    /// Whether nobody is left to be tried.
    is_complete: bool,
}

/// What a provider shows.
enum Shown {
    Right(Speed),
    Refused(String),
    /// It was not tried yet.
    Unknown,
}

impl Pipeline {
    /// The same pipeline with somebody in the place of `auto`: whom nothing is known of is proved.
    ///
    /// # Errors
    ///
    /// `NotEnoughMemory` if the CPU needs more than the budget; `BadRequest` if a provider's
    /// library is no plug-in; `Cancelled` if the job is to stop; else as for [`Self::run`].
    pub(super) fn chosen(&self, job: &Job, watch: &mut dyn Watch) -> Result<Chosen<'_>> {
        if !self.package.providers().is_automatic() {
            return Ok(Chosen { pipeline: Cow::Borrowed(self), tried: BTreeMap::new() });
        }
        let looks_inside = watch.wants_predictions();
        let mut choice = self.assign((job, looks_inside), None)?;
        if !choice.is_complete {
            let control = self.control.clone().unwrap_or_default();
            let mut turn = self.turns.take(&control, || ())?;
            choice = self.assign((job, looks_inside), Some(&mut turn))?;
        }
        let Choice { providers, tried, .. } = choice;
        for (stage, trials) in &tried {
            log::info!("{stage}: auto takes {}: {trials}", providers.of(*stage));
        }
        Ok(Chosen { pipeline: Cow::Owned(self.computed_by(providers)), tried })
    }

    /// The plan of a job as far as it is known who computes it: where nobody was tried, the CPU.
    ///
    /// # Errors
    ///
    /// `NotEnoughMemory` if it needs more than the budget.
    pub(super) fn plan_chosen(&self, job: &Job) -> Result<Plan> {
        if !self.package.providers().is_automatic() {
            return self.planner.plan(&self.package, job);
        }
        let Choice { providers, .. } = self.assign((job, false), None)?;
        let chosen = self.computed_by(providers);
        chosen.planner.plan(&chosen.package, job)
    }

    /// The same pipeline, and `provider` computes `stage`.
    pub(super) fn with_provider(&self, stage: Stage, provider: Provider) -> Self {
        let mut providers = self.package.providers().clone();
        providers.stages.insert(stage, provider);
        self.computed_by(providers)
    }

    fn computed_by(&self, providers: Providers) -> Self {
        let package = Arc::new(self.package.computed_by(providers.clone()));
        Self { package, planner: Arc::new(self.planner.computed_by(providers)), ..self.clone() }
    }

    /// Who computes the stages of `job`: those who began it, if it was saved. Proves nobody without a
    /// turn. A step that is looked into is the CPU's.
    fn assign(
        &self,
        (job, looks_inside): (&Job, bool),
        mut turn: Option<&mut Turn<'_>>,
    ) -> Result<Choice> {
        let asked = self.package.providers();
        let mut providers = asked.clone();
        providers.stages.retain(|_, provider| *provider != Provider::Auto);
        if let Some(saved) = &job.saved {
            let began = saved.providers.iter();
            let began = began.filter(|(stage, _)| asked.of(**stage) == Provider::Auto);
            providers.stages.extend(began);
            return Ok(Choice { providers, tried: BTreeMap::new(), is_complete: true });
        }
        let mut choice = Choice { providers, tried: BTreeMap::new(), is_complete: true };
        let plan = self.computed_by(choice.providers.clone()).plan_job(job)?;
        let is_planned = |stage| plan.stages.iter().any(|planned| planned.stage == stage);
        let is_free = |stage| !looks_inside || stage != Stage::Step;
        let automatic = |stage: &Stage| {
            asked.of(*stage) == Provider::Auto && is_planned(*stage) && is_free(*stage)
        };
        for stage in ORDER.into_iter().filter(automatic) {
            let (mut trials, mut cpu) = (Vec::new(), None::<Duration>);
            for provider in asked.candidates() {
                let other = self.computed_by(choice.providers.clone());
                let other = other.with_provider(stage, provider);
                let outcome = match other.shown(stage, job, turn.as_deref_mut())? {
                    Shown::Right(Speed { run_us, cpu_run_us, .. }) => {
                        let [run, by_cpu] = [run_us, cpu_run_us].map(Duration::from_micros);
                        cpu = Some(cpu.map_or(by_cpu, |least| least.min(by_cpu)));
                        Outcome::Ran(run)
                    }
                    Shown::Refused(reason) => Outcome::Refused(reason),
                    Shown::Unknown => {
                        choice.is_complete = false;
                        continue;
                    }
                };
                trials.push(Trial { provider, outcome });
            }
            let cpu = cpu.map(|run| (Provider::Cpu, Outcome::Ran(run)));
            let cpu = cpu.map(|(provider, outcome)| Trial { provider, outcome });
            let trials = Trials(cpu.into_iter().chain(trials).collect());
            match trials.fastest() {
                Provider::Cpu => {}
                other => drop(choice.providers.stages.insert(stage, other)),
            }
            choice.tried.insert(stage, trials);
        }
        Ok(choice)
    }

    /// What this pipeline's provider of `stage` shows: by what is known, or with a turn proved now.
    fn shown(&self, stage: Stage, job: &Job, turn: Option<&mut Turn<'_>>) -> Result<Shown> {
        let plan = match self.planner.plan_that_fits(&self.package, job) {
            Err(error) if error.kind() == ErrorKind::NotEnoughMemory => {
                return Ok(Shown::Refused(error.detail().to_owned()));
            }
            plan => plan?,
        };
        let candidate = Candidate::of(&self.package, job, (stage, plan.threads));
        let about = (stage, candidate.sizes());
        let verdict = match (self.package.tried(about)?, turn) {
            (Some(verdict), _) => verdict,
            (None, None) => return Ok(Shown::Unknown),
            (None, Some(turn)) => {
                turn.warm().drop_stages(); // a proof takes what the plan has for one stage
                measured::give_back();
                let verdict = self.proved(candidate, &plan)?;
                if self.planner.plan_that_fits(&self.package, job).is_err() {
                    return self.shown(stage, job, None); // which says why, now that it is measured
                }
                verdict
            }
        };
        Ok(match verdict {
            Verdict { is_right: true, speed: Some(speed), .. } => Shown::Right(speed),
            Verdict { reason, .. } => Shown::Refused(reason),
        })
    }

    /// The verdict on a candidate of which nothing is known. That it fails is one, too.
    fn proved(&self, candidate: Candidate, plan: &Plan) -> Result<Verdict> {
        let Candidate { stage, provider, .. } = candidate;
        let about = (stage, candidate.sizes());
        let control = self.control.clone().unwrap_or_default();
        let by = (self.prover.as_ref(), control.canceller());
        let loading = plan.stage(stage).loading;
        let proved = proof::prove(&self.package, (candidate, loading), by);
        if let Some(verdict) = self.package.tried(about)? {
            return Ok(verdict);
        }
        match proved {
            Err(error) if error.kind() == ErrorKind::ProviderFailed => {
                let said = error.detail();
                let reason = said.strip_prefix(provider.name()).unwrap_or(said).trim_start();
                self.package.keep_failure(about, reason)?;
                Ok(Verdict::not_ended(reason))
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Verdict::not_ended("was proved, and nothing of it was kept")),
        }
    }
}
