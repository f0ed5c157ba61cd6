//! The objects that `bench`, `compile`, `inspect` and `package` print with `--json`; docs/events.md
//! describes them.

use std::collections::BTreeMap;

use pocketmuse::{Nodes, Provider, Request, Stage, doctor::Diagnosis, prepared::Speed};
use pocketmuse_package::{Defaults, Digest, Flavour, MaskingSchedule};
use serde::Serialize;

use crate::events::PathText;

/// The one object of `bench`.
#[derive(Debug, Serialize)]
pub(crate) struct BenchResult<'a> {
    pub(crate) model: &'a str,
    pub(crate) digest: Digest,
    pub(crate) flavour: Flavour,
    pub(crate) machine: MachineResult<'a>,
    pub(crate) request: &'a Request,
    pub(crate) runs: usize,
    pub(crate) spread: f64,
    pub(crate) stages: Vec<StageResult<'a>>,
    pub(crate) share_of_int8_peak: f64,
    pub(crate) share_of_f32_peak: f64,
    pub(crate) total_ms: f64,
}

/// The machine of a [`BenchResult`].
#[derive(Debug, Serialize)]
pub(crate) struct MachineResult<'a> {
    pub(crate) processor: Option<&'a str>,
    pub(crate) instruction_sets: &'a [&'static str],
    pub(crate) threads: usize,
    pub(crate) clock_ghz: f64,
    pub(crate) int8_operations_per_cycle: Option<u32>,
    pub(crate) int8_peak_gops: f64,
    pub(crate) f32_peak_gops: f64,
}

/// A stage of a [`BenchResult`].
#[derive(Debug, Serialize)]
pub(crate) struct StageResult<'a> {
    pub(crate) name: &'a str,
    pub(crate) cold_load_ms: Option<f64>,
    pub(crate) warm_load_ms: f64,
    pub(crate) prepared_load_ms: f64,
    pub(crate) run_ms: f64,
    pub(crate) operations: u64,
    pub(crate) gops: f64,
    pub(crate) share_of_int8_peak: f64,
    pub(crate) share_of_f32_peak: f64,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) peak_anonymous_bytes: Option<u64>,
}

/// The one object of `package`.
#[derive(Debug, Serialize)]
pub(crate) struct Copied<'a> {
    pub(crate) package: PathText<'a>,
    pub(crate) flavours: Vec<Flavour>,
    pub(crate) bytes: u64,
}

/// An object of `compile`.
#[derive(Debug, Serialize)]
pub(crate) struct CompiledContext<'a> {
    pub(crate) flavour: Flavour,
    pub(crate) stage: Stage,
    pub(crate) provider: Provider,
    pub(crate) target: &'a str,
    pub(crate) sdk: &'a str,
    pub(crate) extents: &'a BTreeMap<String, usize>,
    pub(crate) graph: &'a str,
    pub(crate) bytes: u64,
    pub(crate) sharing: usize,
    pub(crate) peak_bytes: Option<u64>,
    pub(crate) ms: f64,
}

/// An object of `ls`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a str,
    pub(crate) package: PathText<'a>,
    pub(crate) model: &'a str,
    pub(crate) flavours: Vec<Flavour>,
    pub(crate) bytes: u64,
}

/// The one object of `inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct Inspected {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) networks: Vec<InspectedNetwork>,
    #[serde(flatten)]
    pub(crate) kind: InspectedKind,
}

/// The one object of `inspect` for an image.
#[derive(Debug, Serialize)]
pub(crate) struct InspectedImage<'a, M> {
    pub(crate) kind: &'static str,
    pub(crate) request: Option<&'a Request>,
    pub(crate) made_by: Option<&'a M>,
    pub(crate) parameters: Option<&'a str>,
}

/// What is said of a package or of a checkpoint alone.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum InspectedKind {
    Package {
        format: u32,
        exporter: String,
        picture: String,
        codebook_size: u32,
        masking_schedule: MaskingSchedule,
        defaults: Defaults,
        flavours: Vec<Flavour>,
        bytes: u64,
    },
    Checkpoint {
        /// The digests of files of weights.
        sha256: BTreeMap<String, Digest>,
    },
}

/// A network of a checkpoint, or a stage of a package.
#[derive(Debug, Serialize)]
pub(crate) struct InspectedNetwork {
    pub(crate) name: String,
    pub(crate) tensors: usize,
    pub(crate) parameters: u64,
    /// Parameters by their type.
    pub(crate) dtypes: BTreeMap<String, u64>,
    pub(crate) bytes: u64,
}

/// The one object of `doctor`.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorResult<'a> {
    pub(crate) version: &'static str,
    pub(crate) good: bool,
    pub(crate) machine: DoctorMachine<'a>,
    pub(crate) providers: Vec<DoctorProvider>,
    pub(crate) package: Option<DoctorPackage<'a>>,
    pub(crate) stages: Vec<DoctorStage<'a>>,
}

/// The machine of a [`DoctorResult`].
#[derive(Debug, Serialize)]
pub(crate) struct DoctorMachine<'a> {
    pub(crate) library: PathText<'a>,
    pub(crate) build: &'a str,
    pub(crate) instruction_sets: &'a [&'static str],
    pub(crate) cores: usize,
    pub(crate) available_bytes: Option<u64>,
}

/// A provider of a [`DoctorResult`].
#[derive(Debug, Serialize)]
pub(crate) struct DoctorProvider {
    pub(crate) name: Provider,
    pub(crate) here: bool,
    pub(crate) library: Option<String>,
    pub(crate) devices: Vec<String>,
}

/// The package of a [`DoctorResult`].
#[derive(Debug, Serialize)]
pub(crate) struct DoctorPackage<'a> {
    pub(crate) model: &'a str,
    pub(crate) digest: Digest,
}

