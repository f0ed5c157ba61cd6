//! Time and peak memory of each stage. Knows nothing of what a stage does.

use std::time::{Duration, Instant};

use pocketmuse_package::{Result, Stage};

use super::warm::Slot;
use crate::{
    engine::loading::Loading,
    memory::{
        measured::{self, Peak},
        metrics::{Report, StageReport},
        plan::StagePlan,
    },
};

/// Collects a [`Report`].
pub(crate) struct Meter {
    stages: Vec<StageReport>,
    started: Instant,
    /// Whether memory is measured.
    measures: bool,
    /// The process' peak before the first stage was watched.
    peak_rss_bytes: Option<u64>,
}

impl Meter {
    /// `measures` says whether to measure memory besides time.
    pub(crate) fn start(measures: bool) -> Self {
        let (stages, started) = (Vec::new(), Instant::now());
        Self { stages, started, measures, peak_rss_bytes: measured::peak_rss() }
    }

    /// Loads a stage unless `slot` has it, runs it, and keeps it there or drops it as `plan` says.
    /// What is dropped is given back to the system before this returns.
    ///
    /// # Errors
    ///
    /// What `load` or `run` returns.
    pub(crate) fn stage<S, T>(
        &mut self,
        plan: &StagePlan,
        slot: &mut Slot<S>,
        load: impl FnOnce(Loading) -> Result<S>,
        run: impl FnOnce(&mut S) -> Result<T>,
    ) -> Result<T> {
        measured::give_back(); // what was dropped since the stage before
        let watch = self.watch();
        let started = Instant::now();
        let (mut loaded, load) = match slot.take() {
            Some(loaded) => (loaded, Duration::ZERO),
            None => (load(plan.loading)?, started.elapsed()),
        };
        let result = run(&mut loaded);
        let run = started.elapsed() - load;
        slot.keep(loaded, plan, &result);
        measured::give_back();
        self.add(plan.stage, 1, [load, run], peak_of(watch));
        result
    }

    /// Reports a stage whose result was there already.
    pub(crate) fn skip(&mut self, stage: Stage) {
        let watch = self.watch();
        self.add(stage, 0, [Duration::ZERO; 2], peak_of(watch));
    }

    fn watch(&self) -> Option<measured::Watch> {
        self.measures.then(measured::Watch::start)
    }

    /// A stage that comes again adds to what it was before.
    fn add(&mut self, stage: Stage, runs: usize, [load, run]: [Duration; 2], peak: Peak) {
        let Peak { rss_bytes, anonymous_bytes } = peak;
        log::debug!("{stage}: loaded in {load:.1?}, ran in {run:.1?}");
        let at = self.stages.iter().position(|known| known.name == stage.name());
        let at = at.unwrap_or_else(|| {
            self.stages.push(StageReport::new(stage));
            self.stages.len() - 1
        });
        let report = &mut self.stages[at];
        report.runs += runs;
        report.load += load;
        report.run += run;
        report.peak_rss_bytes = report.peak_rss_bytes.max(rss_bytes);
        report.peak_anonymous_bytes = report.peak_anonymous_bytes.max(anonymous_bytes);
    }

    pub(crate) fn finish(self) -> Report {
        let peaks = self.stages.iter().map(|stage| stage.peak_rss_bytes);
        let peak_rss_bytes = peaks.fold(self.peak_rss_bytes, Option::max).max(measured::peak_rss());
        Report { stages: self.stages, total: self.started.elapsed(), peak_rss_bytes }
    }
}

fn peak_of(watch: Option<measured::Watch>) -> Peak {
    watch.map_or_else(Peak::default, measured::Watch::stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_dropped_before_the_next_one_loads() {
        let alive = std::cell::Cell::new(0);
        struct Loaded<'a>(&'a std::cell::Cell<u32>);
        impl Drop for Loaded<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let mut meter = Meter::start(false);
        for stage in [Stage::Step, Stage::Decoder] {
            let load = |_| {
                assert_eq!(alive.get(), 0);
                alive.set(1);
                Ok(Loaded(&alive))
            };
            let plan = StagePlan::alone(stage);
            meter
                .stage(&plan, &mut Slot::default(), load, |_loaded| Ok(()))
                .expect("nothing fails");
        }
        let names: Vec<_> = meter.finish().stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["step", "decoder"]);
    }

    #[test]
    fn a_stage_that_comes_again_adds_up() {
        let mut meter = Meter::start(false);
        for stage in [Stage::Prologue, Stage::Step, Stage::Decoder, Stage::Step, Stage::Decoder] {
            let plan = StagePlan::alone(stage);
            meter.stage(&plan, &mut Slot::default(), |_| Ok(()), |()| Ok(())).expect("no failure");
        }
        meter.skip(Stage::TextEncoder);
        let report = meter.finish();
        let runs: Vec<_> = report.stages.iter().map(|stage| (stage.name, stage.runs)).collect();
        assert_eq!(runs, [("prologue", 1), ("step", 2), ("decoder", 2), ("text_encoder", 0)]);
    }
}
