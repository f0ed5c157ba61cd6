//! The manifest: parsed once, validated once, then trusted.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Digest, Dtype, Error, ErrorKind, Result, Shape, files, named_enum};

/// The manifest's file name inside a package.
pub const MANIFEST: &str = "manifest.json";

/// The version of the format that this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// What the tap of a cross-attention's weights is called before the attention's name. It is f32
/// `["branches", heads, positions, prompt tokens]`; what a position gives to all tokens of the
/// prompt sums to 1.
pub const ATTENTION: &str = "attention.";

/// A manifest larger than this is not one; it is refused before it is parsed.
const MAX_BYTES: u64 = 16 << 20;

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
    /// The colours of the codes for previews: [`PATCH_VALUES`](crate::PATCH_VALUES) bytes for each.
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
    /// Codes that can be drawn, `0..codebook_size`; logits have this many columns.
    pub codebook_size: u32,
    /// The id that stands for "not chosen yet", in `codebook_size..vocab_size`.
    pub mask_token_id: u32,
    /// How many tokens stay masked after a step.
    pub masking_schedule: MaskingSchedule,
    /// Tokens along each side of the picture the model was trained for.
    pub sample_size: u32,
    /// Pixels along each side of one token.
    pub pixels_per_token: u32,
    /// The token grid's sides must be multiples of this: 2 with resampling blocks, else 1.
    pub grid_multiple: u32,
}

named_enum! {
    /// How the number of masked tokens falls over the steps.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum MaskingSchedule at "masking_schedule" {
        /// `cos(ratio * pi / 2)`.
        Cosine = "cosine",
        /// `1 - ratio`.
        Linear = "linear",
    }
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

named_enum! {
    /// How the graphs of a flavour compute. The best for most comes first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[non_exhaustive]
    pub enum Flavour at "flavour" {
        /// Linear layers, embeddings and the decoder's convolutions in 8-bit integers: small and
        /// fast on every CPU.
        Int8 = "int8",
        /// As `Int8`, with the weights of linear layers in 4 bits: smallest, and slower.
        Int4 = "int4",
        /// Every weight and every product in 32-bit float: the yardstick.
        F32 = "f32",
    }
}

/// The graphs of one flavour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlavourEntry {
    /// Each stage's graph. All but the encoder are always there.
    pub stages: BTreeMap<Stage, StageEntry>,
}

named_enum! {
    /// One network of the pipeline, in the order of the data.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Stage at "stage" {
        /// Token ids of a prompt to hidden states and a pooled embedding.
        TextEncoder = "text_encoder",
        /// What depends on the prompt and the micro-conditioning alone, computed once per prompt.
        Prologue = "prologue",
        /// One step: tokens to logits of the positions asked for, guidance applied.
        Step = "step",
        /// Tokens to pixels.
        Decoder = "decoder",
        /// Pixels to tokens, for editing.
        Encoder = "encoder",
    }
}

/// One stage's files and its signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageEntry {
    /// The ONNX graph.
    pub graph: FileEntry,
    /// Its external data, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<FileEntry>,
    /// What goes in, in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// What comes out, in the graph's order.
    pub outputs: Vec<TensorSpec>,
    /// Values inside the graph worth looking at: what they are called in reference files, and in
    /// the graph.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taps: BTreeMap<String, TensorSpec>,
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

/// A file of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the package, parts separated by `/`, staying inside.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl FileEntry {
    /// Where the file lies when the package lies at `root`.
    pub fn locate(&self, root: &Path) -> PathBuf {
        root.join(&self.path)
    }

    /// Describes an existing file of the package at `root`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn describe(root: &Path, path: &str) -> Result<Self> {
        let file = root.join(path);
        let bytes = fs::metadata(&file).map_err(|error| Error::io(&file, error))?.len();
        Ok(Self { path: path.to_owned(), bytes, sha256: Digest::of_file(&file)? })
    }

    /// Checks that the file is there with its size. Cheap: reads no contents.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if it is missing, no file or of another size.
    pub fn check_size(&self, root: &Path) -> Result<()> {
        let file = self.locate(root);
        let damaged =
            |detail| Error::new(ErrorKind::PackageDamaged, file.display().to_string(), detail);
        let metadata = match fs::metadata(&file) {
            Ok(metadata) => metadata,
            Err(error) => {
                return Err(damaged(format!(
                    "expected a file of {} bytes, found: {error}",
                    self.bytes
                )));
            }
        };
        if !metadata.is_file() || metadata.len() != self.bytes {
            return Err(damaged(format!(
                "expected a file of {} bytes, found {} bytes",
                self.bytes,
                metadata.len()
            )));
        }
        Ok(())
    }

    /// Checks size and contents. Reads the whole file.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file is missing or not the one that was exported.
    pub fn check(&self, root: &Path) -> Result<()> {
        self.check_size(root)?;
        let found = Digest::of_file(&self.locate(root))?;
        if found != self.sha256 {
            let detail =
                format!("expected SHA-256 {}, found {found}: the file was changed", self.sha256);
            return Err(Error::new(
                ErrorKind::PackageDamaged,
                self.locate(root).display().to_string(),
                detail,
            ));
        }
        Ok(())
    }
}

