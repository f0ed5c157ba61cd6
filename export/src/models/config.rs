//! The configs of the four parts of a checkpoint: parsed, then checked, so that the networks can
//! trust them.

use pocketmuse_package::{Defaults, MaskingSchedule};
use serde::Deserialize;

use crate::{
    checkpoint::Checkpoint,
    error::{Result, bad_checkpoint},
};

/// Everything the configs say.
pub(crate) struct Configs {
    pub(crate) text: TextConfig,
    pub(crate) vit: VitConfig,
    pub(crate) vq: VqConfig,
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) defaults: Defaults,
}

/// `text_encoder/config.json`: a CLIP text model with projection.
#[derive(Deserialize)]
pub(crate) struct TextConfig {
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) projection_dim: usize,
    pub(crate) vocab_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) layer_norm_eps: f32,
    pub(crate) eos_token_id: u32,
    hidden_act: String,
}

/// `transformer/config.json`: a U-ViT.
#[derive(Deserialize)]
pub(crate) struct VitConfig {
    pub(crate) hidden_size: usize,
    pub(crate) cond_embed_dim: usize,
    pub(crate) micro_cond_encode_dim: usize,
    pub(crate) micro_cond_embed_dim: usize,
    pub(crate) encoder_hidden_size: usize,
    pub(crate) vocab_size: usize,
    pub(crate) codebook_size: usize,
    pub(crate) in_channels: usize,
    block_out_channels: OneOrMany,
    pub(crate) num_res_blocks: usize,
    pub(crate) downsample: bool,
    pub(crate) upsample: bool,
    pub(crate) block_num_heads: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) layer_norm_eps: f32,
    pub(crate) sample_size: usize,
    #[serde(default)]
    use_bias: bool,
    #[serde(default = "yes")]
    ln_elementwise_affine: bool,
}

/// `vqvae/config.json`: a VQ-GAN.
#[derive(Deserialize)]
pub(crate) struct VqConfig {
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) latent_channels: usize,
    pub(crate) layers_per_block: usize,
    pub(crate) norm_num_groups: usize,
    pub(crate) num_vq_embeddings: usize,
    vq_embed_dim: Option<usize>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    act_fn: String,
    #[serde(default = "group")]
    norm_type: String,
    #[serde(default = "yes")]
    mid_block_add_attention: bool,
}

/// `scheduler/scheduler_config.json`.
#[derive(Deserialize)]
pub(crate) struct SchedulerConfig {
    pub(crate) mask_token_id: u32,
    #[serde(default = "cosine")]
    pub(crate) masking_schedule: MaskingSchedule,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

#[derive(Deserialize)]
struct GenerationConfig {
    num_inference_steps: Option<u32>,
    guidance_scale: Option<f32>,
    temperature: Option<Temperature>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Temperature {
    Range([f32; 2]),
    /// The reference lets a single value fall to 0.01.
    From(f32),
}

fn yes() -> bool {
    true
}

fn group() -> String {
    "group".to_owned()
}

fn cosine() -> MaskingSchedule {
    MaskingSchedule::Cosine
}

const TEXT: &str = "text_encoder/config.json";
const VIT: &str = "transformer/config.json";
const VQ: &str = "vqvae/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// No network of this family comes near; a config beyond it is damaged, and sizes multiply without
/// overflow.
const MAX_SIZE: usize = 1 << 20;

/// Nor does its number of layers.
const MAX_LAYERS: usize = 512;

impl Configs {
    pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let configs = Self {
            text: checkpoint.json(TEXT)?,
            vit: checkpoint.json(VIT)?,
            vq: checkpoint.json(VQ)?,
            scheduler: checkpoint.json(SCHEDULER)?,
            defaults: defaults(checkpoint.optional_json("generation_config.json")?),
        };
        configs.check().map_err(|error| error.within(checkpoint.root().display()))?;
        Ok(configs)
    }

    fn check(&self) -> Result<()> {
        self.text.check().map_err(|error| error.within(TEXT))?;
        self.vit.check().map_err(|error| error.within(VIT))?;
        self.vq.check().map_err(|error| error.within(VQ))?;
        self.check_together()
    }

