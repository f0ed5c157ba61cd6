//! What a job is expected to take, stage by stage: as long as stages took before, else a guess from
//! the size of their weights. Runs nothing.

use std::time::Duration;

use pocketmuse_package::Stage;

use super::warm::Warm;
use crate::{
    engine::loading::Weights,
    memory::plan::Plan,
    package::{Package, prepared::StageTime},
    request::{
        Job, Provider,
        job::{Pass, PassKind},
    },
};

/// What one stage is expected to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effort {
    pub(super) stage: Stage,
    /// Bytes that are read to check its files.
    pub(super) unchecked_bytes: u64,
    /// How often it is loaded.
    pub(super) loads: usize,
    /// Loading it once.
    pub(super) load: Duration,
    /// How often it runs: for each image in each step, for each image that is decoded.
    pub(super) runs: usize,
    /// Running it once.
    pub(super) run: Duration,
    /// Whether that was measured on this machine.
    pub(super) is_measured: bool,
}

/// The kind of job whose stages take as long: flavour, size, threads, guided or not, and who
/// computes what instead of the CPU.
pub(super) fn kind(job: &Job, package: &Package, threads: usize) -> String {
    let [rows, columns] = job.outer_grid();
    let guided = if job.is_guided() { " guided" } else { "" };
    let others = package.providers().stages.iter().filter(|(_, by)| **by != Provider::Cpu);
    let others: String = others.map(|(stage, by)| format!(" {stage}={by}")).collect();
    let options = package.providers().options.iter().flat_map(|(provider, chosen)| {
        chosen.iter().map(move |(key, value)| format!(" {provider}.{key}={value}"))
    });
    let others = others + &options.collect::<String>();
    format!("{} {rows}x{columns} {threads} threads{guided}{others}", package.flavour())
}

/// What is left of `job`, in the order of the stages.
pub(super) fn efforts(job: &Job, package: &Package, plan: &Plan, warm: &Warm) -> Vec<Effort> {
    let times = package.prepared().times(&kind(job, package, plan.threads));
    let effort = |(stage, runs, rounds): (Stage, usize, usize)| {
        let (unchecked_bytes, planned) = (package.unchecked_bytes(stage), plan.stage(stage));
        let time = times.get(&stage).copied().unwrap_or_default();
        let guess = guess(job, package, plan, stage);
        let again = if planned.warm { 1 } else { rounds };
        Effort {
            stage,
            unchecked_bytes,
            loads: if warm.is_loaded(stage) { again - 1 } else { again },
            load: time.load().or(guess.load()).unwrap_or_default(),
            runs,
            run: time.run().or(guess.run()).unwrap_or_default(),
            is_measured: time.run().is_some(),
        }
    };
    let rounds = job.video.as_ref().map_or(1, |_| job.passes().count()).max(1);
    let steps = job.passes().map(|pass| runs_of(job, &pass)).sum();
    let decoded = if job.video.is_some() { rounds } else { job.images() };
    let stages = [
        (Stage::Encoder, usize::from(is_encoded(job)), 1),
        (Stage::TextEncoder, if job.is_guided() { 2 } else { 1 }, 1),
        (Stage::Prologue, 1, 1),
        (Stage::Step, steps, rounds),
        (Stage::Decoder, decoded, rounds),
    ];
    stages.into_iter().filter(|(_, runs, _)| *runs > 0).map(effort).collect()
}

/// How often a pass runs the step graph, at most.
pub(super) fn runs_of(job: &Job, pass: &Pass) -> usize {
    images_of(job, pass) * job.steps.saturating_sub(pass.first_step)
}

/// Images that a pass makes at once.
pub(super) fn images_of(job: &Job, pass: &Pass) -> usize {
    if pass.kind == PassKind::Original { 1 } else { job.images() }
}

/// Whether an image becomes tokens first.
fn is_encoded(job: &Job) -> bool {
    let end = job.video.as_ref().and_then(|video| video.end.as_ref());
    job.saved.is_none() && (job.source.is_some() || end.is_some())
}

/// Nanoseconds that a layer takes for each byte of its weights and row of its input, on one thread.
/// This and the next are of aMUSEd-512 in int8 on a processor with AVX2: a step of 1.8 s, 8.0 s for
/// the decoder.
const LAYER_NS: f64 = 0.018;
/// As [`LAYER_NS`], of a network of convolutions, for each byte and pixel of the image.
const CONVOLUTION_NS: f64 = 0.000_64;
/// What loading a graph takes besides its weights, and each byte of these: packed, or mapped.
const LOAD: Duration = Duration::from_millis(30);
const PACK_NS: f64 = 1.0;
const MAP_NS: f64 = 0.05;

/// What a stage takes, guessed from the size of its weights and its inputs. What counts is how the
/// stages compare.
fn guess(job: &Job, package: &Package, plan: &Plan, stage: Stage) -> StageTime {
    let entry = package.entry(stage).ok();
    let bytes = entry.and_then(|entry| entry.weights.as_ref()).map_or(0, |file| file.bytes) as f64;
    let (manifest, [rows, columns]) = (package.manifest(), job.outer_grid());
    let tokens = (rows * columns) as f64;
    let attending = tokens / f64::from(manifest.model.grid_multiple.max(1)).powi(2);
    let prompt = f64::from(manifest.tokenizer.max_tokens);
    let branches = if job.is_guided() { 2.0 } else { 1.0 };
    let pixels = tokens * f64::from(manifest.model.pixels_per_token).powi(2);
    let ns = match stage {
        Stage::TextEncoder => LAYER_NS * prompt,
        Stage::Prologue => LAYER_NS * prompt * branches,
        Stage::Step => LAYER_NS * attending * branches,
        Stage::Encoder | Stage::Decoder => CONVOLUTION_NS * pixels,
    };
    let load_ns = match plan.stage(stage).loading.weights {
        Weights::Packed => PACK_NS,
        Weights::Mapped => MAP_NS,
    };
    let time = |ns: f64| Duration::from_nanos((ns * bytes) as u64);
    let threads = plan.threads.max(1) as f64;
    StageTime::new(Some(LOAD + time(load_ns)), Some(time(ns / threads)))
}
