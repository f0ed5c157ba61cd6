//! Turns a checkpoint of the aMUSEd family into a package: ONNX graphs written by Rust, no Python
//! anywhere.
//!
//! The data flows one way: [`checkpoint`] (tensors that are read when needed) to [`graph`] (built
//! by the networks in `models` with one [`builder`] method per operator) to the package folder.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path};
//!
//! # fn measure(draft: &Path) -> pocketmuse_export::Result<pocketmuse_export::Measured> { Ok(Default::default()) }
//! let options = pocketmuse_export::Options::default();
//! let (checkpoint, package) = (Path::new("amused-512"), Path::new("package"));
//! let summary = pocketmuse_export::export(checkpoint, package, &options, measure, |progress| {
//!     eprintln!("{} of {} bytes", progress.written_bytes, progress.total_bytes);
//!     ControlFlow::Continue(())
//! })?;
//! summary.warnings.iter().for_each(|warning| eprintln!("{warning}"));
//! # Ok::<(), pocketmuse_export::Error>(())
//! ```

pub mod builder;
pub mod checkpoint;
mod error;
pub mod graph;
mod layers;
mod models;
mod preview;
mod proto;
pub mod quantize;
mod tokenizer;
mod write;

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc};

use pocketmuse_package::{
    Dtype, FORMAT_VERSION, FileEntry, Flavour, FlavourEntry, Manifest, Model, PATCH_VALUES,
    PREVIEW, Stage, StageEntry, Tokenizer,
};
pub use pocketmuse_package::{Measured, RANGE, Ranges};

pub use self::error::{Error, ErrorKind, Result};
use self::{
    checkpoint::{Checkpoint, Network},
    graph::Graph,
    models::{config::Configs, decoder, encoder, prologue, step, text_encoder},
    quantize::Bits,
    write::PackageWriter,
};

/// How to export.
#[derive(Clone, Debug)]
pub struct Options {
    /// The flavours to write, at least one. The quantized ones are measured, so that the package's
    /// own runtime is needed.
    pub flavours: Vec<Flavour>,
    /// The model's name for people; the checkpoint's folder if none is given.
    pub name: Option<String>,
    /// Whether a package that is already there is replaced.
    pub overwrite: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { flavours: vec![Flavour::Int8], name: None, overwrite: false }
    }
}

/// How far an export is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes of weights written.
    pub written_bytes: u64,
    /// Bytes of weights in all, as far as is known.
    pub total_bytes: u64,
    /// The network being written.
    pub stage: Stage,
    /// The constant being written.
    pub tensor: &'a str,
}

/// What an export made.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The package's manifest.
    pub manifest: Manifest,
    /// What the user should know: tensors in the checkpoint that no network uses.
    pub warnings: Vec<String>,
}

/// Tensors that checkpoints carry and no computation uses: buffers of older versions of the
/// libraries.
const HARMLESS: [&str; 1] = ["text_model.embeddings.position_ids"];

/// The flavour of a draft, except for its decoder: the fastest, and the one that takes the least
/// memory where pictures are small.
const DRAFT: Flavour = Flavour::Int8;

/// How many of the extra tensors a warning names.
const NAMED_EXTRAS: usize = 12;

