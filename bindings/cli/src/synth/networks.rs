//! The three networks of an aMUSEd checkpoint: configuration, and every tensor
//! with its name and shape. Gains keep activations of random weights near 1.

use serde::Serialize;

use super::{fill::Fill, plan::Plan};

/// `text_encoder/config.json`: a CLIP text model with projection.
#[derive(Clone, Debug, Serialize)]
pub struct TextEncoder {
    architectures: [&'static str; 1],
    attention_dropout: f32,
    bos_token_id: u32,
    eos_token_id: u32,
    hidden_act: &'static str,
    hidden_size: usize,
    initializer_factor: f32,
    initializer_range: f32,
    intermediate_size: usize,
    layer_norm_eps: f64,
    max_position_embeddings: usize,
    model_type: &'static str,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    pad_token_id: u32,
    projection_dim: usize,
    vocab_size: usize,
}

impl TextEncoder {
    /// A text encoder `hidden_size` wide. The special ids are the released models' own, which are
    /// wrong and known to be: the end of a prompt is where its ids are largest.
    pub fn new(
        hidden_size: usize,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        vocab_size: usize,
    ) -> Self {
        Self {
            architectures: ["CLIPTextModelWithProjection"],
            attention_dropout: 0.0,
            bos_token_id: 0,
            eos_token_id: 2,
            hidden_act: "quick_gelu",
            hidden_size,
            initializer_factor: 1.0,
            initializer_range: 0.02,
            intermediate_size: 4 * hidden_size,
            layer_norm_eps: 1e-5,
            max_position_embeddings: 77,
            model_type: "clip_text_model",
            num_attention_heads,
            num_hidden_layers,
            pad_token_id: 1,
            projection_dim: hidden_size,
            vocab_size,
        }
    }

    /// Its tensors.
    pub fn plan(&self) -> Plan {
        let (mut plan, width, inner) = (Plan::default(), self.hidden_size, self.intermediate_size);
        let embeddings = "text_model.embeddings";
        plan.tensor(
            format!("{embeddings}.token_embedding.weight"),
            &[self.vocab_size, width],
            Fill::Random(0.5),
        );
        let positions = [self.max_position_embeddings, width];
        plan.tensor(
            format!("{embeddings}.position_embedding.weight"),
            &positions,
            Fill::Random(0.1),
        );
        for layer in 0..self.num_hidden_layers {
            let layer = format!("text_model.encoder.layers.{layer}");
            for (name, gain) in
                [("k_proj", 1.0), ("v_proj", 1.0), ("q_proj", 1.0), ("out_proj", 0.5)]
            {
                plan.biased(&format!("{layer}.self_attn.{name}"), &[width, width], gain);
            }
            plan.norm(&format!("{layer}.layer_norm1"), width);
            plan.biased(&format!("{layer}.mlp.fc1"), &[inner, width], 1.0);
            plan.biased(&format!("{layer}.mlp.fc2"), &[width, inner], 0.5);
            plan.norm(&format!("{layer}.layer_norm2"), width);
        }
        plan.norm("text_model.final_layer_norm", width);
        plan.weight("text_projection", &[self.projection_dim, width], 1.0);
        plan
    }
}

/// `transformer/config.json`: the U-ViT.
#[derive(Clone, Debug, Serialize)]
pub struct Transformer {
    #[serde(rename = "_class_name")]
    class_name: &'static str,
    attention_dropout: f32,
    block_num_heads: usize,
    block_out_channels: usize,
    codebook_size: usize,
    cond_embed_dim: usize,
    downsample: bool,
    encoder_hidden_size: usize,
    hidden_dropout: f32,
    hidden_size: usize,
    in_channels: usize,
    intermediate_size: usize,
    layer_norm_eps: f64,
    ln_elementwise_affine: bool,
    micro_cond_embed_dim: usize,
    micro_cond_encode_dim: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_res_blocks: usize,
    sample_size: usize,
    upsample: bool,
    use_bias: bool,
    vocab_size: usize,
}

/// What distinguishes one U-ViT from another.
#[derive(Clone, Copy, Debug)]
pub struct TransformerSizes {
    /// Width of the middle layers.
    pub hidden_size: usize,
    /// How many middle layers.
    pub num_hidden_layers: usize,
    /// Attention heads of the middle layers.
    pub num_attention_heads: usize,
    /// Inner width of the middle layers' feed-forward part.
    pub intermediate_size: usize,
    /// Channels of the convolutional blocks.
    pub block_out_channels: usize,
    /// Attention heads of the convolutional blocks.
    pub block_num_heads: usize,
    /// Residual blocks on either side of the middle.
    pub num_res_blocks: usize,
    /// Width of the text encoder, hidden and pooled.
    pub text: usize,
    /// Values of each sinusoidal micro-condition.
    pub micro_cond_encode_dim: usize,
    /// Codes that can be drawn.
    pub codebook_size: usize,
    /// Tokens along each side of the image.
    pub sample_size: usize,
    /// Whether the middle layers work on half the grid.
    pub resample: bool,
}

impl Transformer {
    /// A U-ViT of these sizes; the vocabulary is the codebook and 64 rows, the last one the mask.
    pub fn new(sizes: TransformerSizes) -> Self {
        Self {
            class_name: "UVit2DModel",
            attention_dropout: 0.0,
            block_num_heads: sizes.block_num_heads,
            block_out_channels: sizes.block_out_channels,
            codebook_size: sizes.codebook_size,
            cond_embed_dim: sizes.text,
            downsample: sizes.resample,
            encoder_hidden_size: sizes.text,
            hidden_dropout: 0.0,
            hidden_size: sizes.hidden_size,
            in_channels: sizes.block_out_channels,
            intermediate_size: sizes.intermediate_size,
            layer_norm_eps: 1e-6,
            ln_elementwise_affine: true,
            micro_cond_embed_dim: 5 * sizes.micro_cond_encode_dim,
            micro_cond_encode_dim: sizes.micro_cond_encode_dim,
            num_attention_heads: sizes.num_attention_heads,
            num_hidden_layers: sizes.num_hidden_layers,
            num_res_blocks: sizes.num_res_blocks,
            sample_size: sizes.sample_size,
            upsample: sizes.resample,
            use_bias: false,
            vocab_size: sizes.codebook_size + 64,
        }
    }

