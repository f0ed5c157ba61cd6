//! What the stages of a job take: the bytes of their weights and of their intermediate values,
//! estimated from the manifest. Knows no budget and no policy.
//!
//! The constants are measured on the bundled model and on a full-size one; docs/memory.md says how.

use pocketmuse_package::{Convolutions, Dim, Flavour, Held, Manifest, Stage, StageEntry};

use crate::{
    engine::{
        loading::{Intermediates, KEPT_BYTES, Loading, TAKES_BACK, Weights},
        providers,
    },
    request::{Job, Provider},
};

/// Intermediate values of the step graph alive at once, in rows of the network's width for each
/// token and branch.
const STEP_ROWS: f64 = 6.0;
/// As [`STEP_ROWS`], of the text encoder.
const TEXT_ROWS: f64 = 24.0;
/// The width of an attention head, of which a copy of the scores is held while another is made.
const HEAD_WIDTH: f64 = 64.0;
const F32_BYTES: f64 = 4.0;
/// Memory for the intermediate values of a network of the VQ-GAN:
///
/// bytes per pixel = least + share * sqrt(weight bytes), and fixed * weight bytes besides.
///
/// Weights grow with the square of a network's width, intermediate values with the width.
struct PixelBytes {
    /// Bytes per pixel of a network without weights.
    least: f64,
    /// Bytes per pixel for each square root of a byte of weights.
    share: f64,
    /// What small images, tiles and the packing of weights take, as a share of the weights.
    fixed: f64,
}

const DECODER: PixelBytes = PixelBytes { least: 560.0, share: 0.22, fixed: 0.0 };
/// A decoder that computes with integers, by tiles, where its images have memory of their own. Small
/// kernels are packed whatever the rest is.
const INTEGER_DECODER: PixelBytes = PixelBytes { least: 40.0, share: 0.036, fixed: 0.12 };
/// The same where an arena holds them, and small images are between the large ones.
const DECODER_IN_ARENA: PixelBytes = PixelBytes { share: 0.08, ..INTEGER_DECODER };
const ENCODER: PixelBytes = PixelBytes { least: 60.0, share: 0.12, fixed: 0.55 };
/// A finished image: red, green and blue.
const IMAGE_BYTES: f64 = 3.0;

/// What weights in halves take, in their own size: themselves and a copy twice as large.
const HALVES_COPIED: u64 = 3;

/// As [`HALVES_COPIED`], of weights in bytes that are floats for a product alone.
const BYTES_COPIED: u64 = 5;

/// A size larger than this is a mistake of whoever wrote the manifest: sums of such still fit.
const ABSURD_BYTES: u64 = 1 << 56;

/// What one stage takes at least.
pub(super) struct StageDemand {
    /// Who holds its intermediate values with the least memory.
    pub(super) intermediates: Intermediates,
    /// Where its weights take the least memory.
    pub(super) weights: Weights,
    /// The size of its weights.
    pub(super) weights_bytes: u64,
    /// Its intermediate values, and what it is given by stages before it.
    pub(super) working_bytes: u64,
}

/// The sizes that decide what a stage's intermediate values take. Estimates, so they may be as
/// large as they like.
pub(super) struct Demand {
    flavour: Flavour,
    tokens: f64,
    /// Tokens that attend to each other in the step graph.
    attending: f64,
    pixels: f64,
    branches: f64,
    images: f64,
    prompt_tokens: f64,
    /// What the prologue makes and the step graph is given.
    primed_bytes: f64,
    /// As much of it as is there while images are decoded: a video needs it for the next frame.
    kept_bytes: f64,
    /// The step graph's width.
    width: f64,
    codebook_size: f64,
}

impl Demand {
    /// Of `job`, made with `flavour`; `step` is what the manifest says of the step graph.
    pub(super) fn of(
        manifest: &Manifest,
        flavour: Flavour,
        step: Option<&StageEntry>,
        job: &Job,
    ) -> Self {
        let model = &manifest.model;
        let [rows, columns] = job.outer_grid();
        let tokens = rows as f64 * columns as f64;
        let pixels = tokens * f64::from(model.pixels_per_token).powi(2);
        let branches = if job.is_guided() { 2.0 } else { 1.0 };
        let inputs = step.map_or(&[][..], |step| &step.inputs);
        // Guidance has a value for each branch, what the prologue makes has rows.
        let primed = inputs.iter().map(|spec| (&spec.shape.0[..], spec.dtype.bytes() as f64));
        let primed =
            primed.filter(|(shape, _)| shape.len() > 1 && shape[0] == Dim::from("branches"));
        let modulations =
            primed.clone().filter(|(shape, _)| shape.len() == 3).map(|(shape, _)| row(shape));
        let primed_bytes = branches * primed.map(|(shape, bytes)| bytes * row(shape)).sum::<f64>();
        Self {
            flavour,
            tokens,
            attending: tokens / f64::from(model.grid_multiple).powi(2),
            pixels,
            branches,
            images: job.images() as f64,
            prompt_tokens: manifest.tokenizer.max_tokens.into(),
            primed_bytes,
            kept_bytes: if job.video.is_some() { primed_bytes } else { 0.0 },
            width: modulations.fold(0.0, f64::max),
            codebook_size: model.codebook_size.into(),
        }
    }

