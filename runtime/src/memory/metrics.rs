//! What a job cost: time and peak memory of each stage. Measures nothing.

use std::{collections::BTreeMap, time::Duration};

use pocketmuse_package::{Flavour, Stage};

use super::trials::Trials;
use crate::{engine::providers::nodes::Nodes, request::Provider};

/// What a job cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The stages in the order they ran.
    pub stages: Vec<StageReport>,
    /// From the request to its images.
    pub total: Duration,
    /// The most memory the process ever held, as far as the system tells: since it started, or, if
    /// memory is measured, since the request before this one. On Apple's systems its footprint.
    pub peak_rss_bytes: Option<u64>,
}

/// What one stage cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// The stage's name.
    pub name: &'static str,
    /// The graphs that ran.
    pub flavour: Flavour,
    /// Who computed it.
    pub provider: Provider,
    /// What was chosen of that one's options.
    pub options: BTreeMap<String, String>,
    /// Which nodes another provider than the CPU took; `None` of the CPU, and where ONNX Runtime,
    /// older than 1.24, does not tell.
    pub nodes: Option<Nodes>,
    /// Whether that one ran what was compiled ahead, in the place of a graph.
    pub is_context: bool,
    /// Who was tried, where `auto` said who computes it.
    pub tried: Option<Trials>,
    /// How often it was put to use: once for images, once for each pass of a variation and each
    /// frame of a video, and not at all if what it would have made was there already.
    pub runs: usize,
    /// From opening its files, digests included where they were not checked before, until it could
    /// run. Zero if it was still loaded.
    pub load: Duration,
    /// All its runs. Zero if what it would have made was there already.
    pub run: Duration,
    /// The most memory the process held while the stage was there; `None` where the system does not
    /// tell, or [`Options::measure_memory`](crate::Options::measure_memory) did not ask.
    pub peak_rss_bytes: Option<u64>,
    /// As above without the pages of mapped files, which the system can take back; on Apple's
    /// systems the footprint. Sampled every few milliseconds.
    pub peak_anonymous_bytes: Option<u64>,
}

impl StageReport {
    /// A stage that did nothing yet, and who will compute it.
    pub(crate) fn new(stage: Stage, flavour: Flavour, provider: Provider) -> Self {
        Self {
            name: stage.name(),
            flavour,
            provider,
            options: BTreeMap::new(),
            nodes: None,
            is_context: false,
            tried: None,
            runs: 0,
            load: Duration::ZERO,
            run: Duration::ZERO,
            peak_rss_bytes: None,
            peak_anonymous_bytes: None,
        }
    }
}
