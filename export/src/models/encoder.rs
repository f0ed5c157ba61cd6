//! The VQ-GAN's encoder: pixels to the tokens of the nearest vectors. Only editing needs it.

use pocketmuse_package::{Dim, Dtype};

use super::{config::VqConfig, vq};
use crate::{
    builder::{Builder, Conv, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    form::Form,
    graph::Graph,
    layers,
};

/// `pixels` f32 `[1, 3, H, W]` in 0..=1 to `tokens` i64 `[1, height, width]`.
pub(crate) fn build(config: &VqConfig, weights: &Weights, form: Form) -> Result<Graph> {
    let mut b = Builder::of_form("encoder", form);
    let scale = config.pixels_per_token();
    let pixels = b.input(
        "pixels",
        Dtype::F32,
        &[1.into(), 3.into(), size("height", scale), size("width", scale)],
    );
    let encoder = weights.scope("encoder");
    let groups = config.norm_num_groups;
    let blocks = config.block_out_channels.len();

    let mut x =
        layers::conv(&mut b, &pixels, &encoder, "conv_in", config.block_out_channels[0], 3)?;
    for (index, width) in config.block_out_channels.iter().copied().enumerate() {
        let block = encoder.scope("down_blocks").scope(index);
        x = b.within(format!("down.{index}"), |b| {
            let x = (0..config.layers_per_block).try_fold(x.clone(), |x, part| {
                b.within(part.to_string(), |b| {
                    vq::res_block(b, &x, &block.scope("resnets").scope(part), width, groups)
                })
            })?;
            let left = scale >> (index + 1);
            if index + 1 == blocks { Ok(x) } else { downsample(b, &x, &block, width, left) }
        })?;
    }
    let width = x.extent(1);
    for index in 0..2 {
        let block = encoder.scope("mid_block.resnets").scope(index);
        x = b.within(format!("mid.{index}"), |b| vq::res_block(b, &x, &block, width, groups))?;
    }
    let x = vq::norm_silu(&mut b, &x, &encoder, "conv_norm_out", groups)?;
    let x = layers::conv(&mut b, &x, &encoder, "conv_out", config.latent_channels, 3)?;
    let latents = layers::conv(&mut b, &x, weights, "quant_conv", config.vector_width(), 1)?;
    b.tap("encode.latents", &latents);
    let tokens = nearest(&mut b, &latents, config, weights)?;
    b.output("tokens", &tokens);
    Ok(b.finish())
}

/// Half the height and width. The reference pads at the right and at the bottom alone.
fn downsample(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    width: usize,
    scale: usize,
) -> Result<Value> {
    let conv = Conv { pads: [0, 0, 1, 1], stride: 2, group: 1 };
    let halved = [size("height", scale), size("width", scale)];
    layers::conv_with(b, x, &weights.scope("downsamplers.0"), "conv", width, 3, conv, halved)
}

/// Tokens by Euclidean distance: the smallest `|vector|^2 - 2 vector x`, since `|x|^2` is the same
/// for all. Not every provider finds the smallest, so the portable form finds the largest of the
/// negatives.
fn nearest(
    b: &mut Builder,
    latents: &Value,
    config: &VqConfig,
    weights: &Weights,
) -> Result<Value> {
    let form = b.form();
    let (count, width) = (config.num_vq_embeddings, config.vector_width());
    let vectors = weights.get("quantize.embedding.weight", &[count, width])?;
    let lengths = squared_lengths(&vectors);
    let pixels = b.transpose(latents, &[0, 2, 3, 1]); // NCHW => NHWC
    let sign = if form.is_portable() { -1.0 } else { 1.0 };
    let products = layers::product(b, &pixels, "codes", &vectors.scale(-2.0 * sign));
    let lengths = b.weight("codes.squared_lengths", &lengths.scale(sign));
    let distances = b.add(&products, &lengths);
    let [height, width] = [latents.shape()[2].clone(), latents.shape()[3].clone()];
    let nearest = match form {
        Form::Cpu => b.argmin(&distances),
        Form::Halves | Form::Integers => b.argmax(&distances),
    };
    debug_assert_eq!(nearest.shape(), [Dim::Fixed(1), height, width]);
    Ok(nearest)
}

fn squared_lengths(vectors: &Weight) -> Weight {
    let (count, width) = (vectors.shape()[0], vectors.shape()[1]);
    vectors.map(&[count], move |values| {
        let square = |vector: &[f32]| {
            vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() as f32
        };
        values.chunks_exact(width).map(square).collect()
    })
}

/// The name of a side in pixels, `scale` of them to a token.
fn size(side: &str, scale: usize) -> Dim {
    if scale == 1 { side.into() } else { Dim::Named(format!("{scale} * {side}")) }
}
