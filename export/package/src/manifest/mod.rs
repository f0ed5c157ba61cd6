//! The manifest: what a package says about itself.

mod context;
mod file;
mod held;
mod read;
mod words;

use std::{collections::BTreeMap, fmt, iter, path::Path};

use serde::{Deserialize, Serialize};

pub(crate) use self::read::MAX_BYTES;
pub use self::{
    context::ContextEntry,
    file::FileEntry,
    held::{Convolutions, Held},
    words::{Flavour, MaskingSchedule, Stage},
};
use crate::{Digest, Dtype, Error, ErrorKind, OnRead, Result, Shape};

/// The manifest's file name inside a package.
pub const MANIFEST: &str = "manifest.json";

/// The newest version of the format that this build reads. It writes the oldest that can say what
/// a package holds: see [`Manifest::oldest_format`].
pub const FORMAT_VERSION: u32 = 3;

/// The most words that a model is said to know.
pub const MAX_KNOWN_WORDS: u32 = 1000;

/// The most bytes of one of them.
pub const MAX_KNOWN_WORD: usize = 64;

/// What the tap of a cross-attention's weights is called before the attention's name. It is f32
/// `["branches", heads, positions, prompt tokens]`; what a position gives to all tokens of the
/// prompt sums to 1.
pub const ATTENTION: &str = "attention.";

/// Everything a package says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format's version, [`FORMAT_VERSION`] or older.
    pub format: u32,
    /// Who wrote the package, for people: `pocketmuse 0.1.0`.
    pub exporter: String,
    /// What the runtime must know of the model.
    pub model: Model,
    /// The tokenizer and its special tokens.
    pub tokenizer: Tokenizer,
    /// What a request uses where it says nothing.
    pub defaults: Defaults,
    /// What people may ask for, the most telling first: words that the model was trained on, for
    /// those who ask for something else. Empty if the checkpoint does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knows: Vec<String>,
    /// The colours of the tokens for previews: [`PATCH_VALUES`](crate::PATCH_VALUES) bytes for
    /// each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<FileEntry>,
    /// The graphs, by flavour.
    pub flavours: BTreeMap<Flavour, FlavourEntry>,
}

/// The sizes and ids of a model that the runtime must know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// A name for people, usually the checkpoint's folder.
    pub name: String,
    /// Rows of the token embedding; every token id is below it.
    pub vocab_size: u32,
    /// Tokens that can be drawn, `0..codebook_size`; logits have this many columns.
    pub codebook_size: u32,
    /// The id that stands for "not chosen yet", in `codebook_size..vocab_size`.
    pub mask_token_id: u32,
    /// How many tokens stay masked after a step.
    pub masking_schedule: MaskingSchedule,
    /// Tokens along each side of the image the model was trained for.
    pub sample_size: u32,
    /// Pixels along each side of one token.
    pub pixels_per_token: u32,
    /// The token grid's sides must be multiples of this: 2 with resampling blocks, else 1.
    pub grid_multiple: u32,
}

/// The tokenizer file (Hugging Face `tokenizer.json`) and the ids around a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tokenizer {
    /// `tokenizer.json`.
    pub file: FileEntry,
    /// The id before a prompt.
    pub bos: u32,
    /// The id after a prompt.
    pub eos: u32,
    /// The id that fills up to `max_tokens`.
    pub pad: u32,
    /// Ids in every tokenized prompt, special ones included.
    pub max_tokens: u32,
}

/// What a request uses where it says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Steps, at least 1.
    pub num_inference_steps: u32,
    /// Guidance; values up to 1 switch it off.
    pub guidance_scale: f32,
    /// Temperature of the re-masking noise at the first and at the last step.
    pub temperature: [f32; 2],
}

impl Default for Defaults {
    /// The reference pipeline's defaults.
    fn default() -> Self {
        Self { num_inference_steps: 12, guidance_scale: 10.0, temperature: [2.0, 0.0] }
    }
}

/// The graphs of one flavour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlavourEntry {
    /// Each stage's graph. All but the encoder are always there.
    pub stages: BTreeMap<Stage, StageEntry>,
}

/// One stage's files and its signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageEntry {
    /// The ONNX graph.
    pub graph: FileEntry,
    /// Its external data, if it has any: beside the graph, or in the folder of another flavour,
    /// whose weights these are too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<FileEntry>,
    /// How the weights are held; packages of older exporters do not say, so ask
    /// [`StageEntry::held`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What goes in, in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// What comes out, in the graph's order.
    pub outputs: Vec<TensorSpec>,
    /// Values inside the graph worth looking at: what they are called in reference files, and in
    /// the graph.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taps: BTreeMap<String, TensorSpec>,
    /// What was compiled of the graph ahead, for chips and sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<ContextEntry>,
    /// Whether graph and weights stayed behind, and the contexts alone are in the package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_graph: bool,
}