/// Exports the checkpoint in the folder `checkpoint` to a package in the folder `package`.
///
/// `on_progress` is called before each constant is read; breaking cancels the export. Until the
/// package is complete it lies in a temporary neighbour, which is removed if anything fails.
///
/// The decoder of a quantized flavour needs to know the ranges of its inner values, and previews
/// what tokens look like. `calibrate` measures both: it is given a draft, the folder of a whole
/// package of the int8 flavour whose decoder is f32 and, if it is to be quantized, has a tap for
/// each range, named as [`RANGE`] says. It is called once, and not at all for f32 alone if the
/// checkpoint brings its own [`PREVIEW`]. If it returns no cells, the package has no previews.
///
/// # Errors
///
/// `BadCheckpoint` if the checkpoint is damaged, inconsistent or of another architecture,
/// `BadRequest` if `package` exists already, `Io` if a file cannot be read or written, `Cancelled`
/// if `on_progress` broke; what `calibrate` fails with, and `BadInput` if its ranges are not those
/// of the draft's taps.
pub fn export(
    checkpoint: &Path,
    package: &Path,
    options: &Options,
    calibrate: impl FnOnce(&Path) -> Result<Measured>,
    on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<Summary> {
    if options.flavours.is_empty() {
        return Err(Error::new(
            ErrorKind::BadRequest,
            "flavours",
            "expected at least one, found none",
        ));
    }
    let checkpoint = Checkpoint::open(checkpoint)?;
    let configs = Configs::read(&checkpoint)?;
    let networks = Networks::open(&checkpoint)?;
    let graphs = networks.flavours(&configs, &options.flavours)?;
    let (json, special) = tokenizer(&checkpoint, &configs)?;

    let writer = PackageWriter::create(package, options.overwrite)?;
    let mut manifest = Manifest {
        format: FORMAT_VERSION,
        exporter: format!("pocketmuse {}", env!("CARGO_PKG_VERSION")),
        model: model(options.name.as_deref().unwrap_or(&name_of(&checkpoint)), &configs),
        tokenizer: tokenizer_entry(
            writer.file("tokenizer.json", json.as_bytes())?,
            special,
            &configs,
        ),
        defaults: configs.defaults.clone(),
        preview: None,
        flavours: BTreeMap::new(),
    };
    let mut progress = Counter::new(&graphs, on_progress);
    let mut write = |flavour: Flavour, graphs: &Graphs| {
        let stages = graphs.iter().map(|(stage, graph)| {
            let on_tensor = |tensor: &str, bytes| progress.advance(*stage, tensor, bytes);
            Ok((*stage, writer.graph(flavour, *stage, graph, on_tensor)?))
        });
        stages.collect::<Result<BTreeMap<Stage, StageEntry>>>()
    };
    for (flavour, graphs) in &graphs {
        manifest.flavours.insert(*flavour, FlavourEntry { stages: write(*flavour, graphs)? });
    }
    let quantized = options.flavours.iter().find(|flavour| is_quantized(**flavour));
    let mut preview = checkpoint
        .optional_bytes(PREVIEW, configs.vit.codebook_size.saturating_mul(PATCH_VALUES))?;
    if let Some(flavour) = quantized.or(options.flavours.first().filter(|_| preview.is_none())) {
        let known = manifest.flavours.get(&DRAFT);
        let mut draft = known.unwrap_or(&manifest.flavours[flavour]).clone();
        let is_extra = known.is_none();
        if is_extra {
            let mut graphs = networks.graphs(&configs, DRAFT)?;
            graphs.retain(|(stage, _)| ![Stage::Decoder, Stage::Encoder].contains(stage));
            draft.stages.extend(write(DRAFT, &graphs)?);
        }
        writer.manifest(&Manifest { flavours: [(DRAFT, draft)].into(), ..manifest.clone() })?;
        let measured = calibrate(writer.folder())?;
        if is_extra {
            writer.remove(DRAFT)?;
        }
        if preview.is_none() {
            preview = preview::table(
                &decoder::vectors(&configs.vq, &networks.vqvae.weights())?,
                &measured.cells,
            );
        }
        if quantized.is_some() {
            let decoder =
                decoder::build_integer(&configs.vq, &networks.vqvae.weights(), &measured.ranges)?;
            let decoder: Graphs = vec![(Stage::Decoder, decoder)];
            for (flavour, entry) in
                manifest.flavours.iter_mut().filter(|(flavour, _)| is_quantized(**flavour))
            {
                entry.stages.extend(write(*flavour, &decoder)?);
            }
        }
    }
    manifest.preview = preview.map(|bytes| writer.file(PREVIEW, &bytes)).transpose()?;
    writer.finish(&manifest)?;
    Ok(Summary { manifest, warnings: networks.warnings() })
}

/// Whether a flavour's decoder computes with integers.
fn is_quantized(flavour: Flavour) -> bool {
    flavour != Flavour::F32
}

/// The bits of a stage's linear layers, if they are quantized. The prologue runs once and
/// measurably loses nothing by 4, of weights alone (docs/quantization.md); the VQ-GAN has no linear
/// layers.
fn linear_bits(flavour: Flavour, stage: Stage) -> Option<Bits> {
    match (flavour, stage) {
        (Flavour::F32, _) | (_, Stage::Decoder | Stage::Encoder) => None,
        (Flavour::Int8, Stage::Prologue) | (Flavour::Int4, _) => Some(Bits::Four),
        _ => Some(Bits::Eight),
    }
}

/// The networks of one flavour.
type Graphs = Vec<(Stage, Graph)>;

/// The tensors of all networks.
struct Networks {
    text_encoder: Arc<Network>,
    transformer: Arc<Network>,
    vqvae: Arc<Network>,
}

impl Networks {
    fn open(checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self {
            text_encoder: Arc::new(checkpoint.network("text_encoder")?),
            transformer: Arc::new(checkpoint.network("transformer")?),
            vqvae: Arc::new(checkpoint.network("vqvae")?),
        })
    }

    fn flavours(&self, configs: &Configs, flavours: &[Flavour]) -> Result<Vec<(Flavour, Graphs)>> {
        flavours.iter().map(|flavour| Ok((*flavour, self.graphs(configs, *flavour)?))).collect()
    }

    /// The graphs of a flavour; the decoder of a quantized one is the draft's.
    fn graphs(&self, configs: &Configs, flavour: Flavour) -> Result<Graphs> {
        let Configs { text, vit, vq, .. } = configs;
        let (transformer, vqvae) = (self.transformer.weights(), self.vqvae.weights());
        let linear = |stage, graph| match linear_bits(flavour, stage) {
            Some(bits) => quantize::rewrite(graph, bits),
            None => graph,
        };
        // f16 is exact enough for what is kept of the prologue during the steps.
        let (decoder, attended): (fn(_, &_) -> _, _) = if is_quantized(flavour) {
            (decoder::build_observed, Dtype::F16)
        } else {
            (decoder::build, Dtype::F32)
        };
        Ok([
            (Stage::TextEncoder, text_encoder::build(text, &self.text_encoder.weights())?),
            (Stage::Prologue, prologue::build(text, vit, &transformer, attended)?),
            (Stage::Step, step::build(text, vit, &transformer, attended)?),
            (Stage::Decoder, decoder(vq, &vqvae)?),
            (Stage::Encoder, encoder::build(vq, &vqvae)?),
        ]
        .map(|(stage, graph)| (stage, linear(stage, graph)))
        .into())
    }

    fn warnings(&self) -> Vec<String> {
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

/// Counts bytes and asks whether to go on.
struct Counter<F> {
    written_bytes: u64,
    total_bytes: u64,
    on_progress: F,
}

impl<F: FnMut(&Progress<'_>) -> ControlFlow<()>> Counter<F> {
    fn new(graphs: &[(Flavour, Graphs)], on_progress: F) -> Self {
        let stages = graphs.iter().flat_map(|(_, stages)| stages);
        let constants = stages.flat_map(|(_, graph)| &graph.initializers);
        let written: u64 = constants.map(|constant| constant.bytes() as u64).sum();
        Self { written_bytes: 0, total_bytes: written + later_bytes(graphs), on_progress }
    }

    fn advance(&mut self, stage: Stage, tensor: &str, bytes: u64) -> Result<()> {
        self.total_bytes = self.total_bytes.max(self.written_bytes + bytes);
        let Self { written_bytes, total_bytes, .. } = *self;
        if (self.on_progress)(&Progress { written_bytes, total_bytes, stage, tensor }).is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "export", "cancelled"));
        }
        self.written_bytes += bytes;
        Ok(())
    }
}

