//! The networks of a checkpoint and the graphs of a flavour. Knows no file.

use std::sync::Arc;

use pocketmuse_package::{Cell, Convolutions, Dtype, Flavour, Held, Ranges, Stage};

use crate::{
    checkpoint::{Checkpoint, Network},
    error::Result,
    form::Form,
    graph::Graph,
    halves,
    models::{config::Configs, decoder, encoder, prologue, step, text_encoder},
    preview,
    quantize::{self, Bits},
};

/// Tensors that checkpoints carry and no computation uses: buffers of older versions of the
/// libraries.
const HARMLESS: [&str; 1] = ["text_model.embeddings.position_ids"];

/// How many of the extra tensors a warning names.
const NAMED_EXTRAS: usize = 12;

/// Whether a flavour's decoder computes with integers.
pub(crate) fn is_quantized(flavour: Flavour) -> bool {
    Held::of(flavour, Stage::Decoder).convolutions == Convolutions::Integer
}

/// The networks of one flavour.
pub(crate) type Graphs = Vec<(Stage, Graph)>;

/// The networks of a checkpoint: their sizes and their tensors.
pub(crate) struct Networks {
    pub(crate) configs: Configs,
    text_encoder: Arc<Network>,
    transformer: Arc<Network>,
    vqvae: Arc<Network>,
}

impl Networks {
    pub(crate) fn open(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self {
            configs: Configs::read(checkpoint)?,
            text_encoder: Arc::new(checkpoint.network("text_encoder")?),
            transformer: Arc::new(checkpoint.network("transformer")?),
            vqvae: Arc::new(checkpoint.network("vqvae")?),
        })
    }

    /// The graphs of each flavour, as [`Self::graphs`] makes them.
    pub(crate) fn flavours(&self, flavours: &[Flavour]) -> Result<Vec<(Flavour, Graphs)>> {
        flavours.iter().map(|flavour| Ok((*flavour, self.graphs(*flavour)?))).collect()
    }

    /// The graphs of a flavour; the decoder of a quantized one is the draft's.
    pub(crate) fn graphs(&self, flavour: Flavour) -> Result<Graphs> {
        let Configs { text, vit, vq, .. } = &self.configs;
        let (transformer, vqvae) = (self.transformer.weights(), self.vqvae.weights());
        let linear = |stage, graph| match Held::of(flavour, stage).linear_bits {
            4 => quantize::rewrite(graph, Bits::Four),
            8 => quantize::rewrite(graph, Bits::Eight),
            16 => halves::rewrite(graph),
            _ => graph,
        };
        // f16 is exact enough for what is kept of the prologue during the steps.
        let attended = if is_quantized(flavour) { Dtype::F16 } else { Dtype::F32 };
        let form = Form::of(flavour);
        let decoder = if is_quantized(flavour) {
            decoder::build_observed(vq, &vqvae)
        } else {
            decoder::build(vq, &vqvae, form)
        };
        Ok([
            (Stage::TextEncoder, text_encoder::build(text, &self.text_encoder.weights(), form)?),
            (Stage::Prologue, prologue::build(text, vit, &transformer, (form, attended))?),
            (Stage::Step, step::build(text, vit, &transformer, (form, attended))?),
            (Stage::Decoder, decoder?),
            (Stage::Encoder, encoder::build(vq, &vqvae, form)?),
        ]
        .map(|(stage, graph)| (stage, linear(stage, graph)))
        .into())
    }

    /// The decoder of integers, for values of the measured `ranges`.
    pub(crate) fn integer_decoder(&self, ranges: &Ranges) -> Result<Graphs> {
        let decoder = decoder::build_integer(&self.configs.vq, &self.vqvae.weights(), ranges)?;
        Ok(vec![(Stage::Decoder, decoder)])
    }

    /// The table of previews, fitted to the measured `cells`.
    pub(crate) fn preview(&self, cells: &[Cell]) -> Result<Option<Vec<u8>>> {
        let vectors = decoder::vectors(&self.configs.vq, &self.vqvae.weights())?;
        Ok(preview::table(&vectors, cells))
    }

    /// What the user should know: tensors that no network uses.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let networks =
            Checkpoint::NETWORKS.iter().zip([&self.text_encoder, &self.transformer, &self.vqvae]);
        networks.filter_map(|(name, network)| extra_tensors(name, network.unused())).collect()
    }
}

fn extra_tensors(network: &str, mut names: Vec<String>) -> Option<String> {
    names.retain(|name| !HARMLESS.contains(&name.as_str()));
    let more = names.len().saturating_sub(NAMED_EXTRAS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<_> = names.iter().take(NAMED_EXTRAS).map(String::as_str).collect();
    let count = names.len();
    (count > 0).then(|| {
        format!(
            "{network}: {count} tensors that the architecture does not use: {}{more}",
            named.join(", ")
        )
    })
}
