//! What a running job has at hand: its turn, its plan, and whoever steers and watches it. Between
//! two runs of graphs it does what is wished, loads what the next one needs, and tells how far the
//! job is. Knows no order of things.

use std::time::{Duration, Instant};

use pocketmuse_package::{Result, Stage};

use super::{
    effort,
    meter::Meter,
    planner::Planner,
    progress::Phase,
    proof::{self, Candidate, Prover},
    tracker::Tracker,
    turns::Turn,
    warm::{Loaded, Slot, Warm},
    watch::Watch,
};
use crate::{
    engine::{
        address_space,
        loading::Loading,
        providers::{Assignment, Sizes},
        session::Taps,
    },
    memory::{
        measured,
        metrics::Report,
        plan::{Plan, StagePlan},
    },
    package::{How, Package},
    request::{Control, Job, Provider},
    stages::Network,
};

/// While files are checked, progress is told after so many bytes.
const CHECKED_BYTES: u64 = 8 << 20;

/// A job that runs, and what it runs with. Nothing else of its pipeline runs until this is dropped.
pub(super) struct Steered<'a> {
    pub(super) job: &'a Job,
    pub(super) package: &'a Package,
    pub(super) watch: &'a mut dyn Watch,
    planner: &'a Planner,
    prover: Option<&'a Prover>,
    plan: Plan,
    turn: Turn<'a>,
    control: Control,
    /// The threads that were wished last.
    threads: Option<usize>,
    /// Whether every stage is loaded alone from now on.
    is_trimmed: bool,
    /// How long the job has halted.
    halted: Duration,
    tracker: Tracker,
    meter: Meter,
}

/// A stage in use.
pub(super) struct Using<S> {
    loaded: Option<Loaded<S>>,
    /// The tapped values that are wanted.
    taps: Option<Taps>,
    /// What loading it took.
    load: Duration,
}

impl<S> Using<S> {
    /// Wants tapped values: the stage must be another than the plain one.
    pub(super) fn tap(&mut self, taps: Taps) {
        self.taps = Some(taps);
    }
}

/// What a pipeline runs its jobs with.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) package: &'a Package,
    pub(super) planner: &'a Planner,
    /// Where providers are proved, if that is elsewhere.
    pub(super) prover: Option<&'a Prover>,
}