    /// The id that stands for "not chosen yet".
    pub fn mask_token_id(&self) -> usize {
        self.vocab_size - 1
    }

    /// Its tensors.
    pub fn plan(&self) -> Plan {
        let (mut plan, width, channels) =
            (Plan::default(), self.hidden_size, self.block_out_channels);
        plan.weight("encoder_proj", &[width, self.encoder_hidden_size], 1.0);
        plan.scale("encoder_proj_layer_norm", width);
        plan.tensor(
            "embed.embeddings.weight",
            &[self.vocab_size, self.in_channels],
            Fill::Random(0.5),
        );
        plan.scale("embed.layer_norm", self.in_channels);
        plan.weight("embed.conv", &[channels, self.in_channels, 1, 1], 1.0);
        let conditions = self.cond_embed_dim + self.micro_cond_embed_dim;
        plan.weight("cond_embed.linear_1", &[width, conditions], 1.0);
        plan.weight("cond_embed.linear_2", &[width, width], 1.0);
        if self.downsample {
            plan.scale("down_block.downsample.norm", channels);
            plan.weight("down_block.downsample.conv", &[channels, channels, 2, 2], 1.0);
        }
        self.plan_block(&mut plan, "down_block");
        plan.scale("project_to_hidden_norm", channels);
        plan.weight("project_to_hidden", &[width, channels], 1.0);
        for layer in 0..self.num_hidden_layers {
            self.plan_layer(&mut plan, &format!("transformer_layers.{layer}"));
        }
        plan.scale("project_from_hidden_norm", width);
        plan.weight("project_from_hidden", &[channels, width], 1.0);
        self.plan_block(&mut plan, "up_block");
        if self.upsample {
            plan.scale("up_block.upsample.norm", channels);
            // Transposed: each output sees one tap of each channel.
            let std = 1.0 / (channels as f32).sqrt();
            plan.tensor(
                "up_block.upsample.conv.weight",
                &[channels, channels, 2, 2],
                Fill::Random(std),
            );
        }
        plan.weight("mlm_layer.conv1", &[channels, self.in_channels, 1, 1], 1.0);
        plan.scale("mlm_layer.layer_norm", channels);
        plan.weight("mlm_layer.conv2", &[self.codebook_size, channels, 1, 1], 1.0);
        plan
    }

    fn plan_block(&self, plan: &mut Plan, block: &str) {
        let (width, channels) = (self.hidden_size, self.block_out_channels);
        for index in 0..self.num_res_blocks {
            let name = format!("{block}.res_blocks.{index}");
            plan.weight(&format!("{name}.depthwise"), &[channels, 1, 3, 3], 1.0);
            plan.scale(&format!("{name}.norm"), channels);
            plan.weight(&format!("{name}.channelwise_linear_1"), &[4 * channels, channels], 1.0);
            for part in ["gamma", "beta"] {
                plan.tensor(
                    format!("{name}.channelwise_norm.{part}"),
                    &[1, 1, 1, 4 * channels],
                    Fill::Random(0.1),
                );
            }
            plan.weight(&format!("{name}.channelwise_linear_2"), &[channels, 4 * channels], 0.5);
            plan.weight(&format!("{name}.cond_embeds_mapper"), &[2 * channels, width], 0.3);
        }
        for index in 0..self.num_res_blocks {
            let name = format!("{block}.attention_blocks.{index}");
            if width != channels {
                plan.weight(&format!("{name}.kv_mapper"), &[channels, width], 1.5);
            }
            for part in 1..=2 {
                plan.scale(&format!("{name}.norm{part}"), channels);
                plan_attention(plan, &format!("{name}.attn{part}"), channels);
            }
        }
    }

    fn plan_layer(&self, plan: &mut Plan, layer: &str) {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        for part in 1..=3 {
            plan.weight(&format!("{layer}.norm{part}.linear"), &[2 * width, width], 0.3);
            plan.scale(&format!("{layer}.norm{part}.norm"), width);
            if part < 3 {
                plan_attention(plan, &format!("{layer}.attn{part}"), width);
            }
        }
        plan.weight(&format!("{layer}.ff.net.0.proj"), &[2 * inner, width], 1.0);
        plan.weight(&format!("{layer}.ff.net.2"), &[width, inner], 0.5);
    }
}

fn plan_attention(plan: &mut Plan, name: &str, width: usize) {
    for (part, gain) in [("to_q", 1.0), ("to_k", 1.0), ("to_v", 1.0), ("to_out.0", 0.5)] {
        plan.weight(&format!("{name}.{part}"), &[width, width], gain);
    }
}
