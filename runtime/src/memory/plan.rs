//! The memory policy: which stages stay loaded, how each is loaded, and the memory that will take.
//! Computed from the manifest before anything is loaded; knows no graph.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use pocketmuse_package::{Amounts, Error, ErrorKind, Manifest, Result, Stage};

use crate::{
    engine::{
        address_space,
        loading::{Intermediates, Loading, TAKES_BACK, Weights},
        providers::{self, Sizes, Target, contexts},
    },
    memory::{
        budget::{Budget, Counted},
        demand::{Demand, StageDemand},
    },
    package::{Options, prepared::Need},
    request::{Job, Provider, Request, source::Source},
};

/// What the process holds besides stages: its code, ONNX Runtime's, the tokenizer, heaps. This and
/// the next two are measured; docs/memory.md says how.
const BASE_BYTES: u64 = 25 << 20;
/// What a loaded graph takes besides its weights.
const GRAPH_BYTES: u64 = 26 << 20;
/// What a thread takes: its stack and a kernel's scratch memory.
const THREAD_BYTES: u64 = 1 << 20;

/// What is there at a time of weights that pass through memory: this share of them, one of so many
/// parts, and at most so much. A larger window gains nothing, since a step reads all of them once.
const WINDOW_SHARE: u64 = 8;
const WINDOW_BYTES: u64 = 32 << 20;
/// Fewer bytes of weights stay: in a few milliseconds all of them are read.
const LEAST_PASSING_BYTES: u64 = 16 << 20;

/// The stages in the order they run.
const ORDER: [Stage; 5] =
    [Stage::Encoder, Stage::TextEncoder, Stage::Prologue, Stage::Step, Stage::Decoder];

/// What a request will take, and how its stages are loaded. Prints as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The most that may be used.
    pub budget_bytes: u64,
    /// Threads to compute with.
    pub threads: usize,
    /// The stages, in the order they run.
    pub stages: Vec<StagePlan>,
    /// What is held of images that came in, whatever stage runs.
    pub held_bytes: u64,
    /// What stays of the last prompts, whatever stage runs, so that the next image of the same
    /// begins with its second step; 0 where that is not kept.
    pub prompt_bytes: u64,
    /// What the libraries of other providers than the CPU take.
    pub(crate) libraries_bytes: u64,
    /// What the budget is about.
    pub(crate) counted: Counted,
}

/// How one stage is loaded, and the memory held while it is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StagePlan {
    /// Which.
    pub stage: Stage,
    /// Who computes it.
    pub provider: Provider,
    /// Whether what another provider than the CPU takes was measured, when it was proved; else it
    /// is estimated.
    pub is_measured: bool,
    /// Whether what that one loads was compiled ahead, in the place of a graph.
    pub is_context: bool,
    /// Whether it stays loaded between images; else it is dropped before the next stage is
    /// loaded.
    pub warm: bool,
    /// How it is loaded.
    pub loading: Loading,
    /// The size of its weights; of another provider than the CPU, all that it holds as long as it is
    /// loaded.
    pub weights_bytes: u64,
    /// Its intermediate values, and what it is given by stages before it; of another provider than
    /// the CPU, also what it takes to compile it.
    pub working_bytes: u64,
    /// The most the process holds while it runs, in all.
    pub peak_rss_bytes: u64,
    /// As above without the pages of mapped files.
    pub peak_anonymous_bytes: u64,
}

impl Plan {
    /// Plans `request` for the package with `manifest`, opened with `options`.
    ///
    /// It starts with the least memory (every stage loaded alone, weights left in their files) and
    /// spends what the budget allows on time: stages that stay loaded, the largest first, and
    /// weights packed for the processor, which makes them anonymous memory, so that may come to
    /// half of the budget. What another provider than the CPU takes is estimated:
    /// [`Pipeline::plan`](crate::Pipeline::plan) knows what was measured.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a wrong request; `NotEnoughMemory`, with the smallest budget that does, if
    /// it is not [`Budget::Auto`] and too small.
    pub fn new(manifest: &Manifest, request: &Request, options: &Options) -> Result<Self> {
        let job = (&Job::new(request, manifest)?, &BTreeMap::new());
        Self::within(manifest, job, options, options.memory.bytes())
    }

