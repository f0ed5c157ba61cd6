//! The VQ-GAN's decoder: tokens to pixels. What its layers are computed with, floats or integers,
//! is theirs to know.
//!
//! Two exact rewrites. The codebook lookup and the 1 x 1 convolution after it see one id each, so
//! they are one table. A nearest 2 x upsample followed by a 3 x 3 convolution is four 2 x 2
//! convolutions of the small grid, one for each place in a 2 x 2 block of pixels: 2.25 times less
//! work, and no upsampled tensor.

mod float;
mod integer;
mod layers;
mod phases;
mod tile;
mod units;

use pocketmuse_package::Ranges;

use self::{float::FloatLayers, integer::IntegerLayers, layers::Layers, phases::Phases};
use super::config::VqConfig;
use crate::{
    builder::{Builder, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    form::Form,
    graph::Graph,
};

/// `tokens` i64 `[1, height, width]` to `pixels` f32 `[1, 3, H, W]`, not clipped.
pub(crate) fn build(config: &VqConfig, weights: &Weights, form: Form) -> Result<Graph> {
    decode(Builder::of_form("decoder", form), config, weights, |_| FloatLayers {
        groups: config.norm_num_groups,
    })
}

/// The same network, with the ranges of what its convolutions read and write as taps.
pub(crate) fn build_observed(config: &VqConfig, weights: &Weights) -> Result<Graph> {
    decode(Builder::observing("decoder"), config, weights, |_| FloatLayers {
        groups: config.norm_num_groups,
    })
}

/// The same network with convolutions of integers, for values of the measured `ranges`.
pub(crate) fn build_integer(
    config: &VqConfig,
    weights: &Weights,
    ranges: &Ranges,
) -> Result<Graph> {
    decode(Builder::new("decoder"), config, weights, |tokens| IntegerLayers {
        groups: config.norm_num_groups,
        levels: config.block_out_channels.len(),
        ranges,
        tokens: tokens.clone(),
    })
}

fn decode<L: Layers>(
    mut b: Builder,
    config: &VqConfig,
    weights: &Weights,
    layers: impl FnOnce(&Value) -> L,
) -> Result<Graph> {
    let dtype = b.form().token_dtype();
    let tokens = b.input("tokens", dtype, &[1.into(), "height".into(), "width".into()]);
    let layers = layers(&tokens);
    let mut channels = config.block_out_channels.iter().rev();
    let mut width = *channels.next().expect("a checked config has a block");

    let vectors = codebook(config, weights)?;
    let decoder = weights.scope("decoder");
    let mut x = layers.conv_in(&mut b, &tokens, &vectors, &decoder, width)?;
    for index in 0..2 {
        let block = decoder.scope("mid_block.resnets").scope(index);
        x = b.within(format!("mid.{index}"), |b| layers.res_block(b, &x, &block, width))?;
    }
    let blocks = config.block_out_channels.len();
    for index in 0..blocks {
        let block = decoder.scope("up_blocks").scope(index);
        x = b.within(format!("up.{index}"), |b| {
            let x = (0..config.layers_per_block + 1).try_fold(x.clone(), |x, part| {
                b.within(part.to_string(), |b| {
                    layers.res_block(b, &x, &block.scope("resnets").scope(part), width)
                })
            })?;
            if index + 1 == blocks {
                return Ok(x);
            }
            layers.upsample(b, &x, &Phases::of(&block.scope("upsamplers.0"), width)?, index)
        })?;
        width = channels.next().copied().unwrap_or(width);
    }
    let pixels = layers.conv_out(&mut b, &x, &decoder, config.out_channels)?;
    b.output("pixels", &pixels);
    Ok(b.finish())
}

/// The tokens' vectors as the first convolution reads them, `[tokens, latent_channels]`.
pub(crate) fn vectors(config: &VqConfig, weights: &Weights) -> Result<ndarray::Array2<f64>> {
    let table = codebook(config, weights)?;
    let values = table.values()?.into_iter().map(f64::from).collect();
    let shape = (table.shape()[0], table.shape()[1]);
    Ok(ndarray::Array2::from_shape_vec(shape, values).expect("as many values as the shape says"))
}

/// The codebook's vectors after `post_quant_conv`: `[tokens, latent_channels]`.
fn codebook(config: &VqConfig, weights: &Weights) -> Result<Weight> {
    let (width, latent) = (config.vector_width(), config.latent_channels);
    let vectors = weights.get("quantize.embedding.weight", &[config.num_vq_embeddings, width])?;
    let conv =
        weights.get("post_quant_conv.weight", &[latent, width, 1, 1])?.reshape(&[latent, width]);
    let bias = weights.get("post_quant_conv.bias", &[latent])?;
    Ok(affine_rows(&vectors, &conv, &bias))
}

/// `rows conv^T + bias`.
fn affine_rows(rows: &Weight, conv: &Weight, bias: &Weight) -> Weight {
    let (count, inner, outputs) = (rows.shape()[0], rows.shape()[1], conv.shape()[0]);
    let (rows, conv, bias) = (rows.clone(), conv.clone(), bias.clone());
    Weight::new(&[count, outputs], move || {
        let matrix = |rows, values| {
            ndarray::Array2::from_shape_vec((rows, inner), values).expect("rows of one width")
        };
        let product = matrix(count, rows.values()?).dot(&matrix(outputs, conv.values()?).t());
        let sum = product + ndarray::Array1::from(bias.values()?);
        Ok(sum.iter().copied().collect())
    })
}