    /// What stays of the prompts for the next image of them: what the prologue makes, and the logits
    /// of the first step.
    pub(super) fn prompt_bytes(&self) -> u64 {
        let logits = F32_BYTES * self.tokens * self.codebook_size;
        ((self.primed_bytes + logits) as u64).min(ABSURD_BYTES)
    }

    /// What `stage` takes, of which the manifest says `entry`.
    pub(super) fn stage(&self, stage: Stage, entry: &StageEntry) -> StageDemand {
        let held = entry.held(self.flavour, stage);
        let weights_bytes = entry.weights.as_ref().map_or(0, |weights| weights.bytes);
        let weights_bytes = weights_bytes.saturating_add(entry.graph.bytes).min(ABSURD_BYTES);
        // The CPU provider computes in 32-bit floats and copies halves and bytes for that.
        let copies = match held.linear_bits {
            16 => HALVES_COPIED,
            8 if self.flavour == Flavour::Qdq => BYTES_COPIED,
            _ => 1,
        };
        let weights_bytes = (weights_bytes * copies).min(ABSURD_BYTES);
        let intermediates = match (stage, held.convolutions) {
            // Images of bytes: few, large, of many sizes.
            (Stage::Decoder, Convolutions::Integer) if TAKES_BACK => Intermediates::Apart,
            _ => Loading::of(stage).intermediates,
        };
        let kept_bytes = if intermediates == Intermediates::Apart { KEPT_BYTES as u64 } else { 0 };
        let working_bytes = self.working_bytes(stage, held, weights_bytes) as u64;
        StageDemand {
            intermediates,
            weights: if is_copied(stage, held) { Weights::Packed } else { Weights::Mapped },
            weights_bytes,
            working_bytes: working_bytes.saturating_add(kept_bytes).min(ABSURD_BYTES),
        }
    }

    /// What `provider`, which is not the CPU, is expected to hold of the graph of `stage`.
    pub(super) fn other(&self, stage: Stage, entry: &StageEntry, provider: Provider) -> u64 {
        let weights = entry.weights.as_ref().map_or(0, |weights| weights.bytes).min(ABSURD_BYTES);
        let bits = u64::from(entry.held(self.flavour, stage).linear_bits.max(1));
        let as_f32 = weights.saturating_mul(32) / bits;
        providers::held_bytes(provider, weights, as_f32).min(ABSURD_BYTES)
    }

    fn working_bytes(&self, stage: Stage, held: Held, weights_bytes: u64) -> f64 {
        let prompt = F32_BYTES * self.prompt_tokens * self.width * TEXT_ROWS;
        match stage {
            Stage::TextEncoder => prompt,
            Stage::Prologue => self.branches * prompt + self.primed_bytes,
            Stage::Step => {
                let scores =
                    2.0 * self.branches * (self.width / HEAD_WIDTH).ceil() * self.attending.powi(2);
                let rows =
                    self.tokens * (self.codebook_size + self.branches * self.width * STEP_ROWS);
                F32_BYTES * (rows + scores) + self.primed_bytes
            }
            Stage::Decoder | Stage::Encoder => {
                let PixelBytes { least, share, fixed } = match (stage, held.convolutions) {
                    (Stage::Encoder, _) => ENCODER,
                    (_, Convolutions::Float) => DECODER,
                    (_, Convolutions::Integer) if TAKES_BACK => INTEGER_DECODER,
                    (_, Convolutions::Integer) => DECODER_IN_ARENA,
                };
                let (weights, images) = (weights_bytes as f64, IMAGE_BYTES * self.images);
                let kept = if stage == Stage::Decoder { self.kept_bytes } else { 0.0 };
                self.pixels * (least + share * weights.sqrt() + images) + fixed * weights + kept
            }
        }
    }
}

/// Whether the weights of `stage` are better packed whatever the budget: they are copied at load all
/// the same, or without packing the kernels of 4-bit layers take more memory than the copy does.
fn is_copied(stage: Stage, held: Held) -> bool {
    held.changes_at_load(stage) || held.linear_bits == 4
}

/// Values of one branch.
fn row(shape: &[Dim]) -> f64 {
    shape
        .iter()
        .map(|dim| if let Dim::Fixed(extent) = dim { *extent as f64 } else { 1.0 })
        .product()
}