impl<'a> Steered<'a> {
    /// Plans the job, and drops the stages that are in the way of the plan.
    ///
    /// # Errors
    ///
    /// `NotEnoughMemory` if the budget is too small.
    pub(super) fn new(
        job: &'a Job,
        Means { package, planner, prover }: Means<'a>,
        (control, watch): (Control, &'a mut dyn Watch),
        mut turn: Turn<'a>,
    ) -> Result<Self> {
        let plan = planner.plan(package, job)?;
        address_space::check_job(plan.peak_address_bytes(), plan.threads)?;
        turn.warm().fit(&plan);
        let tracker = Tracker::new(effort::efforts(job, package, &plan, turn.warm()));
        Ok(Self {
            job,
            package,
            watch,
            planner,
            prover,
            plan,
            turn,
            control,
            threads: None,
            is_trimmed: false,
            halted: Duration::ZERO,
            tracker,
            meter: Meter::start(
                package.flavour(),
                package.providers().clone(),
                package.measures_memory(),
            ),
        })
    }

    /// What stays between jobs.
    pub(super) fn warm(&mut self) -> &mut Warm {
        self.turn.warm()
    }

    /// Puts a stage to use: `run` asks for it by [`Self::ready`] before each run of its graph. Then
    /// it is kept in its slot or dropped, as the plan says. What is dropped is given back to the
    /// system before this returns.
    ///
    /// # Errors
    ///
    /// What `run` returns.
    pub(super) fn stage<S: Network, T>(
        &mut self,
        slot: fn(&mut Warm) -> &mut Slot<S>,
        run: impl FnOnce(&mut Self, &mut Using<S>) -> Result<T>,
    ) -> Result<T> {
        measured::give_back(); // what was dropped since the stage before
        let watch = self.meter.watch();
        let loaded = slot(self.warm()).take();
        let mut using = Using { loaded, taps: None, load: Duration::ZERO };
        let (started, halted) = (Instant::now(), self.halted);
        let result = run(self, &mut using);
        let not_run = using.load + (self.halted - halted);
        let run = started.elapsed().saturating_sub(not_run);
        if let Some(mut loaded) = using.loaded {
            let is_context = self.package.context(S::STAGE, Sizes::of(self.job)).is_some();
            self.meter.took(S::STAGE, loaded.stage.session().nodes(), is_context);
            let plan = self.plan_of(S::STAGE);
            slot(self.warm()).keep(loaded, &plan, &result);
        }
        self.turn.tell_held(0);
        measured::give_back();
        self.meter.add(S::STAGE, 1, [using.load, run], watch);
        result
    }

    /// How a stage is loaded and kept. The step graph stays until images are decoded.
    fn plan_of(&self, stage: Stage) -> StagePlan {
        let plan = self.plan.stage(stage);
        StagePlan { warm: plan.warm || stage == Stage::Step, ..plan }
    }

    /// Whether a stage stays loaded for the next job.
    pub(super) fn keeps(&self, stage: Stage) -> bool {
        self.plan.stage(stage).warm
    }

    /// Whether what the prompts become stays for the next job.
    pub(super) fn keeps_prompt(&self) -> bool {
        self.plan.prompt_bytes > 0
    }

    /// Nothing will run: the work is to load the stages that stay.
    pub(super) fn only_load(&mut self) {
        let Self { tracker, plan, .. } = self;
        tracker.expect_only(|stage| plan.stage(stage).warm);
    }

    /// The stage in use, loaded as is wished now. Halts here while the job is to halt.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the job is to stop; else as for [`Package::load_as`].
    pub(super) fn ready<'u, S: Network>(&mut self, using: &'u mut Using<S>) -> Result<&'u mut S> {
        self.obey(using)?;
        let (plan, threads) = (self.plan_of(S::STAGE), self.plan.threads);
        let how = self.how(S::STAGE, plan.loading);
        using.loaded.take_if(|loaded| {
            !loaded.how.is(plan.loading, threads)
                || (loaded.how.by, loaded.how.sizes) != (how.by, how.sizes)
        });
        let loaded = match using.loaded.take() {
            Some(loaded) => loaded,
            None => self.load(using, how)?,
        };
        self.turn.tell_held(plan.kept_bytes());
        let stage = &mut using.loaded.insert(loaded).stage;
        self.control.canceller().check()?; // a load ends by itself, and what was loaded stays
        stage.session().obey(self.control.canceller());
        Ok(stage)
    }

    /// How `stage` is loaded for the job.
    fn how(&self, stage: Stage, loading: Loading) -> How {
        let how = self.package.how_of(stage, loading, Sizes::of(self.job));
        How { threads: self.plan.threads, ..how }
    }

    /// Has every other provider than the CPU show that it computes its stages as the CPU does,
    /// before anything is made.
    ///
    /// # Errors
    ///
    /// As for [`Package::is_proof_due`] and [`proof::prove`]; `NotEnoughMemory`
    /// if it takes more than the budget; `BadRequest` if the step is looked into, which only the CPU lets;
    /// `Cancelled` if the job is to stop.
    pub(super) fn prove(&mut self) -> Result<()> {
        let package = self.package;
        let step = Assignment { provider: package.provider(Stage::Step), stage: Stage::Step };
        if step.provider != Provider::Cpu && self.watch.wants_predictions() {
            return Err(step.looked_into());
        }
        let mut was_due = false;
        for effort in effort::efforts(self.job, package, &self.plan, self.turn.warm()) {
            let (stage, loading) = (effort.stage, self.plan.stage(effort.stage).loading);
            let how = self.how(stage, loading);
            if package.is_proof_due(stage, &how)? {
                was_due = true;
                self.warm().drop_stages(); // a proof takes what the plan has for one stage
                measured::give_back();
                let candidate = Candidate::of(package, self.job, (stage, how.threads));
                let about = (candidate, how.loading);
                proof::prove(package, about, (self.prover, self.control.canceller()))?;
            }
        }
        if was_due {
            self.plan = self.planner.plan(package, self.job)?; // with what was measured
        }
        Ok(())
    }

    /// Does what is wished, and waits while the job is to halt.
    fn obey<S>(&mut self, using: &mut Using<S>) -> Result<()> {
        loop {
            let started = Instant::now();
            let wishes = self.control.next(self.turn.trims());
            self.halted += started.elapsed();
            let wishes = wishes?;
            if self.turn.is_trim_wished(wishes.trims) {
                self.trim();
                using.loaded.take_if(|_| wishes.is_paused); // else it is wanted at once
                measured::give_back();
                self.turn.tell_held(0);
            }
            self.use_threads(wishes.threads);
            if !wishes.is_paused {
                return Ok(());
            }
        }
    }

    /// Drops all stages that are loaded and not in use, and loads each alone from now on.
    fn trim(&mut self) {
        self.is_trimmed = true;
        self.plan = self.plan.clone().alone();
        self.warm().drop_stages();
    }

    /// Plans the rest of the job with as many threads as are wished, if that can be.
    fn use_threads(&mut self, wished: Option<usize>) {
        let Some(threads) = wished.filter(|_| wished != self.threads) else { return };
        self.threads = wished;
        match self.planner.plan_with(self.package, self.job, threads) {
            Ok(plan) => {
                self.plan = if self.is_trimmed { plan.alone() } else { plan };
                self.turn.warm().fit(&self.plan);
            }
            Err(error) => log::warn!("the job goes on with {} threads: {error}", self.plan.threads),
        }
    }

    /// Checks the files of a stage and loads it.
    fn load<S: Network>(&mut self, using: &mut Using<S>, how: How) -> Result<Loaded<S>> {
        measured::give_back(); // what was just dropped
        let how = How { taps: using.taps.or(how.taps), ..how };
        let Self { package, watch, control, tracker, .. } = self;
        let is_unchecked = tracker.is_unchecked(S::STAGE);
        let loading = Phase::Loading { stage: S::STAGE };
        let first = if is_unchecked { tracker.checking() } else { loading };
        watch.progress(&tracker.begin(first));
        let started = Instant::now();
        let (mut checked, mut untold) = (started, 0);
        let session = package.load_as(S::STAGE, how, &mut |bytes| {
            control.canceller().check()?;
            if !tracker.checked(S::STAGE, bytes) {
                return Ok(()); // read for another purpose
            }
            (checked, untold) = (Instant::now(), untold + bytes);
            if !tracker.is_unchecked(S::STAGE) {
                let checking = tracker.checking();
                watch.progress(&tracker.begin(checking));
                watch.progress(&tracker.begin(loading));
            } else if untold >= CHECKED_BYTES {
                untold = 0;
                let checking = tracker.checking();
                watch.progress(&tracker.begin(checking));
            }
            Ok(())
        })?;
        let stage = S::of(package, session)?;
        tracker.loaded(S::STAGE, checked.elapsed());
        using.load += started.elapsed();
        Ok(Loaded { stage, how })
    }

    /// Says what is done next.
    pub(super) fn begin(&mut self, phase: Phase) {
        let progress = self.tracker.begin(phase);
        self.watch.progress(&progress);
    }

    /// Runs a stage that comes before the steps; it is its run number `number` in the job, from 1.
    ///
    /// # Errors
    ///
    /// As for [`Self::ready`], and what `run` returns.
    pub(super) fn run<S: Network, T>(
        &mut self,
        using: &mut Using<S>,
        number: usize,
        run: impl FnOnce(&mut S) -> Result<T>,
    ) -> Result<T> {
        let stage = self.ready(using)?;
        self.begin(Phase::Running { stage: S::STAGE });
        let started = Instant::now();
        let made = run(stage)?;
        self.ran(S::STAGE, number, started);
        Ok(made)
    }

    /// So many runs of a stage are over since the job began, the last since `started`.
    pub(super) fn ran(&mut self, stage: Stage, runs: usize, started: Instant) {
        self.tracker.ran(stage, runs, started.elapsed());
        let progress = self.tracker.progress();
        self.watch.progress(&progress);
    }

    /// So many runs of a stage are over or were not needed.
    pub(super) fn passed(&mut self, stage: Stage, runs: usize) {
        self.tracker.passed(stage, runs);
    }

    /// Reports a stage whose result was there already.
    pub(super) fn skip(&mut self, stage: Stage) {
        self.tracker.done(stage);
        self.meter.skip(stage);
    }

    /// Drops what was loaded for this job alone.
    pub(super) fn drop_unplanned(&mut self) {
        let Self { turn, plan, .. } = self;
        turn.warm().fit(plan);
        if self.is_trimmed {
            turn.warm().drop_stages();
        }
    }

    /// The job has come to its end: tells so, and takes note of what its stages took.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the job was to stop before.
    pub(super) fn finish(&mut self) -> Result<Report> {
        self.control.canceller().check()?;
        let kind = effort::kind(self.job, self.package, self.plan.threads);
        let times = self.tracker.times();
        if self.threads.is_none() && !times.is_empty() {
            self.package.prepared().add_times(&kind, &times);
        }
        let progress = self.tracker.finish();
        self.watch.progress(&progress);
        Ok(self.meter.finish())
    }
}

impl Drop for Steered<'_> {
    fn drop(&mut self) {
        self.drop_unplanned();
        if self.is_trimmed {
            *self.warm() = Warm::default();
        }
        measured::give_back();
    }
}
