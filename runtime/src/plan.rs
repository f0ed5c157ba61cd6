//! The memory policy: which stages stay loaded, how each is loaded, and the memory that will take. Computed from the
//! manifest before anything is loaded; knows no graph.

use std::fmt;

use pocketmuse_package::{Dim, Error, ErrorKind, Manifest, Result, Stage, StageEntry, TensorSpec};

use crate::{
    budget::Budget,
    loading::Loading,
    package::Options,
    request::{Request, Resolved},
};

/// What the process holds besides stages: its code, ONNX Runtime's, the tokenizer, heaps.
const BASE_BYTES: u64 = 40 << 20;
/// What a loaded graph takes besides its weights.
const GRAPH_BYTES: u64 = 20 << 20;
/// What a thread takes: its stack and a kernel's scratch memory.
const THREAD_BYTES: u64 = 2 << 20;
/// Intermediate values of the step graph alive at once, in rows of the network's width for each token and branch.
const STEP_ROWS: u64 = 12;
/// As [`STEP_ROWS`], of the text encoder.
const TEXT_ROWS: u64 = 24;
/// Intermediate values of the VQ-GAN's networks for each pixel, in bytes, as a share of the square root of their
/// weights' bytes: weights grow with the square of a network's width, intermediate values with the width.
const BYTES_PER_PIXEL: f64 = 0.24;

/// What a request will take, and how its stages are loaded. Prints as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The most that may be used.
    pub budget_bytes: u64,
    /// Threads to compute with.
    pub threads: usize,
    /// The stages, in the order they run.
    pub stages: Vec<StagePlan>,
}

/// How one stage is loaded, and the memory held while it is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StagePlan {
    /// Which.
    pub stage: Stage,
    /// Whether it stays loaded between pictures; else it is dropped before the next stage is loaded.
    pub warm: bool,
    /// How it is loaded.
    pub loading: Loading,
    /// The size of its weights.
    pub weights_bytes: u64,
    /// Its intermediate values, and what it is given by stages before it.
    pub working_bytes: u64,
    /// The most the process holds while it runs, in all.
    pub peak_rss_bytes: u64,
    /// As above without the pages of mapped files.
    pub peak_anonymous_bytes: u64,
}

impl Plan {
    /// Plans `request` for the package with `manifest`, opened with `options`.
    ///
    /// It starts with the least memory (every stage loaded alone, weights left in their files) and spends what the
    /// budget allows on time: stages that stay loaded, the largest first, and weights packed for the processor, which
    /// makes them anonymous memory, so that may come to half of the budget.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a wrong request; `NotEnoughMemory`, with the smallest budget that does, if it is not
    /// [`Budget::Auto`] and too small.
    pub fn new(manifest: &Manifest, request: &Request, options: &Options) -> Result<Self> {
        Self::within(manifest, &request.resolve(manifest)?, options, options.memory.bytes())
    }

    /// As [`Self::new`], for a budget that comes to `budget_bytes`.
    pub(crate) fn within(manifest: &Manifest, job: &Resolved, options: &Options, budget_bytes: u64) -> Result<Self> {
        let entries = &manifest.flavour(options.flavour_of(manifest))?.stages;
        let demand = Demand::of(manifest, entries.get(&Stage::Step), job);
        let stages = entries.iter().filter(|(stage, _)| **stage != Stage::Encoder);
        let stages = stages.map(|(stage, entry)| demand.stage(*stage, entry)).collect();
        let mut plan = Self { budget_bytes, threads: options.threads(), stages };
        plan.predict();
        if plan.peak_rss_bytes() > budget_bytes {
            let [smallest, budget] = [plan.peak_rss_bytes(), budget_bytes].map(|bytes| bytes.div_ceil(1 << 20));
            let [height, width] = job.size();
            let detail =
                format!("expected a budget of at least {smallest}MiB for {width} x {height} pixels, found {budget}MiB");
            match options.memory {
                Budget::Bytes(_) => return Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail)),
                Budget::Auto => log::warn!("memory: {detail}: trying all the same"),
            }
        }
        plan.spend(!options.staged);
        Ok(plan)
    }

    /// How `stage` is loaded: alone, if it is not planned.
    pub fn stage(&self, stage: Stage) -> StagePlan {
        let planned = self.stages.iter().find(|planned| planned.stage == stage);
        planned.copied().unwrap_or_else(|| StagePlan::alone(stage))
    }

    /// The most the process holds at any time.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.peak_rss_bytes).max().unwrap_or(0)
    }

    /// As above without the pages of mapped files.
    pub fn peak_anonymous_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.peak_anonymous_bytes).max().unwrap_or(0)
    }

    /// Makes the plan faster as long as it stays within the budget.
    fn spend(&mut self, may_stay: bool) {
        let mut order: Vec<usize> = (0..self.stages.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.stages[index].weights_bytes));
        type Change = fn(&mut StagePlan);
        let stay: Change = |stage| stage.warm = true;
        let pack: Change = |stage| stage.loading.prepacking = true;
        for change in if may_stay { vec![stay, pack] } else { vec![pack] } {
            for &index in &order {
                let before = self.clone();
                change(&mut self.stages[index]);
                self.predict();
                let packs = self.stages[index].loading.prepacking;
                let too_anonymous = packs && self.peak_anonymous_bytes() > self.budget_bytes / 2;
                if self.peak_rss_bytes() > self.budget_bytes || too_anonymous {
                    *self = before;
                }
            }
        }
    }

    /// Fills in the peaks. Before the first picture less is held: the peaks are those of the pictures after it.
    fn predict(&mut self) {
        let around = BASE_BYTES + self.threads as u64 * THREAD_BYTES;
        let kept: Vec<_> = self.stages.iter().map(|stage| if stage.warm { stage.kept() } else { [0, 0] }).collect();
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let others = kept.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.fold([0, 0], |sum, (_, kept)| [sum[0] + kept[0], sum[1] + kept[1]]);
            let [rss, anonymous] = stage.loaded();
            stage.peak_rss_bytes = around + others[0] + rss + stage.working_bytes;
            stage.peak_anonymous_bytes = around + others[1] + anonymous + stage.working_bytes;
        }
    }
}

