//! Turns a checkpoint of the aMUSEd family into a package: ONNX graphs written by Rust, no Python
//! anywhere.
//!
//! The data flows one way: [`checkpoint`] (tensors that are read when needed) to [`graph`] (built
//! by the networks in `models` with one [`builder`] method per operator) to the package folder.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path};
//!
//! # fn measure(draft: &Path) -> pocketmuse_export::Result<pocketmuse_export::Measured> {
//! #     Ok(Default::default())
//! # }
//! let options = pocketmuse_export::Options::default();
//! let (checkpoint, package) = (Path::new("amused-512"), Path::new("package"));
//! let summary = pocketmuse_export::export(checkpoint, package, &options, measure, |progress| {
//!     eprintln!("{} of {} bytes", progress.written_bytes, progress.total_bytes);
//!     ControlFlow::Continue(())
//! })?;
//! summary.warnings.iter().for_each(|warning| eprintln!("{warning}"));
//! # Ok::<(), pocketmuse_export::Error>(())
//! ```

mod ahead;
pub mod builder;
pub mod checkpoint;
mod draft;
mod error;
mod form;
pub mod graph;
mod halves;
#[cfg(feature = "fuzz")]
pub mod internals;
mod layers;
mod manifest;
mod models;
mod networks;
mod preview;
mod progress;
mod proto;
mod qdq;
pub mod quantize;
#[cfg(test)]
mod rules;
mod tokenizer;
mod write;

use std::{ops::ControlFlow, path::Path};

pub use pocketmuse_package::{CALIBRATION, Measured, RANGE, Ranges};
use pocketmuse_package::{
    Flavour, FlavourEntry, Manifest, PATCH_VALUES, PREVIEW, Stage, calibration_prompts,
};

use self::{
    checkpoint::Checkpoint,
    draft::Draft,
    form::Form,
    networks::{Networks, is_quantized},
    progress::Counter,
    tokenizer::Tokenizer,
    write::{PackageWriter, Sharing},
};
pub use self::{
    error::{Error, ErrorKind, Result},
    progress::Progress,
};

/// The most prompts that a checkpoint may want to be measured with: each makes an image.
const MAX_PROMPTS: usize = 256;

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
    /// The flavour of the draft, whose images are measured. int8 is the fastest and takes the least
    /// memory where images are small; f32's tokens are the same on every processor.
    pub draft: Flavour,
}

impl Default for Options {
    fn default() -> Self {
        Self { flavours: vec![Flavour::Int8], name: None, overwrite: false, draft: Flavour::Int8 }
    }
}

/// What an export made.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The package's manifest.
    pub manifest: Manifest,
    /// What the user should know: tensors in the checkpoint that no network uses.
    pub warnings: Vec<String>,
}

