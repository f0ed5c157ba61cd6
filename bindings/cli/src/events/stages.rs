//! What events tell of one stage: how it is planned, and what it took.

use std::collections::BTreeMap;

use pocketmuse::{Flavour, Intermediates, Nodes, Provider, StagePlan, StageReport, Trial, Trials};
use serde::Serialize;

use crate::terminal::milliseconds;

#[derive(Debug, Serialize)]
pub(super) struct PlannedStage {
    name: &'static str,
    provider: Provider,
    measured: bool,
    context: bool,
    warm: bool,
    prepacking: bool,
    window_bytes: Option<u64>,
    arena: bool,
    weights_bytes: u64,
    working_bytes: u64,
    peak_rss_bytes: u64,
    peak_anonymous_bytes: u64,
}

impl PlannedStage {
    pub(super) fn of(stage: &StagePlan) -> Self {
        Self {
            name: stage.stage.name(),
            provider: stage.provider,
            measured: stage.is_measured,
            context: stage.is_context,
            warm: stage.warm,
            prepacking: stage.is_packed(),
            window_bytes: stage.window_bytes(),
            arena: stage.loading.intermediates == Intermediates::Arena,
            weights_bytes: stage.weights_bytes,
            working_bytes: stage.working_bytes,
            peak_rss_bytes: stage.peak_rss_bytes,
            peak_anonymous_bytes: stage.peak_anonymous_bytes,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct RunStage<'a> {
    name: &'static str,
    flavour: Flavour,
    provider: Provider,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<&'a Nodes>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    context: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tried: Option<Vec<Tried<'a>>>,
    load_ms: f64,
    run_ms: f64,
    peak_rss_bytes: Option<u64>,
    peak_anonymous_bytes: Option<u64>,
}

/// A provider that was tried to compute a stage, and what came of it.
#[derive(Debug, Serialize)]
struct Tried<'a> {
    provider: Provider,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

impl<'a> Tried<'a> {
    fn of(trial: &'a Trial) -> Self {
        let (provider, run_ms) = (trial.provider, trial.run().map(milliseconds));
        Self { provider, run_ms, refused: trial.refused() }
    }
}

impl<'a> RunStage<'a> {
    pub(super) fn of(stage: &'a StageReport) -> Self {
        Self {
            name: stage.name,
            flavour: stage.flavour,
            provider: stage.provider,
            options: &stage.options,
            nodes: stage.nodes.as_ref(),
            context: stage.is_context,
            tried: stage.tried.as_ref().map(|Trials(all)| all.iter().map(Tried::of).collect()),
            load_ms: milliseconds(stage.load),
            run_ms: milliseconds(stage.run),
            peak_rss_bytes: stage.peak_rss_bytes,
            peak_anonymous_bytes: stage.peak_anonymous_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{
        plain_json,
        tests::{DOCUMENT, keys},
    };

    /// The keys of objects in objects are named in a sentence.
    #[test]
    fn every_key_of_a_stage_is_in_the_document() {
        let stage = RunStage {
            name: "step",
            flavour: Flavour::F32,
            provider: Provider::OpenVino,
            options: &[("precision".to_owned(), "bf16".to_owned())].into(),
            nodes: Some(&Nodes::default()),
            context: true,
            tried: Some(vec![Tried {
                provider: Provider::Qnn,
                run_ms: Some(1.5),
                refused: Some("computes another logits"),
            }]),
            load_ms: 1.5,
            run_ms: 1.5,
            peak_rss_bytes: None,
            peak_anonymous_bytes: None,
        };
        let value = plain_json(&stage);
        assert_eq!((&value["flavour"], &value["provider"]), (&"f32".into(), &"openvino".into()));
        let (_, section) = DOCUMENT.split_once("\n### done\n").expect("of images");
        let (_, sentence) = section.split_once("Each stage has ").expect("of stages");
        let (sentence, _) = sentence.split_once("Of `grid`").expect("what follows");
        for key in keys(&value).into_iter().chain(keys(&value["tried"][0])) {
            assert!(sentence.contains(&format!("`{key}`")), "{key}");
        }
    }
}
