//! Full-size checkpoints of random weights, in the hub layout: for benches and
//! for measuring memory. They make no images worth looking at. Knows the
//! released models' sizes and nothing of what a checkpoint is used for.

mod fill;
mod networks;
mod plan;
mod tokenizer;
mod vqmodel;

use std::{fs, ops::ControlFlow, path::Path};

use clap::ValueEnum;
pub use fill::{Fill, Values};
pub use networks::{TextEncoder, Transformer, TransformerSizes};
pub use plan::{Plan, Planned};
use pocketmuse_package::{
    Dtype, Error, ErrorKind, Result,
    files::{self, NewFolder},
};
use serde_json::{Value, json};
pub use tokenizer::Tokenizer;
pub use vqmodel::VqModel;

/// Which checkpoint to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// The sizes of amused-256: 256 x 256 pixels, 873M parameters.
    #[value(name = "amused-256")]
    Amused256,
    /// The sizes of amused-512: 512 x 512 pixels, resampling blocks, 878M parameters.
    #[value(name = "amused-512")]
    Amused512,
    /// Every part of amused-512 at its smallest, for tests: 32 x 32 pixels.
    #[value(name = "tiny", hide = true)]
    Tiny,
}

/// How to make it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which checkpoint.
    pub preset: Preset,
    /// The same seed gives the same bytes on every machine.
    pub seed: u64,
    /// The type of every weight: f16, bf16 or f32.
    pub dtype: Dtype,
    /// Whether a checkpoint that this module made is replaced. Nothing else ever is.
    pub overwrite: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes of weights written.
    pub written_bytes: u64,
    /// Bytes of weights in all.
    pub total_bytes: u64,
    /// The tensor just written.
    pub tensor: &'a str,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Each network's folder, tensors and parameters.
    pub networks: Vec<(&'static str, usize, usize)>,
    /// Bytes of weights.
    pub bytes: u64,
}

/// The three networks of a preset.
#[derive(Clone, Debug)]
pub struct Networks {
    /// The text encoder.
    pub text_encoder: TextEncoder,
    /// The U-ViT.
    pub transformer: Transformer,
    /// The VQ model.
    pub vqvae: VqModel,
    /// Entries of the tokenizer.
    pub tokens: usize,
}

impl Preset {
    /// The name used on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no preset is skipped");
        value.get_name().to_owned()
    }

    /// Its networks.
    pub fn networks(self) -> Networks {
        match self {
            Self::Amused256 => full_size(16, false),
            Self::Amused512 => full_size(32, true),
            Self::Tiny => tiny(),
        }
    }
}

fn full_size(sample_size: usize, resample: bool) -> Networks {
    let transformer = Transformer::new(TransformerSizes {
        hidden_size: 1024,
        num_hidden_layers: 22,
        num_attention_heads: 16,
        intermediate_size: 2816,
        block_out_channels: 768,
        block_num_heads: 12,
        num_res_blocks: 3,
        text: 768,
        micro_cond_encode_dim: 256,
        codebook_size: 8192,
        sample_size,
        resample,
    });
    Networks {
        text_encoder: TextEncoder::new(768, 12, 12, 49_408),
        transformer,
        vqvae: VqModel::new(&[128, 256, 256, 512, 768], 64, 32, 8192),
        tokens: 49_408,
    }
}

fn tiny() -> Networks {
    let transformer = Transformer::new(TransformerSizes {
        hidden_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 64,
        block_out_channels: 32,
        block_num_heads: 2,
        num_res_blocks: 1,
        text: 32,
        micro_cond_encode_dim: 16,
        codebook_size: 96,
        sample_size: 8,
        resample: true,
    });
    Networks {
        text_encoder: TextEncoder::new(32, 2, 2, 714),
        transformer,
        vqvae: VqModel::new(&[16, 24, 32], 8, 8, 96),
        tokens: 714,
    }
}