impl Manifest {
    /// Reads and validates the manifest of the package at `root`.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be read; `PackageDamaged` if it is not a manifest, contradicts itself or
    /// is of a newer format.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        let text = files::read_bounded(&path, MAX_BYTES, ErrorKind::PackageDamaged)?;
        Self::parse(&text).map_err(|error| error.within(path.display()))
    }

    /// Parses and validates a manifest.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if it is not a manifest, contradicts itself or is of a newer format.
    pub fn parse(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let json =
            |error: serde_json::Error| damaged("", format!("expected a manifest, found: {error}"));
        let Versioned { format } = serde_json::from_slice(text).map_err(json)?;
        if !(1..=FORMAT_VERSION).contains(&format) {
            let newer = if format > FORMAT_VERSION {
                ": written by a newer PocketMuse, update this one"
            } else {
                ""
            };
            return Err(damaged(
                "format",
                format!("expected 1 to {FORMAT_VERSION}, found {format}{newer}"),
            ));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(json)?;
        manifest.validate()?;
        Ok(manifest)
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
    /// `BadRequest` if this package was exported without it.
    pub fn flavour(&self, flavour: Flavour) -> Result<&FlavourEntry> {
        self.flavours.get(&flavour).ok_or_else(|| {
            let found: Vec<_> = self.flavours.keys().map(|flavour| flavour.name()).collect();
            let detail =
                format!("expected one of this package ({}), found {flavour}", found.join(", "));
            Error::new(ErrorKind::BadRequest, "flavour", detail)
        })
    }

    /// Every file of the package but the manifest.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let stages = self.flavours.values().flat_map(|flavour| flavour.stages.values());
        let graphs = stages.flat_map(|stage| std::iter::once(&stage.graph).chain(&stage.weights));
        std::iter::once(&self.tokenizer.file).chain(&self.preview).chain(graphs)
    }

    fn validate(&self) -> Result<()> {
        self.model.validate().map_err(|error| error.within("model"))?;
        self.tokenizer.validate().map_err(|error| error.within("tokenizer"))?;
        self.defaults.validate().map_err(|error| error.within("defaults"))?;
        if self.flavours.is_empty() {
            return Err(damaged("flavours", "expected at least one, found none"));
        }
        for (flavour, entry) in &self.flavours {
            for stage in [Stage::TextEncoder, Stage::Prologue, Stage::Step, Stage::Decoder] {
                if !entry.stages.contains_key(&stage) {
                    return Err(damaged(
                        format!("flavours.{flavour}"),
                        format!("expected a stage {stage}, found none"),
                    ));
                }
            }
        }
        self.files().try_for_each(check_path)
    }
}

impl Model {
    fn validate(&self) -> Result<()> {
        let ordered = 0 < self.codebook_size
            && self.codebook_size <= self.mask_token_id
            && self.mask_token_id < self.vocab_size;
        if !ordered {
            let detail = format!(
                "expected 0 < codebook_size <= mask_token_id < vocab_size, found {}, {}, {}",
                self.codebook_size, self.mask_token_id, self.vocab_size
            );
            return Err(damaged("mask_token_id", detail));
        }
        in_range("sample_size", self.sample_size, 1, 4096)?;
        in_range("pixels_per_token", self.pixels_per_token, 1, 1024)?;
        in_range("grid_multiple", self.grid_multiple, 1, 64)?;
        if !self.sample_size.is_multiple_of(self.grid_multiple) {
            let detail = format!(
                "expected a multiple of {}, found {}",
                self.grid_multiple, self.sample_size
            );
            return Err(damaged("sample_size", detail));
        }
        Ok(())
    }
}

impl Tokenizer {
    fn validate(&self) -> Result<()> {
        in_range("max_tokens", self.max_tokens, 2, 1 << 16)
    }
}

