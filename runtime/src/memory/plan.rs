//! The memory policy: which stages stay loaded, how each is loaded, and the memory that will take.
//! Computed from the manifest before anything is loaded; knows no graph.

use std::fmt;

use pocketmuse_package::{Error, ErrorKind, Manifest, Result, Stage};

use crate::{
    engine::loading::{Loading, Weights},
    memory::{
        budget::Budget,
        demand::{Demand, StageDemand},
    },
    package::Options,
    request::{Job, Request, source::Source},
};

/// What the process holds besides stages: its code, ONNX Runtime's, the tokenizer, heaps. This and
/// the next two are measured; docs/memory.md says how.
const BASE_BYTES: u64 = 24 << 20;
/// What a loaded graph takes besides its weights.
const GRAPH_BYTES: u64 = 26 << 20;
/// What a thread takes: its stack and a kernel's scratch memory.
const THREAD_BYTES: u64 = 1 << 20;

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
}

/// How one stage is loaded, and the memory held while it is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StagePlan {
    /// Which.
    pub stage: Stage,
    /// Whether it stays loaded between images; else it is dropped before the next stage is
    /// loaded.
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
    /// It starts with the least memory (every stage loaded alone, weights left in their files) and
    /// spends what the budget allows on time: stages that stay loaded, the largest first, and
    /// weights packed for the processor, which makes them anonymous memory, so that may come to
    /// half of the budget.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a wrong request; `NotEnoughMemory`, with the smallest budget that does, if
    /// it is not [`Budget::Auto`] and too small.
    pub fn new(manifest: &Manifest, request: &Request, options: &Options) -> Result<Self> {
        Self::within(manifest, &Job::new(request, manifest)?, options, options.memory.bytes())
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
        let job = source.job(request, manifest)?;
        Self::within(manifest, &job, options, options.memory.bytes())
    }

    /// As [`Self::new`], for a budget that comes to `budget_bytes`.
    pub(crate) fn within(
        manifest: &Manifest,
        job: &Job,
        options: &Options,
        budget_bytes: u64,
    ) -> Result<Self> {
        let flavour = options.flavour_of(manifest);
        let entries = &manifest.flavour(flavour)?.stages;
        let demand = Demand::of(manifest, flavour, entries.get(&Stage::Step), job);
        // An edit begins with the encoder; nothing else needs it.
        let is_edit = job.request.strength.is_some();
        let is_run = |stage: &Stage| is_edit || *stage != Stage::Encoder;
        let stages = ORDER.into_iter().filter(is_run).filter_map(|stage| {
            let StageDemand { weights, weights_bytes, working_bytes } =
                demand.stage(stage, entries.get(&stage)?);
            let loading = Loading { weights, ..Loading::of(stage) };
            Some(StagePlan { loading, weights_bytes, working_bytes, ..StagePlan::alone(stage) })
        });
        let stages = stages.collect();
        let (threads, held_bytes) = (options.threads(), job.held_bytes);
        let mut plan = Self { budget_bytes, threads, stages, held_bytes };
        plan.predict();
        if plan.peak_rss_bytes() > budget_bytes {
            let [smallest, budget] =
                [plan.peak_rss_bytes(), budget_bytes].map(|bytes| bytes.div_ceil(1 << 20));
            let [height, width] = job.size();
            let detail = format!(
                "expected a budget of at least {smallest}MiB for {width} x {height} pixels, \
                found {budget}MiB"
            );
            match options.memory {
                Budget::Bytes(_) => {
                    return Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail));
                }
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
        // The encoder is dropped after use.
        let stay: Change = |stage| stage.warm = stage.stage != Stage::Encoder;
        let pack: Change = |stage| stage.loading.weights = Weights::Packed;
        for change in if may_stay { vec![stay, pack] } else { vec![pack] } {
            for &index in &order {
                let before = self.clone();
                change(&mut self.stages[index]);
                self.predict();
                if self.peak_rss_bytes() > self.budget_bytes || self.is_too_anonymous(&before) {
                    *self = before;
                }
            }
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
        let around = BASE_BYTES + self.threads as u64 * THREAD_BYTES + self.held_bytes;
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
            warm: false,
            loading: Loading::of(stage),
            weights_bytes: 0,
            working_bytes: 0,
            peak_rss_bytes: 0,
            peak_anonymous_bytes: 0,
        }
    }

    /// Whether its weights are packed for the processor: see [`Weights`].
    pub fn is_packed(&self) -> bool {
        self.loading.weights == Weights::Packed
    }

    /// Resident and anonymous memory of the loaded stage, before it runs.
    fn loaded(&self) -> [u64; 2] {
        let anonymous = if self.is_packed() { self.weights_bytes } else { 0 };
        [GRAPH_BYTES + self.weights_bytes, GRAPH_BYTES + anonymous]
    }

    /// What of it stays while it waits for the next image. An arena keeps what it was for.
    fn kept(&self) -> [u64; 2] {
        let arena = if self.loading.arena { self.working_bytes } else { 0 };
        self.loaded().map(|bytes| bytes + arena)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(f, "budget {} MiB, threads {}", mebibytes(self.budget_bytes), self.threads)?;
        match mebibytes(self.held_bytes) {
            0 => writeln!(f)?,
            held => writeln!(f, ", {held} MiB of images that came in")?,
        }
        writeln!(
            f,
            "{:<14}{:>12}{:>12}{:>8}{:>14}{:>14}{:>15}",
            "stage",
            "weights MiB",
            "working MiB",
            "loaded",
            "weights are",
            "peak MiB",
            "anonymous MiB"
        )?;
        for stage in &self.stages {
            writeln!(
                f,
                "{:<14}{:>12}{:>12}{:>8}{:>14}{:>14}{:>15}",
                stage.stage.name(),
                mebibytes(stage.weights_bytes),
                mebibytes(stage.working_bytes),
                if stage.warm { "always" } else { "alone" },
                stage.loading.weights,
                mebibytes(stage.peak_rss_bytes),
                mebibytes(stage.peak_anonymous_bytes),
            )?;
        }
        let [rss, anonymous] = [self.peak_rss_bytes(), self.peak_anonymous_bytes()].map(mebibytes);
        write!(f, "peak {rss} MiB, of which anonymous {anonymous} MiB")
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::{Flavour, Held};
    use serde_json::json;

    use super::*;

    /// aMUSEd-512 in int8: the sizes that matter.
    fn full_size() -> Manifest {
        let file = |name: &str, bytes: u64| {
            json!({
                "path": name,
                "bytes": bytes,
                "sha256": "0".repeat(64),
            })
        };
        let stage = |name: &str, [graph, weights]: [u64; 2], inputs: serde_json::Value| {
            let (graph, weights) = (file(name, graph), file(&format!("{name}.data"), weights));
            json!({ "graph": graph, "weights": weights, "inputs": inputs, "outputs": [] })
        };
        // 215 inputs in truth: all that the prologue makes, 21 MiB for two branches.
        let primed = json!([
            { "name": "tokens", "dtype": "i64", "shape": [1, "height", "width"] },
            { "name": "guidance", "dtype": "f32", "shape": ["branches"] },
            { "name": "scale", "dtype": "f32", "shape": ["branches", 1, 1024] },
            { "name": "key", "dtype": "f16", "shape": ["branches", 12, 5958, 77] },
        ]);
        let manifest = json!({
            "format": 1,
            "exporter": "test",
            "model": {
                "name": "amused-512",
                "vocab_size": 8256,
                "codebook_size": 8192,
                "mask_token_id": 8255,
                "masking_schedule": "cosine",
                "sample_size": 32,
                "pixels_per_token": 16,
                "grid_multiple": 2,
            },
            "tokenizer": {
                "file": file("tokenizer.json", 3),
                "bos": 1,
                "eos": 2,
                "pad": 2,
                "max_tokens": 77,
            },
            "defaults": {
                "num_inference_steps": 12,
                "guidance_scale": 10.0,
                "temperature": [2.0, 0.0],
            },
            "flavours": { "int8": { "stages": {
                "text_encoder": stage("text_encoder", [106_140, 124_747_968], json!([])),
                "prologue": stage("prologue", [119_718, 135_499_776], json!([])),
                "step": stage("step", [328_706, 392_764_672], primed),
                "decoder": stage("decoder", [331_542, 94_704_128], json!([])),
                "encoder": stage("encoder", [105_831, 236_894_720], json!([])),
            } } },
        });
        Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest")
    }

    fn plan(side: u32, memory: Budget, staged: bool) -> Result<Plan> {
        let request = Request { height: Some(side), width: Some(side), ..Request::default() };
        Plan::new(
            &full_size(),
            &request,
            &Options { memory, staged, threads: Some(2), ..Options::default() },
        )
    }

    /// The peaks are those of docs/memory.md, in MiB, each stage alone and packed.
    #[test]
    fn full_size_peaks_are_predicted_from_above_and_closely() {
        for (side, measured) in [(512, [136, 195, 522, 317]), (256, [136, 195, 468, 196])] {
            let plan = plan(side, Budget::Bytes(1800 << 20), true).expect("it fits");
            for (stage, measured) in plan.stages.iter().zip(measured) {
                let predicted = stage.peak_rss_bytes >> 20;
                let what = format!(
                    "{} at {side}: {predicted} MiB predicted, {measured} taken",
                    stage.stage
                );
                assert!((measured..measured * 27 / 20).contains(&predicted), "{what}");
            }
        }
    }

    #[test]
    fn what_is_left_of_the_budget_is_spent_on_time() {
        let said = |memory: u64, staged| {
            let plan = plan(256, Budget::Bytes(memory << 20), staged).expect("it fits");
            assert!(plan.peak_rss_bytes() <= plan.budget_bytes, "{plan}");
            let names = |of: fn(&StagePlan) -> bool| {
                let stages = plan.stages.iter().filter(|stage| of(stage));
                stages.map(|stage| stage.stage.name()).collect::<Vec<_>>().join(" ")
            };
            [names(|stage| stage.warm), names(StagePlan::is_packed)]
        };
        assert_eq!(
            said(600, true),
            ["", "text_encoder prologue decoder"],
            "packed as far as half of the budget"
        );
        assert_eq!(said(600, false), ["", "text_encoder prologue decoder"], "no stage may stay");
        assert_eq!(
            said(800, false),
            ["step", "text_encoder prologue decoder"],
            "the largest stays"
        );
        assert_eq!(said(8000, true), ["", "text_encoder prologue step decoder"]);
        let all = "text_encoder prologue step decoder";
        assert_eq!(said(8000, false), [all, all]);
    }

    #[test]
    fn an_edit_needs_the_encoder_too() {
        let request = Request { strength: Some(0.5), ..Request::default() };
        let options =
            Options { memory: Budget::Bytes(8 << 30), threads: Some(2), ..Options::default() };
        let plan = Plan::new(&full_size(), &request, &options).expect("it fits");
        let StagePlan { stage, warm, peak_rss_bytes, .. } = plan.stages[0];
        assert_eq!(
            (stage, warm, plan.stages.len()),
            (Stage::Encoder, false, 5),
            "first, and dropped after use"
        );
        let others: u64 = plan.stages[1..].iter().map(|stage| stage.kept()[0]).sum();
        let alone = (peak_rss_bytes - others) >> 20;
        assert!((878..878 * 5 / 4).contains(&alone), "{alone} MiB predicted, 878 taken");
        let small = Options { memory: Budget::Bytes(700 << 20), ..options };
        assert_eq!(
            Plan::new(&full_size(), &request, &small).expect_err("too small").kind(),
            ErrorKind::NotEnoughMemory
        );
    }

    #[test]
    fn the_smallest_budget_is_said_and_is_enough() {
        let error = plan(512, Budget::Bytes(512 << 20), true).expect_err("too small");
        assert_eq!((error.kind(), error.at()), (ErrorKind::NotEnoughMemory, "memory"));
        let said = error
            .detail()
            .strip_prefix("expected a budget of at least ")
            .and_then(|rest| rest.split_once(' '));
        let (smallest, rest) = said.expect("a size");
        assert_eq!(rest, "for 512 x 512 pixels, found 512MiB");
        let plan = plan(512, smallest.parse().expect("a size"), false).expect("enough");
        assert!(plan.to_string().contains("alone"), "{plan}");
    }

    #[test]
    fn an_automatic_budget_that_is_too_small_is_tried_all_the_same() {
        let manifest = full_size();
        let job = Job::new(&Request::default(), &manifest).expect("a request");
        let plan = |memory| {
            let options = Options { memory, threads: Some(2), ..Options::default() };
            Plan::within(&manifest, &job, &options, 100 << 20)
        };
        let plan_of_auto = plan(Budget::Auto).expect("tried");
        assert!(plan_of_auto.peak_rss_bytes() > plan_of_auto.budget_bytes, "{plan_of_auto}");
        assert!(plan_of_auto.stages.iter().all(|stage| !stage.warm), "{plan_of_auto}");
        let packed = plan_of_auto.stages.iter().filter(|stage| stage.is_packed());
        let packed: Vec<_> = packed.map(|stage| stage.stage).collect();
        assert_eq!(packed, [Stage::Prologue], "where that takes less memory");
        let error = plan(Budget::Bytes(100 << 20)).expect_err("asked for");
        assert_eq!((error.kind(), error.at()), (ErrorKind::NotEnoughMemory, "memory"));
    }

    #[test]
    fn a_stage_takes_what_the_manifest_says_it_holds_not_what_its_flavour_is_called() {
        let mut manifest = full_size();
        let stages = &mut manifest.flavours.get_mut(&Flavour::Int8).expect("a flavour").stages;
        for (stage, entry) in stages.iter_mut() {
            entry.held = Some(Held::of(Flavour::Int8, *stage));
        }
        let decoder = |manifest: &Manifest| {
            let options =
                Options { memory: Budget::Bytes(4 << 30), threads: Some(2), ..Options::default() };
            let plan = Plan::new(manifest, &Request::default(), &options).expect("it fits");
            (plan.clone(), plan.stage(Stage::Decoder).working_bytes)
        };
        let (said, integer) = decoder(&manifest);
        assert_eq!(said, decoder(&full_size()).0, "what older packages do not say is derived");
        let stages = &mut manifest.flavours.get_mut(&Flavour::Int8).expect("a flavour").stages;
        stages.get_mut(&Stage::Decoder).expect("a decoder").held = Some(Held::FLOATS);
        let (_, float) = decoder(&manifest);
        // By the constants of `demand`: 560 + 0.22 sqrt(weight bytes) for each pixel in floats, 60
        // + 0.068 sqrt(weight bytes) and 0.22 of the weights in integers; about 3.4 times as much.
        assert!(float > 3 * integer, "{float} bytes in floats, {integer} in integers");
    }

    #[test]
    fn a_package_without_the_flavour_says_which_it_has() {
        let options = Options { flavour: Some(Flavour::Int4), ..Options::default() };
        let error = Plan::new(&full_size(), &Request::default(), &options).expect_err("int8 alone");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert_eq!(error.to_string(), "flavour: expected one of this package (int8), found int4");
    }
}