/// Makes a checkpoint at `folder`, under a temporary name until it is whole.
///
/// # Errors
///
/// `BadRequest` if `folder` exists and may not be replaced, or holds anything else; `Io` if it
/// cannot be written;
/// `NoSpace` if the disk has too little room; `Cancelled` if `on_progress` breaks. Nothing is left
/// behind.
pub fn write(
    folder: &Path,
    options: &Options,
    mut on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<Summary> {
    let networks = options.preset.networks();
    if options.overwrite {
        check_replaceable(folder)?;
    }
    let around = files::parent(folder);
    fs::create_dir_all(around).map_err(|error| Error::io(around, error))?;
    let new = NewFolder::begin(folder, options.overwrite)?;
    let plans = [networks.text_encoder.plan(), networks.transformer.plan(), networks.vqvae.plan()];
    let total_bytes =
        plans.iter().map(|plan| (plan.parameters() * options.dtype.bytes()) as u64).sum();
    files::check_room(around, total_bytes)?;
    write_small_files(new.path(), options, &networks)?;
    let mut written_bytes = 0;
    for (file, plan) in WEIGHTS.iter().zip(&plans) {
        let path = new.path().join(file);
        plan.write(&path, options.seed, options.dtype, |tensor, bytes| {
            written_bytes += bytes as u64;
            on_progress(&Progress { written_bytes, total_bytes, tensor: &tensor.name })
        })?;
    }
    new.finish()?;
    let network = |(file, plan): (&&'static str, &Plan)| {
        let (network, _) = file.split_once('/').unwrap_or_default();
        (network, plan.tensors.len(), plan.parameters())
    };
    let networks = WEIGHTS.iter().zip(&plans).map(network).collect();
    Ok(Summary { networks, bytes: total_bytes })
}

/// The files of weights, in a folder for each network.
const WEIGHTS: [&str; 3] = [
    "text_encoder/model.safetensors",
    "transformer/diffusion_pytorch_model.safetensors",
    "vqvae/diffusion_pytorch_model.safetensors",
];

/// Says which checkpoint it is, and that this module made it.
const CARD: &str = "README.md";

fn write_small_files(root: &Path, options: &Options, networks: &Networks) -> Result<()> {
    for (name, text) in SMALL_FILES.iter().zip(small_texts(options, networks)?) {
        let path = root.join(name);
        let written =
            fs::create_dir_all(files::parent(&path)).and_then(|()| fs::write(&path, text));
        written.map_err(|error| Error::io(&path, error))?;
    }
    Ok(())
}

/// The other files.
const SMALL_FILES: [&str; 10] = [
    CARD,
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "transformer/config.json",
    "vqvae/config.json",
];

/// The texts of [`SMALL_FILES`].
fn small_texts(options: &Options, networks: &Networks) -> Result<[String; 10]> {
    let tokenizer = Tokenizer::build(networks.tokens)?;
    let json = |value: Value| format!("{value:#}\n");
    let scheduler = json!({
        "_class_name": "AmusedScheduler",
        "mask_token_id": networks.transformer.mask_token_id(),
        "masking_schedule": "cosine",
    });
    let mut text_encoder = config(&networks.text_encoder);
    text_encoder["dtype"] = Value::from(dtype_name(options.dtype));
    Ok([
        card(options),
        json(model_index()),
        json(scheduler),
        json(text_encoder),
        tokenizer.merges_txt(),
        json(tokenizer::special_tokens_map()),
        json(tokenizer::config()),
        tokenizer.vocab_json(),
        json(config(&networks.transformer)),
        json(config(&networks.vqvae)),
    ])
}

/// Checks that nothing is at `folder`, or a checkpoint that this module made and nothing besides.
fn check_replaceable(folder: &Path) -> Result<()> {
    if folder.symlink_metadata().is_err() || is_ours(folder) {
        return Ok(());
    }
    let detail = "expected a new folder or a checkpoint of synth to replace, found something else";
    Err(Error::new(ErrorKind::BadRequest, folder.display().to_string(), detail))
}

fn is_ours(folder: &Path) -> bool {
    const MOST_BYTES: u64 = 4096;
    let card = files::read_text(&folder.join(CARD), MOST_BYTES, ErrorKind::BadInput);
    let is_card = card.is_ok_and(|card| {
        card.starts_with(CARD_START) && card.lines().any(|line| line.starts_with(CARD_MADE_BY))
    });
    is_card && holds_only(folder, Path::new(""))
}

/// Whether all in the folder `inner` of `root` is what a checkpoint has there.
fn holds_only(root: &Path, inner: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(root.join(inner)) else { return false };
    entries.all(|entry| {
        let Ok(entry) = entry else { return false };
        let name = inner.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                SMALL_FILES.iter().any(|file| Path::new(file).parent() == Some(&name))
                    && holds_only(root, &name)
            }
            Ok(kind) if kind.is_file() => {
                SMALL_FILES.iter().chain(&WEIGHTS).any(|file| Path::new(file) == name)
            }
            _ => false,
        }
    })
}

