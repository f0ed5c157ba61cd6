//! Full-size checkpoints of random weights, in the hub layout: for benches and
//! for measuring memory. They make no pictures worth looking at. Knows the
//! released models' sizes and nothing of what a checkpoint is used for.

mod fill;
mod networks;
mod plan;
mod tokenizer;
mod vqmodel;

use std::{fs, ops::ControlFlow, path::Path};

pub use fill::{Fill, Values};
pub use networks::{TextEncoder, Transformer, TransformerSizes};
pub use plan::{Plan, Planned};
use pocketmuse_package::{
    Dtype, Error, Result,
    files::{self, NewFolder},
};
use serde_json::{Value, json};
pub use tokenizer::Tokenizer;
pub use vqmodel::VqModel;

/// Which checkpoint to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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
    /// Whether a folder that is already there is replaced.
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
    pub fn name(self) -> &'static str {
        match self {
            Self::Amused256 => "amused-256",
            Self::Amused512 => "amused-512",
            Self::Tiny => "tiny",
        }
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
/// `BadRequest` if `folder` exists and may not be replaced; `Io` if it cannot be written;
/// `Cancelled` if `on_progress` breaks. Nothing is left behind.
pub fn write(
    folder: &Path,
    options: &Options,
    mut on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<Summary> {
    let networks = options.preset.networks();
    let around = files::parent(folder);
    fs::create_dir_all(around).map_err(|error| Error::io(around, error))?;
    let new = NewFolder::begin(folder, options.overwrite)?;
    write_small_files(new.path(), options, &networks)?;
    let plans = [
        ("text_encoder", "model.safetensors", networks.text_encoder.plan()),
        ("transformer", "diffusion_pytorch_model.safetensors", networks.transformer.plan()),
        ("vqvae", "diffusion_pytorch_model.safetensors", networks.vqvae.plan()),
    ];
    let total_bytes =
        plans.iter().map(|(_, _, plan)| (plan.parameters() * options.dtype.bytes()) as u64).sum();
    let mut written_bytes = 0;
    for (network, file, plan) in &plans {
        let path = new.path().join(network).join(file);
        plan.write(&path, options.seed, options.dtype, |tensor, bytes| {
            written_bytes += bytes as u64;
            on_progress(&Progress { written_bytes, total_bytes, tensor: &tensor.name })
        })?;
    }
    new.finish()?;
    let networks = plans
        .iter()
        .map(|(network, _, plan)| (*network, plan.tensors.len(), plan.parameters()))
        .collect();
    Ok(Summary { networks, bytes: total_bytes })
}

fn write_small_files(root: &Path, options: &Options, networks: &Networks) -> Result<()> {
    let tokenizer = Tokenizer::build(networks.tokens)?;
    let json = |value: Value| format!("{value:#}\n");
    let scheduler = json!({
        "_class_name": "AmusedScheduler",
        "mask_token_id": networks.transformer.mask_token_id(),
        "masking_schedule": "cosine",
    });
    let mut text_encoder = config(&networks.text_encoder);
    text_encoder["dtype"] = Value::from(dtype_name(options.dtype));
    let files = [
        ("README.md", card(options)),
        ("model_index.json", json(model_index())),
        ("scheduler/scheduler_config.json", json(scheduler)),
        ("text_encoder/config.json", json(text_encoder)),
        ("tokenizer/merges.txt", tokenizer.merges_txt()),
        ("tokenizer/special_tokens_map.json", json(tokenizer::special_tokens_map())),
        ("tokenizer/tokenizer_config.json", json(tokenizer::config())),
        ("tokenizer/vocab.json", tokenizer.vocab_json()),
        ("transformer/config.json", json(config(&networks.transformer))),
        ("vqvae/config.json", json(config(&networks.vqvae))),
    ];
    for (name, text) in files {
        let path = root.join(name);
        let written =
            fs::create_dir_all(files::parent(&path)).and_then(|()| fs::write(&path, text));
        written.map_err(|error| Error::io(&path, error))?;
    }
    Ok(())
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

fn card(options: &Options) -> String {
    format!(
        "# Random weights in the shape of {}\n\nMade by `pocketmuse synth --seed {} --dtype {}` to measure time and \
         memory.\nNothing was trained: its pictures are noise.\n",
        options.preset.name(),
        options.seed,
        options.dtype
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