impl StagePlan {
    /// A stage that is dropped after use.
    pub(crate) fn alone(stage: Stage) -> Self {
        let (weights_bytes, working_bytes) = (0, 0);
        let (peak_rss_bytes, peak_anonymous_bytes) = (0, 0);
        let loading = Loading::of(stage);
        Self { stage, warm: false, loading, weights_bytes, working_bytes, peak_rss_bytes, peak_anonymous_bytes }
    }

    /// Resident and anonymous memory of the loaded stage, before it runs.
    fn loaded(&self) -> [u64; 2] {
        let anonymous = if self.loading.prepacking { self.weights_bytes } else { 0 };
        [GRAPH_BYTES + self.weights_bytes, GRAPH_BYTES + anonymous]
    }

    /// What of it stays while it waits for the next picture. An arena keeps what it was for.
    fn kept(&self) -> [u64; 2] {
        let arena = if self.loading.arena { self.working_bytes } else { 0 };
        self.loaded().map(|bytes| bytes + arena)
    }
}

/// The sizes that decide what a stage's intermediate values take.
struct Demand {
    tokens: u64,
    /// Tokens that attend to each other in the step graph.
    attending: u64,
    pixels: u64,
    branches: u64,
    images: u64,
    prompt_tokens: u64,
    /// What the prologue makes and the step graph is given.
    primed_bytes: u64,
    /// The step graph's width.
    width: u64,
    codebook_size: u64,
}

impl Demand {
    fn of(manifest: &Manifest, step: Option<&StageEntry>, job: &Resolved) -> Self {
        let model = &manifest.model;
        let tokens = (job.grid[0] * job.grid[1]) as u64;
        let [height, width] = job.size();
        let branches = if job.is_guided() { 2 } else { 1 };
        let primed = step
            .map_or(&[][..], |step| &step.inputs)
            .iter()
            .filter(|spec| spec.shape.0.first() == Some(&"branches".into()) && spec.shape.0.len() > 1);
        let row = |spec: &TensorSpec| {
            spec.shape
                .0
                .iter()
                .map(|dim| if let Dim::Fixed(extent) = dim { *extent as u64 } else { 1 })
                .product::<u64>()
        };
        let modulations = primed.clone().filter(|spec| spec.shape.0.len() == 3);
        Self {
            tokens,
            attending: tokens / u64::from(model.grid_multiple).pow(2),
            pixels: height as u64 * width as u64,
            branches,
            images: job.images() as u64,
            prompt_tokens: manifest.tokenizer.max_tokens.into(),
            primed_bytes: 4 * branches * primed.map(row).sum::<u64>(),
            width: modulations.map(row).max().unwrap_or(1024),
            codebook_size: model.codebook_size.into(),
        }
    }

    fn stage(&self, stage: Stage, entry: &StageEntry) -> StagePlan {
        let weights_bytes = entry.weights.as_ref().map_or(0, |weights| weights.bytes) + entry.graph.bytes;
        let working_bytes = self.working_bytes(stage, weights_bytes);
        let loading = Loading { prepacking: false, ..Loading::of(stage) };
        StagePlan { loading, weights_bytes, working_bytes, ..StagePlan::alone(stage) }
    }

    fn working_bytes(&self, stage: Stage, weights_bytes: u64) -> u64 {
        let f32s = match stage {
            Stage::TextEncoder => self.prompt_tokens * self.width * TEXT_ROWS,
            Stage::Prologue => self.prompt_tokens * self.width * self.branches * TEXT_ROWS,
            Stage::Step => {
                let heads = self.width.div_ceil(64);
                let scores = 2 * self.branches * heads * self.attending * self.attending;
                self.tokens * (self.codebook_size + self.branches * self.width * STEP_ROWS) + scores
            }
            Stage::Decoder | Stage::Encoder => 0,
        };
        4 * f32s
            + match stage {
                Stage::TextEncoder => 0,
                Stage::Prologue | Stage::Step => self.primed_bytes,
                Stage::Decoder | Stage::Encoder => {
                    let each = (weights_bytes as f64).sqrt() * BYTES_PER_PIXEL;
                    (self.pixels as f64 * each.max(64.0)) as u64 + 3 * self.images * self.pixels
                }
            }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(f, "budget {} MiB, threads {}", mebibytes(self.budget_bytes), self.threads)?;
        writeln!(
            f,
            "{:<14}{:>12}{:>12}{:>8}{:>14}{:>14}{:>15}",
            "stage", "weights MiB", "working MiB", "loaded", "weights", "peak MiB", "anonymous MiB"
        )?;
        for stage in &self.stages {
            writeln!(
                f,
                "{:<14}{:>12}{:>12}{:>8}{:>14}{:>14}{:>15}",
                stage.stage.name(),
                mebibytes(stage.weights_bytes),
                mebibytes(stage.working_bytes),
                if stage.warm { "always" } else { "alone" },
                if stage.loading.prepacking { "packed" } else { "mapped" },
                mebibytes(stage.peak_rss_bytes),
                mebibytes(stage.peak_anonymous_bytes),
            )?;
        }
        let [rss, anonymous] = [self.peak_rss_bytes(), self.peak_anonymous_bytes()].map(mebibytes);
        write!(f, "peak {rss} MiB, of which anonymous {anonymous} MiB")
    }
}