impl Defaults {
    fn validate(&self) -> Result<()> {
        in_range("num_inference_steps", self.num_inference_steps, 1, 10_000)?;
        let numbers = [
            ("guidance_scale", self.guidance_scale),
            ("temperature", self.temperature[0]),
            ("temperature", self.temperature[1]),
        ];
        match numbers.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => {
                Err(damaged(name, format!("expected a finite number of at least 0, found {value}")))
            }
            None => Ok(()),
        }
    }
}

fn in_range(name: &str, value: u32, low: u32, high: u32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(damaged(name, format!("expected {low} to {high}, found {value}")))
}

/// A package comes from elsewhere: its paths must not lead out of it.
fn check_path(entry: &FileEntry) -> Result<()> {
    let parts = Path::new(&entry.path).components();
    let inside = !entry.path.is_empty()
        && !entry.path.contains(['\\', '\0', ':'])
        && parts.into_iter().all(|part| matches!(part, Component::Normal(_)));
    if inside {
        Ok(())
    } else {
        Err(damaged(format!("{:?}", entry.path), "expected a path inside the package"))
    }
}

fn damaged(at: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::PackageDamaged, at, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file =
            |path: &str| FileEntry { path: path.to_owned(), bytes: 3, sha256: Digest::of(b"abc") };
        let stage = |stage: Stage| {
            let graph = file(&format!("f32/{stage}.onnx"));
            (
                stage,
                StageEntry {
                    graph,
                    weights: None,
                    inputs: vec![],
                    outputs: vec![],
                    taps: BTreeMap::new(),
                },
            )
        };
        Manifest {
            format: FORMAT_VERSION,
            exporter: "test".to_owned(),
            model: Model {
                name: "tiny".to_owned(),
                vocab_size: 64,
                codebook_size: 48,
                mask_token_id: 63,
                masking_schedule: MaskingSchedule::Cosine,
                sample_size: 6,
                pixels_per_token: 4,
                grid_multiple: 2,
            },
            tokenizer: Tokenizer {
                file: file("tokenizer.json"),
                bos: 1,
                eos: 2,
                pad: 2,
                max_tokens: 77,
            },
            defaults: Defaults::default(),
            preview: Some(file("preview.rgb")),
            flavours: [(
                Flavour::F32,
                FlavourEntry { stages: Stage::ALL.into_iter().map(stage).collect() },
            )]
            .into(),
        }
    }

    #[test]
    fn survives_writing_and_reading() {
        assert_eq!(Manifest::parse(manifest().to_json().as_bytes()).expect("valid"), manifest());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        type Change = fn(&mut Manifest);
        let cases: [(&str, Change); 7] = [
            ("format: expected 1 to 1, found 2: written by a newer PocketMuse", |m| m.format = 2),
            ("format: expected 1 to 1, found 0", |m| m.format = 0),
            ("model: mask_token_id: expected 0 < codebook_size", |m| m.model.mask_token_id = 64),
            ("model: sample_size: expected a multiple of 2, found 5", |m| m.model.sample_size = 5),
            ("defaults: num_inference_steps: expected 1 to 10000, found 0", |m| {
                m.defaults.num_inference_steps = 0
            }),
            ("\"../x\": expected a path inside the package", |m| {
                m.tokenizer.file.path = "../x".to_owned()
            }),
            ("flavours: expected at least one", |m| m.flavours.clear()),
        ];
        for (expected, change) in cases {
            let mut manifest = manifest();
            change(&mut manifest);
            let error = Manifest::parse(manifest.to_json().as_bytes()).expect_err(expected);
            assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
            assert_eq!(error.kind(), ErrorKind::PackageDamaged);
        }
    }

    #[test]
    fn files_are_checked_by_size_and_by_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::write(root.join("a"), "abc").expect("written");
        let entry = FileEntry::describe(root, "a").expect("described");
        entry.check(root).expect("unchanged");
        fs::write(root.join("a"), "abd").expect("written");
        entry.check_size(root).expect("same size");
        assert!(
            entry.check(root).expect_err("changed").to_string().contains("the file was changed")
        );
        fs::remove_file(root.join("a")).expect("removed");
        assert_eq!(entry.check_size(root).expect_err("gone").kind(), ErrorKind::PackageDamaged);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            assert!(Manifest::parse(&text).is_err());
        }

        #[test]
        fn never_panics_on_a_changed_byte(at in 0usize..2000, byte: u8) {
            let mut text = manifest().to_json().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = Manifest::parse(&text);
        }
    }
}
