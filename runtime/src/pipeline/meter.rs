//! Time and peak memory of each stage. Knows nothing of what a stage does.

use std::time::{Duration, Instant};

use pocketmuse_package::Stage;

use crate::memory::{
    measured::{self, Peak},
    metrics::{Report, StageReport},
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

    /// Reports a stage whose result was there already.
    pub(crate) fn skip(&mut self, stage: Stage) {
        let watch = self.watch();
        self.add(stage, 0, [Duration::ZERO; 2], watch);
    }

    /// What watches a stage's memory, if that is measured.
    pub(crate) fn watch(&self) -> Option<measured::Watch> {
        self.measures.then(measured::Watch::start)
    }

    /// Reports runs of a stage, and what they took. One that comes again adds to what it was before.
    pub(crate) fn add(
        &mut self,
        stage: Stage,
        runs: usize,
        [load, run]: [Duration; 2],
        watch: Option<measured::Watch>,
    ) {
        let Peak { rss_bytes, anonymous_bytes } = peak_of(watch);
        log::debug!("{stage}: loaded in {load:.1?}, ran in {run:.1?}");
        let report = self.report(stage);
        report.runs += runs;
        report.load += load;
        report.run += run;
        report.peak_rss_bytes = report.peak_rss_bytes.max(rss_bytes);
        report.peak_anonymous_bytes = report.peak_anonymous_bytes.max(anonymous_bytes);
    }

    fn report(&mut self, stage: Stage) -> &mut StageReport {
        let at = self.stages.iter().position(|known| known.name == stage.name());
        let at = at.unwrap_or_else(|| {
            self.stages.push(StageReport::new(stage));
            self.stages.len() - 1
        });
        &mut self.stages[at]
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
    fn a_stage_that_comes_again_adds_up() {
        let mut meter = Meter::start(false);
        for stage in [Stage::Prologue, Stage::Step, Stage::Decoder, Stage::Step, Stage::Decoder] {
            meter.add(stage, 1, [Duration::from_secs(1), Duration::from_secs(2)], None);
        }
        meter.skip(Stage::TextEncoder);
        let report = meter.finish();
        let runs: Vec<_> = report.stages.iter().map(|stage| (stage.name, stage.runs)).collect();
        assert_eq!(runs, [("prologue", 1), ("step", 2), ("decoder", 2), ("text_encoder", 0)]);
        assert_eq!(
            [report.stages[1].load, report.stages[1].run].map(|time| time.as_secs()),
            [2, 4]
        );
    }
}