/// About how large the decoders are that are written when their drafts have been measured: a byte
/// for each float.
fn later_bytes(graphs: &[(Flavour, Graphs)]) -> u64 {
    let drafts =
        graphs.iter().filter(|(flavour, _)| is_quantized(*flavour)).flat_map(|(_, graphs)| graphs);
    let decoders = drafts
        .filter(|(stage, _)| *stage == Stage::Decoder)
        .flat_map(|(_, graph)| &graph.initializers);
    decoders.map(|constant| constant.bytes() as u64 / 4).sum()
}

/// The manifest's entry of the tokenizer in `file`.
fn tokenizer_entry(
    file: FileEntry,
    (bos, eos, pad): (u32, u32, u32),
    configs: &Configs,
) -> Tokenizer {
    Tokenizer { file, bos, eos, pad, max_tokens: configs.text.max_position_embeddings as u32 }
}

/// `tokenizer.json`, and the ids before a prompt, after it and of padding.
fn tokenizer(checkpoint: &Checkpoint, configs: &Configs) -> Result<(String, (u32, u32, u32))> {
    let at = |error: Error| error.within(checkpoint.root().join("tokenizer").display());
    let config = checkpoint.optional_text("tokenizer/tokenizer_config.json")?;
    let special = checkpoint.optional_text("tokenizer/special_tokens_map.json")?;
    let json = match checkpoint.optional_text("tokenizer/tokenizer.json")? {
        Some(json) => json,
        None => {
            let vocab = checkpoint.text("tokenizer/vocab.json")?;
            let merges = checkpoint.text("tokenizer/merges.txt")?;
            tokenizer::to_json(&vocab, &merges, config.as_deref()).map_err(at)?
        }
    };
    let special =
        tokenizer::special_ids(&json, config.as_deref(), special.as_deref()).map_err(at)?;
    let largest = tokenizer::largest_id(&json).map_err(at)?;
    if largest as usize >= configs.text.vocab_size {
        let expected = format!(
            "expected ids below vocab_size {} of the text encoder, found {largest}",
            configs.text.vocab_size
        );
        return Err(at(error::bad_checkpoint("vocabulary", expected)));
    }
    Ok((json, special))
}

fn model(name: &str, configs: &Configs) -> Model {
    let Configs { vit, vq, scheduler, .. } = configs;
    Model {
        name: name.to_owned(),
        vocab_size: vit.vocab_size as u32,
        codebook_size: vit.codebook_size as u32,
        mask_token_id: scheduler.mask_token_id,
        masking_schedule: scheduler.masking_schedule,
        sample_size: vit.sample_size as u32,
        pixels_per_token: vq.pixels_per_token() as u32,
        grid_multiple: vit.grid_multiple() as u32,
    }
}

/// The checkpoint's folder, which is how people call a model.
fn name_of(checkpoint: &Checkpoint) -> String {
    let root = checkpoint.root().canonicalize().unwrap_or_else(|_| checkpoint.root().to_owned());
    root.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}