/// A stage of a [`DoctorResult`]: what was measured is null where the proof did not come so far.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorStage<'a> {
    flavour: Flavour,
    provider: Provider,
    stage: Stage,
    good: bool,
    sentence: String,
    advice: Option<&'static str>,
    reason: &'a str,
    nodes: Option<&'a Nodes>,
    load_ms: Option<f64>,
    run_ms: Option<f64>,
    cpu_load_ms: Option<f64>,
    cpu_run_ms: Option<f64>,
    held_bytes: Option<u64>,
    peak_bytes: Option<u64>,
}

impl<'a> DoctorStage<'a> {
    pub(crate) fn of(diagnosis: &'a Diagnosis) -> Self {
        let (speed, need) = (diagnosis.speed(), diagnosis.need());
        let ms = |us: fn(Speed) -> u64| speed.map(|speed| us(speed) as f64 / 1000.0);
        Self {
            flavour: diagnosis.flavour,
            provider: diagnosis.provider,
            stage: diagnosis.stage,
            good: diagnosis.is_good(),
            sentence: diagnosis.sentence(),
            advice: diagnosis.advice(),
            reason: diagnosis.reason(),
            nodes: diagnosis.verdict().and_then(|verdict| verdict.nodes.as_ref()),
            load_ms: ms(|speed| speed.load_us),
            run_ms: ms(|speed| speed.run_us),
            cpu_load_ms: ms(|speed| speed.cpu_load_us),
            cpu_run_ms: ms(|speed| speed.cpu_run_us),
            held_bytes: need.map(|need| need.held_bytes),
            peak_bytes: need.map(|need| need.peak_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::events::{
        plain_json,
        tests::{DOCUMENT, documented, keys},
    };

    #[test]
    fn every_key_of_doctor_is_in_the_document() {
        let diagnosis = Diagnosis {
            flavour: Flavour::F32,
            stage: Stage::Step,
            provider: Provider::OpenVino,
            finding: pocketmuse::doctor::Finding::Failed("a".to_owned()),
        };
        let machine = DoctorMachine {
            library: PathText("a".as_ref()),
            build: "1",
            instruction_sets: &["avx2"],
            cores: 2,
            available_bytes: None,
        };
        let provider =
            DoctorProvider { name: Provider::Cpu, here: true, library: None, devices: vec![] };
        let result = DoctorResult {
            version: "1",
            good: false,
            machine,
            providers: vec![provider],
            package: Some(DoctorPackage { model: "tiny", digest: Digest::of(b"") }),
            stages: vec![DoctorStage::of(&diagnosis)],
        };
        let result = plain_json(&result);
        assert_eq!(documented("doctor"), keys(&result));
        let (_, section) = DOCUMENT.split_once("\n### doctor\n").expect("a section");
        let section = section.split("\n### ").next().unwrap_or_default();
        let parts =
            [&result["machine"], &result["providers"][0], &result["package"], &result["stages"][0]];
        for key in parts.into_iter().flat_map(keys) {
            assert!(section.contains(&format!("`{key}`")), "{key}");
        }
    }

    #[test]
    fn every_key_of_bench_and_inspect_is_in_the_document() {
        let machine = MachineResult {
            processor: None,
            instruction_sets: &["avx2"],
            threads: 2,
            clock_ghz: 3.0,
            int8_operations_per_cycle: None,
            int8_peak_gops: 1.0,
            f32_peak_gops: 1.0,
        };
        let bench = BenchResult {
            model: "tiny",
            digest: Digest::of(b""),
            flavour: Flavour::F32,
            machine,
            request: &Request::default(),
            runs: 3,
            spread: 1.0,
            stages: vec![],
            share_of_int8_peak: 0.5,
            share_of_f32_peak: 0.5,
            total_ms: 1.0,
        };
        let bench = plain_json(&bench);
        assert_eq!(documented("bench"), keys(&bench));
        for key in keys(&bench["machine"]) {
            assert!(DOCUMENT.contains(&format!("`{key}`")), "{key}");
        }

        let package = PathText("a".as_ref());
        let copied = Copied { package, flavours: vec![Flavour::F32], bytes: 1 };
        assert_eq!(documented("package"), keys(&plain_json(&copied)));

        let context = CompiledContext {
            flavour: Flavour::F16,
            stage: Stage::Step,
            provider: Provider::Qnn,
            target: "sm8650",
            sdk: "2.51.0",
            extents: &BTreeMap::new(),
            graph: "a",
            bytes: 1,
            sharing: 1,
            peak_bytes: None,
            ms: 1.0,
        };
        assert_eq!(documented("compile"), keys(&plain_json(&context)));

        let listed = Listed { name: "a", package, model: "a", flavours: vec![], bytes: 1 };
        assert_eq!(documented("ls"), keys(&plain_json(&listed)));

        let kinds = [
            InspectedKind::Package {
                format: 1,
                exporter: String::new(),
                picture: String::new(),
                codebook_size: 1,
                masking_schedule: MaskingSchedule::Cosine,
                defaults: Defaults::default(),
                flavours: vec![],
                bytes: 1,
            },
            InspectedKind::Checkpoint { sha256: BTreeMap::new() },
        ];
        let mut found = BTreeSet::new();
        for kind in kinds {
            let inspected =
                Inspected { name: String::new(), digest: Digest::of(b""), networks: vec![], kind };
            found.extend(keys(&plain_json(&inspected)));
        }
        let image =
            InspectedImage::<()> { kind: "image", request: None, made_by: None, parameters: None };
        found.extend(keys(&plain_json(&image)));
        assert_eq!(documented("inspect"), found);
    }
}
