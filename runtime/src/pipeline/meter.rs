//! Time and peak memory of each stage. Knows nothing of what a stage does.

use std::{
    mem,
    time::{Duration, Instant},
};

use pocketmuse_package::{Flavour, Stage};

use crate::{
    engine::providers::nodes::Nodes,
    memory::{
        measured::{self, Peak},
        metrics::{Report, StageReport},
    },
    request::Providers,
};

/// Collects a [`Report`].
pub(crate) struct Meter {
    flavour: Flavour,
    providers: Providers,
    stages: Vec<StageReport>,
    started: Instant,
    /// Whether memory is measured.
    measures: bool,
    /// The process' peak before the first stage was watched.
    peak_rss_bytes: Option<u64>,
}

impl Meter {
    /// Of stages of `flavour` that `providers` compute. `measures` says whether to measure memory
    /// besides time.
    pub(crate) fn start(flavour: Flavour, providers: Providers, measures: bool) -> Self {
        let (stages, started) = (Vec::new(), Instant::now());
        let peak_rss_bytes = measured::peak_rss();
        Self { flavour, providers, stages, started, measures, peak_rss_bytes }
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

    /// Which nodes of a stage another provider than the CPU took, or whether it ran a context.
    pub(crate) fn took(&mut self, stage: Stage, nodes: Option<&Nodes>, is_context: bool) {
        if nodes.is_some() || is_context {
            let report = self.report(stage);
            (report.nodes, report.is_context) = (nodes.cloned(), is_context);
        }
    }

    fn report(&mut self, stage: Stage) -> &mut StageReport {
        let at = self.stages.iter().position(|known| known.name == stage.name());
        let at = at.unwrap_or_else(|| {
            let provider = self.providers.of(stage);
            let options = self.providers.options.get(&provider).cloned().unwrap_or_default();
            let report = StageReport::new(stage, self.flavour, provider);
            self.stages.push(StageReport { options, ..report });
            self.stages.len() - 1
        });
        &mut self.stages[at]
    }

    /// What was reported until now.
    pub(crate) fn finish(&mut self) -> Report {
        let peaks = self.stages.iter().map(|stage| stage.peak_rss_bytes);
        let peak_rss_bytes = peaks.fold(self.peak_rss_bytes, Option::max).max(measured::peak_rss());
        let stages = mem::take(&mut self.stages);
        Report { stages, total: self.started.elapsed(), peak_rss_bytes }
    }
}

fn peak_of(watch: Option<measured::Watch>) -> Peak {
    watch.map_or_else(Peak::default, measured::Watch::stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Provider;

    #[test]
    fn a_stage_that_comes_again_adds_up() {
        let stages = Providers::stages_of("step=openvino").expect("known");
        let chosen =
            std::collections::BTreeMap::from([("precision".to_owned(), "bf16".to_owned())]);
        let options = [(Provider::OpenVino, chosen.clone())].into();
        let providers = Providers { stages, options, ..Providers::default() };
        let mut meter = Meter::start(Flavour::Int8, providers, false);
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
        let step = &report.stages[1];
        assert_eq!((step.flavour, step.provider), (Flavour::Int8, Provider::OpenVino));
        assert_eq!(step.options, chosen);
        assert_eq!(report.stages[0].provider, Provider::Cpu);
        assert!(report.stages[0].options.is_empty());
    }
}