    /// As [`Self::new`], for an edit: its images count, too.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub fn of_edit(
        manifest: &Manifest,
        request: &Request,
        source: &Source,
        options: &Options,
    ) -> Result<Self> {
        let job = (&source.job(request, manifest)?, &BTreeMap::new());
        Self::within(manifest, job, options, options.memory.bytes())
    }

    /// As [`Self::new`], for a budget that comes to `budget_bytes`, where other providers than the
    /// CPU need what was measured.
    pub(crate) fn within(
        manifest: &Manifest,
        needed: (&Job, &BTreeMap<Stage, Need>),
        options: &Options,
        budget_bytes: u64,
    ) -> Result<Self> {
        Self::counting(Counted::HERE, manifest, needed, (options, budget_bytes))
    }

    /// As [`Self::within`], of a budget that is about what `counted` says.
    fn counting(
        counted: Counted,
        manifest: &Manifest,
        (job, needs): (&Job, &BTreeMap<Stage, Need>),
        (options, budget_bytes): (&Options, u64),
    ) -> Result<Self> {
        let flavour = options.flavour_of(manifest);
        let entries = &manifest.flavour(flavour)?.stages;
        let demand = Demand::of(manifest, flavour, entries.get(&Stage::Step), job);
        // An edit begins with the encoder, and a video that has an end; what was saved has the
        // tokens.
        let has_end = job.video.as_ref().is_some_and(|video| video.end.is_some());
        let encodes = job.saved.is_none() && (job.request.strength.is_some() || has_end);
        let is_run = |stage: &Stage| encodes || *stage != Stage::Encoder;
        let stages = ORDER.into_iter().filter(is_run).filter_map(|stage| {
            let entry = entries.get(&stage)?;
            let StageDemand { intermediates, weights, weights_bytes, working_bytes } =
                demand.stage(stage, entry);
            let weights = match weights {
                Weights::Mapped if counted == Counted::Resident => passing(weights_bytes),
                other => other,
            };
            let loading = Loading { intermediates, weights };
            let alone = StagePlan::alone(stage);
            let plan = StagePlan { loading, weights_bytes, working_bytes, ..alone };
            Some(match options.providers.of(stage) {
                Provider::Cpu | Provider::Auto => plan, // auto knows the CPU alone
                other => {
                    let target = Target::of(&options.providers, stage, Sizes::of(job));
                    let context = contexts::find(entry, &target).ok().flatten(); // loading says why
                    let by_graph = || demand.other(stage, entry, other);
                    let held_bytes = context.map_or_else(by_graph, contexts::held_bytes);
                    let is_context = context.is_some();
                    let plan = plan.by(other, held_bytes, needs.get(&stage));
                    StagePlan { is_context, ..plan }
                }
            })
        });
        let stages: Vec<StagePlan> = stages.collect();
        let (threads, held_bytes) = (options.threads(), job.held_bytes);
        let others: BTreeSet<_> = stages.iter().map(|stage| stage.provider).collect();
        let libraries_bytes = others.into_iter().map(providers::library_bytes).sum();
        let mut plan = Self {
            budget_bytes,
            threads,
            stages,
            held_bytes,
            prompt_bytes: 0,
            libraries_bytes,
            counted,
        };
        plan.predict();
        if plan.peak_bytes() > budget_bytes {
            let amounts = Amounts { needed: plan.peak_bytes(), available: budget_bytes };
            let [smallest, budget] =
                [amounts.needed, amounts.available].map(|bytes| bytes.div_ceil(1_000_000));
            let [height, width] = job.size();
            let detail = format!(
                "expected a budget of at least {smallest}MB for {width} x {height} pixels, \
                found {budget}MB"
            );
            match options.memory {
                Budget::Bytes(_) => {
                    return Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail)
                        .with_amounts(amounts));
                }
                Budget::Auto => log::warn!("memory: {detail}: trying all the same"),
            }
        }
        plan.spend(!options.staged);
        if !options.staged {
            plan.keep_prompt(demand.prompt_bytes());
        }
        Ok(plan)
    }

    /// The same with every stage dropped before the next one is loaded.
    pub(crate) fn alone(mut self) -> Self {
        self.stages.iter_mut().for_each(|stage| stage.warm = false);
        self.prompt_bytes = 0;
        self.predict();
        self
    }

    /// How `stage` is loaded: alone, if it is not planned.
    pub fn stage(&self, stage: Stage) -> StagePlan {
        let planned = self.stages.iter().find(|planned| planned.stage == stage);
        planned.copied().unwrap_or_else(|| StagePlan::alone(stage))
    }

    /// The most that counts towards the budget at any time: resident memory, or on Apple's systems
    /// anonymous memory.
    pub fn peak_bytes(&self) -> u64 {
        match self.counted {
            Counted::Resident => self.peak_rss_bytes(),
            Counted::Anonymous => self.peak_anonymous_bytes(),
        }
    }

    /// The most the process holds at any time.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.peak_rss_bytes).max().unwrap_or(0)
    }

    /// As above without the pages of mapped files.
    pub fn peak_anonymous_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.peak_anonymous_bytes).max().unwrap_or(0)
    }

    /// The most address space that the stages take at any time: more than memory, where weights
    /// pass through that.
    pub(crate) fn peak_address_bytes(&self) -> u64 {
        let (warm, alone): (Vec<_>, Vec<_>) = self.stages.iter().partition(|stage| stage.warm);
        let warm: u64 = warm.into_iter().map(StagePlan::unseen_bytes).sum();
        let alone = alone.into_iter().map(StagePlan::unseen_bytes).max().unwrap_or(0);
        self.peak_rss_bytes() + warm + alone
    }

    /// Makes the plan faster as long as it stays within the budget.
    fn spend(&mut self, may_stay: bool) {
        let mut order: Vec<usize> = (0..self.stages.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.stages[index].weights_bytes));
        type Change = fn(&mut StagePlan);
        // The encoder is dropped after use.
        let stay: Change = |stage| stage.warm = stage.stage != Stage::Encoder;
        let map: Change = |stage| {
            if let Weights::Passing { .. } = stage.loading.weights {
                stage.loading.weights = Weights::Mapped;
            }
        };
        let pack: Change = |stage| stage.loading.weights = Weights::Packed;
        // Where pages of files cost nothing, packing is never worth the anonymous memory it takes.
        let may_pack = self.counted == Counted::Resident;
        let changes = [(stay, may_stay), (pack, may_pack), (map, true)];
        for (change, _) in changes.into_iter().filter(|(_, may)| *may) {
            for &index in &order {
                let before = self.clone();
                change(&mut self.stages[index]);
                self.predict();
                if self.peak_bytes() > self.budget_bytes || self.is_too_anonymous(&before) {
                    *self = before;
                }
            }
        }
    }

    /// Has so many bytes of the last prompts stay, if they fit.
    fn keep_prompt(&mut self, bytes: u64) {
        let before = self.clone();
        self.prompt_bytes = bytes;
        self.predict();
        if self.peak_bytes() > self.budget_bytes {
            *self = before;
        }
    }

    /// Whether packed weights bring a stage above half of the budget: what is mapped the system can
    /// take back, so a plan keeps some of it.
    fn is_too_anonymous(&self, before: &Self) -> bool {
        let packed = |plan: &Self| plan.stages.iter().filter(|stage| stage.is_packed()).count();
        let mut peaks = self
            .stages
            .iter()
            .zip(&before.stages)
            .map(|(now, before)| (now.peak_anonymous_bytes, before.peak_anonymous_bytes));
        packed(self) > packed(before)
            && peaks.any(|(now, before)| now > before && now > self.budget_bytes / 2)
    }

    /// Fills in the peaks. Before the first image less is held: the peaks are those of the images
    /// after it.
    fn predict(&mut self) {
        let around = BASE_BYTES
            + self.threads as u64 * THREAD_BYTES
            + self.held_bytes
            + self.prompt_bytes
            + self.libraries_bytes;
        let kept: Vec<_> = self
            .stages
            .iter()
            .map(|stage| if stage.warm { stage.kept() } else { [0, 0] })
            .collect();
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
    /// A stage that is dropped after use, of unknown size.
    pub(crate) fn alone(stage: Stage) -> Self {
        Self {
            stage,
            provider: Provider::Cpu,
            is_measured: false,
            is_context: false,
            warm: false,
            loading: Loading::of(stage),
            weights_bytes: 0,
            working_bytes: 0,
            peak_rss_bytes: 0,
            peak_anonymous_bytes: 0,
        }
    }

    /// The same computed by `other`, which holds so many bytes by estimate and takes what was
    /// measured, if it was. Before that the CPU computes it, too, for the proof.
    fn by(self, other: Provider, held_bytes: u64, measured: Option<&Need>) -> Self {
        let as_other = |held_bytes: u64, peak_bytes: u64| Self {
            provider: other,
            is_measured: measured.is_some(),
            weights_bytes: held_bytes,
            working_bytes: peak_bytes.saturating_sub(held_bytes),
            ..self
        };
        match measured {
            Some(Need { held_bytes, peak_bytes }) => as_other(*held_bytes, *peak_bytes),
            None => {
                let held_bytes = GRAPH_BYTES + held_bytes.max(self.weights_bytes);
                as_other(held_bytes, held_bytes + self.working_bytes)
            }
        }
    }

    /// Whether its weights are packed for the processor: see [`Weights`].
    pub fn is_packed(&self) -> bool {
        self.loading.weights == Weights::Packed
    }

    /// How much of its weights is in memory at a time, if they pass through it: see [`Weights`].
    pub fn window_bytes(&self) -> Option<u64> {
        match (self.provider, self.loading.weights) {
            (Provider::Cpu, Weights::Passing { window_bytes }) => Some(window_bytes),
            _ => None,
        }
    }

    /// The address space that it takes for weights that are not in memory, and for who watches them.
    fn unseen_bytes(&self) -> u64 {
        let unseen = |window_bytes| self.weights_bytes.saturating_sub(window_bytes);
        self.window_bytes().map_or(0, |window_bytes| address_space::THREAD + unseen(window_bytes))
    }

    /// Where its weights are, for people.
    fn weights_are(&self) -> String {
        match self.provider {
            Provider::Cpu => self.loading.weights.to_string(),
            other => other.to_string(),
        }
    }

    /// Resident and anonymous memory of the loaded stage, before it runs.
    fn loaded(&self) -> [u64; 2] {
        if self.provider != Provider::Cpu {
            return [self.weights_bytes; 2]; // whatever of it is mapped
        }
        let weights = match self.loading.weights {
            Weights::Packed => [self.weights_bytes; 2],
            Weights::Mapped => [self.weights_bytes, 0],
            Weights::Passing { window_bytes } => [window_bytes, 0],
        };
        weights.map(|bytes| GRAPH_BYTES + bytes)
    }

    /// Resident bytes that are held as long as it stays loaded.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept()[0]
    }

    /// What of it stays while it waits for the next image. An arena keeps what it was for.
    fn kept(&self) -> [u64; 2] {
        let arena =
            if self.loading.intermediates == Intermediates::Arena { self.working_bytes } else { 0 };
        let [rss, anonymous] = self.loaded();
        // Weights that pass leave with every run's end.
        let rss = if self.window_bytes().is_some() { anonymous } else { rss };
        [rss + arena, anonymous + arena]
    }
}

/// How so many bytes of weights take the least memory that is not their own copy.
fn passing(weights_bytes: u64) -> Weights {
    if TAKES_BACK && weights_bytes >= LEAST_PASSING_BYTES {
        Weights::Passing { window_bytes: WINDOW_BYTES.min(weights_bytes / WINDOW_SHARE) }
    } else {
        Weights::Mapped
    }
}

#[cfg(test)]
mod tests;