/// Exports the checkpoint in the folder `checkpoint` to a package in the folder `package`.
///
/// `on_progress` is called before each constant is written; breaking cancels the export. Until the
/// package is complete it lies in a temporary neighbour, which is removed if anything fails.
///
/// The decoder of a quantized flavour needs to know the ranges of its inner values, and previews
/// what tokens look like. `calibrate` measures both: it is given a draft, the folder of a whole
/// package of the flavour [`Options::draft`] whose decoder is f32 and, if it is to be quantized,
/// has a tap for each range, named as [`RANGE`] says. For the flavour qdq the draft has this
/// flavour, too, its graphs in floats with a tap for the range of each value:
/// [`Measured::activations`]. If the checkpoint has a file [`CALIBRATION`], with a prompt on each
/// line, the draft has it, too: the prompts to measure with. `calibrate` is called once, and not at all for f32 alone if the
/// checkpoint brings its own [`PREVIEW`]. If it returns no cells, the package has no previews.
///
/// Weights of qdq that int8 has, too, are written once, where both are exported.
///
/// # Errors
///
/// `BadCheckpoint` if the checkpoint is damaged, inconsistent or of another architecture, or
/// its [`CALIBRATION`] has no prompt or more than 256,
/// `BadRequest` if `package` exists already or the draft is to be qdq, `NoSpace` if its disk has
/// too little room, which is checked first, `Io` if a file cannot be read or written, `Cancelled`
/// if `on_progress` broke; what `calibrate` fails with, and `BadInput` if its ranges are not those
/// of the draft's taps.
pub fn export(
    checkpoint: &Path,
    package: &Path,
    options: &Options,
    calibrate: impl FnOnce(&Path) -> Result<Measured>,
    on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<Summary> {
    export_opened(&Checkpoint::open(checkpoint)?, package, options, calibrate, on_progress)
}

/// As [`export`], a checkpoint that is open: one in memory, too.
///
/// # Errors
///
/// As for [`export`].
pub fn export_opened(
    checkpoint: &Checkpoint,
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
    if options.draft == Flavour::Qdq {
        let detail = "expected a flavour that needs no ranges, found qdq";
        return Err(Error::new(ErrorKind::BadRequest, "draft", detail));
    }
    let networks = Networks::open(checkpoint)?;
    let own_prompts = own_prompts(checkpoint)?;
    let wants_qdq = options.flavours.contains(&Flavour::Qdq); // whose graphs need ranges
    let mut flavours = options.flavours.clone();
    flavours.retain(|flavour| *flavour != Flavour::Qdq);
    let graphs = networks.flavours(&flavours)?;
    let tokenizer = Tokenizer::read(checkpoint, &networks.configs)?;

    // Write graphs,
    let progress = Counter::new(&graphs, on_progress);
    let mut writer = PackageWriter::create(package, options.overwrite, progress)?;
    if wants_qdq {
        writer.share(Sharing { lender: Flavour::Int8, borrower: Flavour::Qdq });
    }
    let file = writer.file("tokenizer.json", tokenizer.json.as_bytes())?;
    let mut manifest = manifest::begin(
        checkpoint,
        &networks.configs,
        (&tokenizer, file),
        options.name.as_deref(),
    )?;
    for (flavour, graphs) in &graphs {
        let entry = FlavourEntry { stages: writer.graphs(*flavour, graphs)? };
        manifest.flavours.insert(*flavour, entry);
    }
    manifest.format = manifest.oldest_format();

    // measure a draft,
    let mut preview = own_preview(checkpoint, &networks)?;
    let flavour = Draft::measured_flavour(&flavours, preview.is_some());
    if flavour.is_some() || wants_qdq {
        let taken = flavour.or_else(|| flavours.first().copied());
        let wanted = (taken, wants_qdq);
        let draft = Draft::write(options.draft, wanted, &networks, &manifest, &mut writer)?;
        let measured = draft.measure(&mut writer, own_prompts.as_deref(), calibrate)?;

        // finish decoders and preview.
        if preview.is_none() {
            preview = networks.preview(&measured.cells)?;
        }
        if flavour.is_some_and(is_quantized) {
            let decoder = networks.integer_decoder(&measured.ranges)?;
            let quantized = manifest.flavours.iter_mut();
            for (flavour, entry) in quantized.filter(|(flavour, _)| is_quantized(**flavour)) {
                entry.stages.extend(writer.graphs(*flavour, &decoder)?);
            }
        }
        if wants_qdq {
            let mut stages =
                writer.graphs(Flavour::Qdq, &networks.ranged(&measured.activations)?)?;
            let encoder = manifest.flavours.get(&Flavour::Int8);
            match encoder.and_then(|entry| entry.stages.get(&Stage::Encoder)) {
                Some(encoder) => drop(stages.insert(Stage::Encoder, encoder.clone())),
                None => stages.extend(writer.graphs(Flavour::Qdq, &networks.encoder(Form::Cpu)?)?),
            }
            manifest.flavours.insert(Flavour::Qdq, FlavourEntry { stages });
            manifest.format = manifest.oldest_format();
        }
    }
    manifest.preview = preview.map(|bytes| writer.file(PREVIEW, &bytes)).transpose()?;
    writer.finish(&manifest)?;
    Ok(Summary { manifest, warnings: networks.warnings() })
}

/// The text of the prompts that a checkpoint wants to be measured with.
fn own_prompts(checkpoint: &Checkpoint) -> Result<Option<String>> {
    let Some(text) = checkpoint.optional_text(CALIBRATION)? else { return Ok(None) };
    let found = calibration_prompts(&text).count();
    if !(1..=MAX_PROMPTS).contains(&found) {
        let at = checkpoint.root().join(CALIBRATION).display().to_string();
        let detail = format!("expected 1 to {MAX_PROMPTS} lines with a prompt, found {found}");
        return Err(Error::new(ErrorKind::BadCheckpoint, at, detail));
    }
    Ok(Some(text))
}

/// The table of previews that a checkpoint brings along.
fn own_preview(checkpoint: &Checkpoint, networks: &Networks) -> Result<Option<Vec<u8>>> {
    let codebook_size = networks.configs.vit.codebook_size;
    checkpoint.optional_bytes(PREVIEW, codebook_size.saturating_mul(PATCH_VALUES))
}
