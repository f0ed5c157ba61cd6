//! The VQ-GAN's decoder: tokens to pixels. What its layers are computed with, floats or integers,
//! is theirs to know.
//!
//! Two exact rewrites. The codebook lookup and the 1 x 1 convolution after it see one id each, so
//! they are one table. A nearest 2 x upsample followed by a 3 x 3 convolution is four 2 x 2
//! convolutions of the small grid, one for each place in a 2 x 2 block of pixels: 2.25 times less
//! work, and no upsampled tensor.

mod float;
mod integer;
mod tile;
mod units;

use pocketmuse_package::{Dim, Dtype, Ranges};

use self::{float::FloatLayers, integer::IntegerLayers};
use super::config::VqConfig;
use crate::{
    builder::{Builder, Conv, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    graph::Graph,
};

/// `tokens` i64 `[1, height, width]` to `pixels` f32 `[1, 3, H, W]`, not clipped.
pub(crate) fn build(config: &VqConfig, weights: &Weights) -> Result<Graph> {
    decode(Builder::new("decoder"), config, weights, |_| FloatLayers {
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

/// The layers of a decoder. An image between layers is of their own type.
trait Layers {
    type Image: Clone;

    /// A 3 x 3 convolution of the tokens' vectors: rows of the table `vectors` `[tokens,
    /// latent_channels]`.
    fn conv_in(
        &self,
        b: &mut Builder,
        tokens: &Value,
        vectors: &Weight,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Self::Image>;

    /// Two convolutions beside a shortcut.
    fn res_block(
        &self,
        b: &mut Builder,
        x: &Self::Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Self::Image>;

    /// Twice the height and width, to `2 << level` pixels along each side of a token.
    fn upsample(
        &self,
        b: &mut Builder,
        x: &Self::Image,
        phases: &Phases,
        level: usize,
    ) -> Result<Self::Image>;

    /// Norm, SiLU and a 3 x 3 convolution: pixels, NCHW.
    fn conv_out(
        &self,
        b: &mut Builder,
        x: &Self::Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Value>;
}

fn decode<L: Layers>(
    mut b: Builder,
    config: &VqConfig,
    weights: &Weights,
    layers: impl FnOnce(&Value) -> L,
) -> Result<Graph> {
    let tokens = b.input("tokens", Dtype::I64, &[1.into(), "height".into(), "width".into()]);
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

/// The four 2 x 2 kernels that an upsample and a convolution are, by row and column in a 2 x 2
/// block of pixels.
struct Phases {
    kernels: [[Weight; 2]; 2],
    bias: Weight,
}

impl Phases {
    fn of(weights: &Weights, channels: usize) -> Result<Self> {
        let kernel = weights.get("conv.weight", &[channels, channels, 3, 3])?;
        let bias = weights.get("conv.bias", &[channels])?;
        Ok(Self {
            kernels: [0, 1].map(|row| [0, 1].map(|column| fold(&kernel, row, column))),
            bias,
        })
    }

    /// What is added around the small grid: pixels at even places look back by one, those at odd
    /// places ahead.
    fn conv(row: usize, column: usize) -> Conv {
        let (row, column) = (row as i64, column as i64);
        Conv { pads: [1 - row, 1 - column, row, column], ..Conv::same(0) }
    }
}

/// The extent of an image with `scale` pixels along each side of a token.
fn side(scale: usize, name: &str) -> Dim {
    if scale == 1 { name.into() } else { Dim::Named(format!("{scale} * {name}")) }
}

/// The 2 x 2 kernel that a 3 x 3 kernel becomes for one place in the 2 x 2 block. Of the three
/// upsampled pixels that a kernel covers along an axis, two are copies of one pixel: the last two
/// at even places, the first two at odd.
fn fold(kernel: &Weight, row: usize, column: usize) -> Weight {
    let (outputs, inputs) = (kernel.shape()[0], kernel.shape()[1]);
    let target = |place: usize, tap: usize| if place == 0 { tap.div_ceil(2) } else { tap / 2 };
    kernel.map(&[outputs, inputs, 2, 2], move |values| {
        let mut folded = vec![0.0; outputs * inputs * 4];
        for (kernel, folded) in values.chunks_exact(9).zip(folded.chunks_exact_mut(4)) {
            for (tap, value) in kernel.iter().enumerate() {
                folded[2 * target(row, tap / 3) + target(column, tap % 3)] += value;
            }
        }
        folded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A convolution of one channel of `size x size` pixels with zeros around, by the definition.
    fn convolve(x: &[f32], size: usize, kernel: &[f32], side: usize, before: isize) -> Vec<f32> {
        let at = |row: isize, column: isize| {
            let inside = (0..size as isize).contains(&row) && (0..size as isize).contains(&column);
            if inside { x[row as usize * size + column as usize] } else { 0.0 }
        };
        let cell = |row: usize, column: usize| -> f32 {
            let taps = (0..side * side).map(|tap| {
                let (down, right) =
                    ((tap / side) as isize - before, (tap % side) as isize - before);
                kernel[tap] * at(row as isize + down, column as isize + right)
            });
            taps.sum()
        };
        (0..size * size).map(|index| cell(index / size, index % size)).collect()
    }

    #[test]
    fn four_small_convolutions_are_an_upsample_and_a_convolution() {
        let kernel: Vec<f32> = (0..9).map(|tap| (tap * tap) as f32 - 7.0).collect();
        let x: Vec<f32> = (0..9).map(|pixel| (pixel * 5 % 7) as f32).collect();
        let large: Vec<f32> = (0..36).map(|pixel| x[pixel / 6 / 2 * 3 + pixel % 6 / 2]).collect();
        let expected = convolve(&large, 6, &kernel, 3, 1);
        let weight = Weight::constant(&[1, 1, 3, 3], kernel);
        for row in 0..2 {
            for column in 0..2 {
                let folded = fold(&weight, row, column).values().expect("memory");
                // Even places look back by one. Odd ones do not; shift the image by looking back
                // and reading ahead.
                for pixel in 0..9 {
                    let tap = |at: usize| {
                        let down = pixel / 3 + at / 2 + row;
                        let right = pixel % 3 + at % 2 + column;
                        let inside = (1..=3).contains(&down) && (1..=3).contains(&right);
                        if inside { folded[at] * x[(down - 1) * 3 + right - 1] } else { 0.0 }
                    };
                    let found: f32 = (0..4).map(tap).sum();
                    let wanted = expected[(2 * (pixel / 3) + row) * 6 + 2 * (pixel % 3) + column];
                    assert_eq!(found, wanted, "place {row} {column}, pixel {pixel}");
                }
            }
        }
    }
}
