//! The VQ model of an aMUSEd checkpoint: configuration, and every tensor with
//! its name and shape.

use serde::Serialize;

use super::{fill::Fill, plan::Plan};

/// `vqvae/config.json`.
#[derive(Clone, Debug, Serialize)]
pub struct VqModel {
    #[serde(rename = "_class_name")]
    class_name: &'static str,
    act_fn: &'static str,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<&'static str>,
    force_upcast: bool,
    in_channels: usize,
    latent_channels: usize,
    layers_per_block: usize,
    lookup_from_codebook: bool,
    mid_block_add_attention: bool,
    norm_num_groups: usize,
    norm_type: &'static str,
    num_vq_embeddings: usize,
    out_channels: usize,
    sample_size: usize,
    scaling_factor: f64,
    up_block_types: Vec<&'static str>,
    vq_embed_dim: Option<usize>,
}

impl VqModel {
    /// A VQ model whose token covers `2^(blocks - 1)` pixels along each side.
    pub fn new(
        block_out_channels: &[usize],
        latent_channels: usize,
        groups: usize,
        num_vq_embeddings: usize,
    ) -> Self {
        Self {
            class_name: "VQModel",
            act_fn: "silu",
            block_out_channels: block_out_channels.to_vec(),
            down_block_types: vec!["DownEncoderBlock2D"; block_out_channels.len()],
            force_upcast: true,
            in_channels: 3,
            latent_channels,
            layers_per_block: 2,
            lookup_from_codebook: true,
            mid_block_add_attention: false,
            norm_num_groups: groups,
            norm_type: "group",
            num_vq_embeddings,
            out_channels: 3,
            sample_size: 32,
            scaling_factor: 0.18215,
            up_block_types: vec!["UpDecoderBlock2D"; block_out_channels.len()],
            vq_embed_dim: None,
        }
    }

    /// Its tensors.
    pub fn plan(&self) -> Plan {
        let (mut plan, latent) = (Plan::default(), self.latent_channels);
        self.plan_encoder(&mut plan);
        plan.biased("quant_conv", &[latent, latent, 1, 1], 1.0);
        plan.tensor(
            "quantize.embedding.weight",
            &[self.num_vq_embeddings, latent],
            Fill::Random(0.5),
        );
        plan.biased("post_quant_conv", &[latent, latent, 1, 1], 1.0);
        self.plan_decoder(&mut plan);
        plan
    }

    fn plan_encoder(&self, plan: &mut Plan) {
        let blocks = &self.block_out_channels;
        let (mut channels, last) = (blocks[0], blocks.len() - 1);
        plan.biased("encoder.conv_in", &[channels, self.in_channels, 3, 3], 1.0);
        for (index, &out) in blocks.iter().enumerate() {
            let block = format!("encoder.down_blocks.{index}");
            for resnet in 0..self.layers_per_block {
                plan_resnet(plan, &format!("{block}.resnets.{resnet}"), channels, out);
                channels = out;
            }
            if index < last {
                plan.biased(&format!("{block}.downsamplers.0.conv"), &[out, out, 3, 3], 1.0);
            }
        }
        plan_middle(plan, "encoder", channels);
        plan.norm("encoder.conv_norm_out", channels);
        plan.biased("encoder.conv_out", &[self.latent_channels, channels, 3, 3], 1.0);
    }

    fn plan_decoder(&self, plan: &mut Plan) {
        let blocks = &self.block_out_channels;
        let last = blocks.len() - 1;
        let mut channels = blocks[last];
        plan.biased("decoder.conv_in", &[channels, self.latent_channels, 3, 3], 1.0);
        for (index, &out) in blocks.iter().rev().enumerate() {
            let block = format!("decoder.up_blocks.{index}");
            for resnet in 0..=self.layers_per_block {
                plan_resnet(plan, &format!("{block}.resnets.{resnet}"), channels, out);
                channels = out;
            }
            if index < last {
                plan.biased(&format!("{block}.upsamplers.0.conv"), &[out, out, 3, 3], 1.0);
            }
        }
        plan_middle(plan, "decoder", blocks[last]);
        plan.norm("decoder.conv_norm_out", channels);
        plan.weight("decoder.conv_out", &[self.out_channels, channels, 3, 3], 0.3);
        // Pixels lie around grey.
        plan.tensor("decoder.conv_out.bias", &[self.out_channels], Fill::Constant(0.5));
    }
}

fn plan_middle(plan: &mut Plan, coder: &str, channels: usize) {
    for resnet in 0..2 {
        plan_resnet(plan, &format!("{coder}.mid_block.resnets.{resnet}"), channels, channels);
    }
}

fn plan_resnet(plan: &mut Plan, name: &str, channels: usize, out: usize) {
    plan.norm(&format!("{name}.norm1"), channels);
    plan.biased(&format!("{name}.conv1"), &[out, channels, 3, 3], 1.0);
    plan.norm(&format!("{name}.norm2"), out);
    plan.biased(&format!("{name}.conv2"), &[out, out, 3, 3], 0.7);
    if channels != out {
        plan.biased(&format!("{name}.conv_shortcut"), &[out, channels, 1, 1], 1.0);
    }
}
