//! The networks of a checkpoint and the graphs of a flavour. Knows no file.

use std::{collections::BTreeMap, sync::Arc};

use pocketmuse_package::{Cell, Convolutions, Dtype, Flavour, Held, Ranges, Stage};

use crate::{
    checkpoint::{Checkpoint, Network},
    error::Result,
    form::Form,
    graph::Graph,
    halves,
    models::{config::Configs, decoder, encoder, prologue, step, text_encoder},
    preview,
    qdq::{self, Known, Tables},
    quantize::{self, Bits},
};

/// Tensors that checkpoints carry and no computation uses: buffers of older versions of the
/// libraries.
const HARMLESS: [&str; 1] = ["text_model.embeddings.position_ids"];

/// How many of the extra tensors a warning names.
const NAMED_EXTRAS: usize = 12;

/// Values of the flavour qdq whose ranges are chosen, not measured. Guidance is two weights, `1 - g`
/// and `g`: one above the most acts as the most.
const KNOWN: [Known; 2] =
    [("guidance", [1.0 - MOST_GUIDANCE, MOST_GUIDANCE]), ("sinusoids", [-1.0, 1.0])];

/// The most guidance that the flavour qdq tells apart.
const MOST_GUIDANCE: f32 = 20.0;

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
        let linear = |stage, graph| match Held::of(flavour, stage).linear_bits {
            4 => quantize::rewrite(graph, Bits::Four),
            8 => quantize::rewrite(graph, Bits::Eight),
            16 => halves::rewrite(graph),
            _ => graph,
        };
        // f16 is exact enough for what is kept of the prologue during the steps.
        let attended = if is_quantized(flavour) { Dtype::F16 } else { Dtype::F32 };
        let form = Form::of(flavour);
        let mut graphs = self.floats(form, attended)?;
        if is_quantized(flavour) {
            let decoder = decoder::build_observed(&self.configs.vq, &self.vqvae.weights())?;
            graphs.retain(|(stage, _)| *stage != Stage::Decoder);
            graphs.push((Stage::Decoder, decoder));
        }
        graphs.extend(self.encoder(form)?);
        Ok(graphs.into_iter().map(|(stage, graph)| (stage, linear(stage, graph))).collect())
    }

    /// The graphs of 32-bit floats that make images.
    fn floats(&self, form: Form, attended: Dtype) -> Result<Graphs> {
        let Configs { text, vit, vq, .. } = &self.configs;
        let transformer = self.transformer.weights();
        Ok(vec![
            (Stage::TextEncoder, text_encoder::build(text, &self.text_encoder.weights(), form)?),
            (Stage::Prologue, prologue::build(text, vit, &transformer, (form, attended))?),
            (Stage::Step, step::build(text, vit, &transformer, (form, attended))?),
            (Stage::Decoder, decoder::build(vq, &self.vqvae.weights(), form)?),
        ])
    }

    /// The encoder in 32-bit floats.
    pub(crate) fn encoder(&self, form: Form) -> Result<Graphs> {
        let encoder = encoder::build(&self.configs.vq, &self.vqvae.weights(), form)?;
        Ok(vec![(Stage::Encoder, encoder)])
    }

    /// What the ranges of the flavour qdq are measured with: its graphs with a tap for each, their
    /// linear layers those of `draft`.
    pub(crate) fn observed(&self, draft: Flavour) -> Result<Graphs> {
        let observed = |(stage, graph)| {
            let bits = match Held::of(draft, stage).linear_bits {
                4 => Some(Bits::Four),
                8 => Some(Bits::Eight),
                _ => None,
            };
            Ok((stage, qdq::observed(graph, &KNOWN, bits)?))
        };
        self.floats(Form::of(Flavour::Qdq), Dtype::F32)?.into_iter().map(observed).collect()
    }

    /// The graphs of the flavour qdq, for values of the measured ranges.
    pub(crate) fn ranged(&self, measured: &BTreeMap<Stage, Ranges>) -> Result<Graphs> {
        let nothing = Ranges::default();
        let ranged = |(stage, graph)| {
            let ranges = measured.get(&stage).unwrap_or(&nothing);
            // What the step graph looks up is all that tells tokens apart: 8 bits would double its
            // error. The text encoder's table is the largest by far, and loses nothing.
            let tables = if stage == Stage::TextEncoder { Tables::ByRow } else { Tables::Whole };
            let graph = qdq::rewrite(graph, &KNOWN, ranges, tables);
            Ok((stage, graph.map_err(|error| error.within(stage.name()))?))
        };
        self.floats(Form::of(Flavour::Qdq), Dtype::F32)?.into_iter().map(ranged).collect()
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