fn config(network: &impl serde::Serialize) -> Value {
    serde_json::to_value(network).expect("plain data with string keys always serializes")
}

fn model_index() -> Value {
    json!({
        "_class_name": "AmusedPipeline",
        "scheduler": ["diffusers", "AmusedScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "UVit2DModel"],
        "vqvae": ["diffusers", "VQModel"],
    })
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        _ => "float32",
    }
}

/// How the card begins, before the preset's name.
const CARD_START: &str = "# Random weights in the shape of ";
/// How the card's line begins that says what made it.
const CARD_MADE_BY: &str = "Made by `pocketmuse synth ";

fn card(options: &Options) -> String {
    let Options { preset, seed, dtype, .. } = options;
    format!(
        "{CARD_START}{}\n\n{CARD_MADE_BY}--seed {seed} --dtype {dtype}` \
         to measure time and memory.\n\
         Nothing was trained: its images are noise.\n",
        preset.name(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tensors and parameters of each network, from the specification.
    #[test]
    fn full_size_networks_have_the_released_models_counts() {
        for (preset, transformer) in
            [(Preset::Amused256, (474, 603_537_664)), (Preset::Amused512, (478, 608_257_792))]
        {
            let networks = preset.networks();
            let counts = |plan: Plan| (plan.tensors.len(), plan.parameters());
            assert_eq!(counts(networks.text_encoder.plan()), (197, 123_650_304));
            assert_eq!(counts(networks.transformer.plan()), transformer, "{}", preset.name());
            assert_eq!(counts(networks.vqvae.plan()), (277, 146_244_675));
            assert_eq!(networks.transformer.mask_token_id(), 8255);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let root = tempfile::tempdir().expect("a folder");
        let make = |name: &str, seed| {
            let options =
                Options { preset: Preset::Tiny, seed, dtype: Dtype::F16, overwrite: false };
            write(&root.path().join(name), &options, |_| ControlFlow::Continue(()))
                .expect("written");
            fs::read(root.path().join(name).join("transformer/diffusion_pytorch_model.safetensors"))
                .expect("read")
        };
        let first = make("a", 0);
        assert_eq!(first, make("b", 0));
        assert_ne!(first, make("c", 1));
    }

    #[test]
    fn only_what_synth_made_is_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a");
        let force = || {
            let options =
                Options { preset: Preset::Tiny, seed: 0, dtype: Dtype::F16, overwrite: true };
            write(&path, &options, |_| ControlFlow::Continue(()))
        };
        force().expect("new");
        force().expect("ours");
        let mine = path.join("transformer/mine");
        fs::write(&mine, "x").expect("written");
        assert_eq!(force().expect_err("something besides").kind(), ErrorKind::BadRequest);
        fs::remove_file(&mine).expect("removed");
        fs::write(path.join(CARD), "# A model").expect("written");
        assert_eq!(force().expect_err("another's").kind(), ErrorKind::BadRequest);
        fs::remove_dir_all(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert_eq!(force().expect_err("an empty folder").kind(), ErrorKind::BadRequest);
        fs::remove_dir(&path).expect("still there");
        fs::write(&path, "a file").expect("written");
        assert_eq!(force().expect_err("a file").kind(), ErrorKind::BadRequest);
    }

    #[test]
    fn progress_ends_at_the_total_and_stopping_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let options =
            Options { preset: Preset::Tiny, seed: 0, dtype: Dtype::F32, overwrite: false };
        let mut last = (0, 1);
        let summary = write(&root.path().join("a"), &options, |progress| {
            last = (progress.written_bytes, progress.total_bytes);
            ControlFlow::Continue(())
        });
        assert_eq!(last, (summary.expect("written").bytes, last.1));
        let stopped = write(&root.path().join("b"), &options, |_| ControlFlow::Break(()));
        assert!(stopped.is_err());
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
    }
}