impl StageEntry {
    /// How this entry of `stage` in `flavour` holds its weights: as the manifest says, or as it was
    /// in packages whose manifest does not say.
    pub fn held(&self, flavour: Flavour, stage: Stage) -> Held {
        self.held.unwrap_or_else(|| Held::of(flavour, stage))
    }

    /// Its files that are in the package.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let own = iter::once(&self.graph).chain(&self.weights).filter(|_| !self.without_graph);
        own.chain(self.contexts.iter().flat_map(ContextEntry::files))
    }

    /// The digests of its graph and its weights.
    pub fn source(&self) -> Vec<Digest> {
        iter::once(&self.graph).chain(&self.weights).map(|file| file.sha256).collect()
    }

    /// The same stage with one of its contexts in the place of the graph.
    pub fn compiled(&self, context: &ContextEntry) -> Self {
        Self {
            graph: context.graph.clone(),
            weights: Some(context.binary.clone()),
            taps: BTreeMap::new(),
            contexts: Vec::new(),
            without_graph: false,
            ..self.clone()
        }
    }

    /// Adds a context, in place of one for the same chip and sizes, which comes back.
    pub fn add_context(&mut self, context: ContextEntry) -> Option<ContextEntry> {
        let known = self.contexts.iter().position(|known| known.is_for(&context));
        let old = known.map(|at| self.contexts.remove(at));
        self.contexts.push(context);
        old
    }
}

/// A tensor's name, type and shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name in the graph.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its extents; a name where they are chosen at run time.
    pub shape: Shape,
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.dtype, self.shape)
    }
}

impl Manifest {
    /// The oldest version of the format that can hold this: 3 with contexts; 2 if graphs differ in
    /// their inputs and outputs by flavour, as those of [`Flavour::F16`] and [`Flavour::Qdq`] do;
    /// else 1.
    pub fn oldest_format(&self) -> u32 {
        self.newest_part().map_or(1, |(format, _)| format)
    }

    /// What the first version of the format cannot hold, and which can.
    fn newest_part(&self) -> Option<(u32, String)> {
        if self.stages().any(|stage| !stage.contexts.is_empty()) {
            return Some((3, "contexts".to_owned()));
        }
        let newer = [Flavour::F16, Flavour::Qdq];
        let newer = newer.into_iter().find(|flavour| self.flavours.contains_key(flavour));
        newer.map(|flavour| (2, format!("the flavour {flavour}")))
    }

    /// Checks that the format can hold all.
    fn check_format(&self) -> Result<()> {
        let found = self.format;
        let newer = self.newest_part().filter(|(oldest, _)| found < *oldest);
        let Some((oldest, part)) = newer else { return Ok(()) };
        let detail = format!("expected {oldest} with {part}, found {found}");
        Err(Error::new(ErrorKind::PackageDamaged, "format", detail))
    }

    /// The stages of all flavours.
    fn stages(&self) -> impl Iterator<Item = &StageEntry> {
        self.flavours.values().flat_map(|flavour| flavour.stages.values())
    }

    /// The manifest as it is written, pretty JSON.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("plain data with string keys always serializes");
        text.push('\n');
        text
    }

    /// The digest that stands for the whole package: it covers every file's digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    /// The graphs of `flavour`.
    ///
    /// # Errors
    ///
    /// `Unsupported` if this package was exported without it.
    pub fn flavour(&self, flavour: Flavour) -> Result<&FlavourEntry> {
        self.flavours.get(&flavour).ok_or_else(|| {
            let found: Vec<_> = self.flavours.keys().map(|flavour| flavour.name()).collect();
            let detail =
                format!("expected one of this package ({}), found {flavour}", found.join(", "));
            Error::new(ErrorKind::Unsupported, "flavour", detail)
        })
    }

    /// Every file of the package but the manifest, once: flavours may share one.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let graphs = self.stages().flat_map(StageEntry::files);
        let all = iter::once(&self.tokenizer.file).chain(&self.preview).chain(graphs);
        let mut seen = Vec::new();
        all.filter(move |file| {
            let is_new = !seen.contains(file);
            seen.push(*file);
            is_new
        })
    }

    /// Checks the package in the folder `root` by itself: the size and the contents of every file,
    /// and that no graph leads out of it. Reads all of it, and needs no ONNX Runtime. `on_read` is
    /// told of the bytes of every piece that was read, 1 MB at most, of all that [`Self::files`]
    /// have.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` for the first file that is not the one that was exported or leads out, and
    /// what `on_read` stops with.
    pub fn check(&self, root: &Path, on_read: OnRead<'_>) -> Result<()> {
        self.files().try_for_each(|file| file.check_in_pieces(root, on_read))?;
        self.stages().try_for_each(|stage| stage.check_graph(root))
    }
}