    fn check_together(&self) -> Result<()> {
        let (text, vit, vq) = (&self.text, &self.vit, &self.vq);
        same(
            VIT,
            "encoder_hidden_size",
            ("text_encoder hidden_size", text.hidden_size),
            vit.encoder_hidden_size,
        )?;
        same(
            VIT,
            "cond_embed_dim",
            ("text_encoder projection_dim", text.projection_dim),
            vit.cond_embed_dim,
        )?;
        same(
            VIT,
            "codebook_size",
            ("vqvae num_vq_embeddings", vq.num_vq_embeddings),
            vit.codebook_size,
        )?;
        let mask = self.scheduler.mask_token_id as usize;
        if mask < vit.codebook_size || mask >= vit.vocab_size {
            let expected =
                format!("expected {} to {}, found {mask}", vit.codebook_size, vit.vocab_size - 1);
            return Err(bad_checkpoint(format!("{SCHEDULER}: mask_token_id"), expected));
        }
        Ok(())
    }
}

impl TextConfig {
    fn check(&self) -> Result<()> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("projection_dim", self.projection_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        sizes.into_iter().try_for_each(|(name, size)| within(name, size, MAX_SIZE))?;
        within("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?;
        divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)?;
        positive("layer_norm_eps", self.layer_norm_eps)?;
        expect("hidden_act", "quick_gelu", &self.hidden_act)
    }
}

impl VitConfig {
    fn check(&self) -> Result<()> {
        if let OneOrMany::Many(many) = &self.block_out_channels
            && many.len() != 1
        {
            return Err(bad_checkpoint(
                "block_out_channels",
                format!("expected one number, found {many:?}"),
            ));
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("cond_embed_dim", self.cond_embed_dim),
            ("micro_cond_encode_dim", self.micro_cond_encode_dim),
            ("encoder_hidden_size", self.encoder_hidden_size),
            ("vocab_size", self.vocab_size),
            ("codebook_size", self.codebook_size),
            ("in_channels", self.in_channels),
            ("block_out_channels", self.channels()),
            ("intermediate_size", self.intermediate_size),
        ];
        sizes.into_iter().try_for_each(|(name, size)| within(name, size, MAX_SIZE))?;
        within("num_res_blocks", self.num_res_blocks, MAX_LAYERS)?;
        within("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?;
        within("sample_size", self.sample_size, 4096)?;
        divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)?;
        divides("block_num_heads", self.block_num_heads, "block_out_channels", self.channels())?;
        positive("layer_norm_eps", self.layer_norm_eps)?;
        same(
            "",
            "micro_cond_embed_dim",
            ("5 micro_cond_encode_dim", 5 * self.micro_cond_encode_dim),
            self.micro_cond_embed_dim,
        )?;
        divides("2", 2, "micro_cond_encode_dim", self.micro_cond_encode_dim)?;
        expect("use_bias", "false", &self.use_bias.to_string())?;
        expect("ln_elementwise_affine", "true", &self.ln_elementwise_affine.to_string())?;
        if self.downsample != self.upsample {
            let detail =
                format!("expected as downsample, {}, found {}", self.downsample, self.upsample);
            return Err(bad_checkpoint("upsample", detail));
        }
        if self.downsample {
            divides("2", 2, "sample_size", self.sample_size)?;
        }
        Ok(())
    }

    /// Channels of the blocks before and after the transformer.
    pub(crate) fn channels(&self) -> usize {
        match &self.block_out_channels {
            OneOrMany::One(channels) => *channels,
            OneOrMany::Many(channels) => channels.first().copied().unwrap_or(0),
        }
    }

    /// What the token grid's sides must be multiples of.
    pub(crate) fn grid_multiple(&self) -> usize {
        if self.downsample { 2 } else { 1 }
    }
}

impl VqConfig {
    fn check(&self) -> Result<()> {
        let sizes = [
            ("latent_channels", self.latent_channels),
            ("vq_embed_dim", self.vector_width()),
            ("num_vq_embeddings", self.num_vq_embeddings),
        ];
        sizes.into_iter().try_for_each(|(name, size)| within(name, size, MAX_SIZE))?;
        within("layers_per_block", self.layers_per_block, MAX_LAYERS)?;
        within("the number of block_out_channels", self.block_out_channels.len(), 10)?;
        for channels in &self.block_out_channels {
            within("block_out_channels", *channels, MAX_SIZE)?;
            divides("norm_num_groups", self.norm_num_groups, "block_out_channels", *channels)?;
        }
        for (name, channels) in
            [("in_channels", self.in_channels), ("out_channels", self.out_channels)]
        {
            same("", name, ("3 colours", 3), channels)?;
        }
        let blocks = self.block_out_channels.len();
        for (name, wanted, found) in [
            ("down_block_types", "DownEncoderBlock2D", &self.down_block_types),
            ("up_block_types", "UpDecoderBlock2D", &self.up_block_types),
        ] {
            if found.len() != blocks || found.iter().any(|block| block != wanted) {
                return Err(bad_checkpoint(
                    name,
                    format!("expected {blocks} times {wanted}, found {found:?}"),
                ));
            }
        }
        expect("act_fn", "silu", &self.act_fn)?;
        expect("norm_type", "group", &self.norm_type)?;
        expect("mid_block_add_attention", "false", &self.mid_block_add_attention.to_string())
    }

    /// Values of one vector of the codebook.
    pub(crate) fn vector_width(&self) -> usize {
        self.vq_embed_dim.unwrap_or(self.latent_channels)
    }

    /// Pixels along each side of one token.
    pub(crate) fn pixels_per_token(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

fn defaults(config: Option<GenerationConfig>) -> Defaults {
    let fallback = Defaults::default();
    let Some(config) = config else { return fallback };
    Defaults {
        num_inference_steps: config.num_inference_steps.unwrap_or(fallback.num_inference_steps),
        guidance_scale: config.guidance_scale.unwrap_or(fallback.guidance_scale),
        temperature: match config.temperature {
            Some(Temperature::Range(range)) => range,
            Some(Temperature::From(start)) => [start, 0.01],
            None => fallback.temperature,
        },
    }
}

fn within(name: &str, size: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&size) {
        return Ok(());
    }
    Err(bad_checkpoint(name, format!("expected 1 to {most}, found {size}")))
}

fn divides(name: &str, part: usize, whole_name: &str, whole: usize) -> Result<()> {
    if part > 0 && whole.is_multiple_of(part) {
        return Ok(());
    }
    Err(bad_checkpoint(whole_name, format!("expected a multiple of {name} {part}, found {whole}")))
}

fn positive(name: &str, value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(bad_checkpoint(name, format!("expected a positive number, found {value}")))
}

fn same(file: &str, name: &str, expected: (&str, usize), found: usize) -> Result<()> {
    if expected.1 == found {
        return Ok(());
    }
    let at = if file.is_empty() { name.to_owned() } else { format!("{file}: {name}") };
    Err(bad_checkpoint(at, format!("expected {} ({}), found {found}", expected.1, expected.0)))
}

fn expect(name: &str, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(bad_checkpoint(
        name,
        format!("expected {expected}, the only kind of this family, found {found}"),
    ))
}
