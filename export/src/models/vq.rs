//! What the two halves of the VQ-GAN share: the residual block and the norm.

use crate::{
    builder::{Builder, Conv, Value},
    checkpoint::Weights,
    error::Result,
    form::Form,
    layers,
};

/// The eps of every group norm of the VQ-GAN.
pub(super) const EPSILON: f32 = 1e-6;

/// The most multiplications for each token that one node does. A job is stopped between nodes, and
/// with 32 x 32 tokens this many take about a tenth of a second.
const MULTIPLICATIONS: usize = 10_000_000;

/// `silu(group_norm(x))`.
pub(super) fn norm_silu(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    groups: usize,
) -> Result<Value> {
    let normal = layers::group_norm(b, x, weights, name, groups, EPSILON)?;
    Ok(b.silu(&normal))
}

/// Two convolutions beside a shortcut, which is a 1 x 1 convolution where the channels change.
pub(super) fn res_block(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    outputs: usize,
    groups: usize,
) -> Result<Value> {
    let y = norm_silu(b, x, weights, "norm1", groups)?;
    let y = observed_conv(b, &y, weights, "conv1", outputs, 3)?;
    let y = norm_silu(b, &y, weights, "norm2", groups)?;
    let y = observed_conv(b, &y, weights, "conv2", outputs, 3)?;
    let shortcut = if x.extent(1) == outputs {
        x.clone()
    } else {
        observed_conv(b, x, weights, "conv_shortcut", outputs, 1)?
    };
    let sum = b.add(&shortcut, &y);
    b.observe("out", &sum);
    Ok(sum)
}

/// A convolution whose input and output calibration looks at.
fn observed_conv(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    outputs: usize,
    side: usize,
) -> Result<Value> {
    b.observe(&format!("{name}.in"), x);
    let y = match parts(b.form(), x, outputs, side) {
        1 => layers::conv(b, x, weights, name, outputs, side)?,
        parts => conv_in_parts(b, x, weights, name, [outputs, side], parts)?,
    };
    b.observe(&format!("{name}.out"), &y);
    Ok(y)
}

/// In how many parts a convolution is computed, each of whole blocks of 16 channels, as ONNX Runtime
/// computes them.
fn parts(form: Form, x: &Value, outputs: usize, side: usize) -> usize {
    let factor = |axis: usize| x.shape()[axis].multiple().map_or(1, |(factor, _)| factor);
    let all = outputs * x.extent(1) * side * side * factor(2) * factor(3);
    let parts = all.div_ceil(MULTIPLICATIONS).next_power_of_two();
    if form == Form::Cpu && outputs.is_multiple_of(16 * parts) { parts } else { 1 }
}

/// [`layers::conv`] with some of the outputs at a time: the same numbers.
fn conv_in_parts(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    [outputs, side]: [usize; 2],
    parts: usize,
) -> Result<Value> {
    let kernel = weights.get(&format!("{name}.weight"), &[outputs, x.extent(1), side, side])?;
    let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
    let size = [x.shape()[2].clone(), x.shape()[3].clone()];
    let computed: Vec<Value> = (0..parts)
        .map(|part| {
            let [kernel, bias] = [&kernel, &bias].map(|weight| weight.part(part, parts));
            let kernel = b.weight(&format!("{name}.weight.{part}"), &kernel);
            let bias = b.weight(&format!("{name}.bias.{part}"), &bias);
            b.conv(x, &kernel, Some(&bias), Conv::same((side / 2) as i64), size.clone())
        })
        .collect();
    Ok(b.concat(&computed.iter().collect::<Vec<_>>(), 1))
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::{Dim, Dtype};

    use super::*;

    #[test]
    fn what_would_take_long_is_computed_in_parts() {
        let of = |form, channels: usize, scale: usize, outputs, side| {
            let mut b = Builder::new("test");
            let size = |name| Dim::Named(format!("{scale} * {name}"));
            let shape = [1.into(), channels.into(), size("height"), size("width")];
            let x = b.input("x", Dtype::F32, &shape);
            parts(form, &x, outputs, side)
        };
        // The levels of aMUSEd-512's encoder.
        assert_eq!(of(Form::Cpu, 128, 16, 128, 3), 4);
        assert_eq!(of(Form::Cpu, 256, 8, 256, 3), 4);
        assert_eq!(of(Form::Cpu, 128, 8, 256, 3), 2);
        assert_eq!(of(Form::Cpu, 256, 4, 256, 3), 1);
        assert_eq!(of(Form::Cpu, 128, 8, 256, 1), 1);
        // Channels that make no blocks, and what other providers take.
        assert_eq!(of(Form::Cpu, 120, 16, 120, 3), 1);
        assert_eq!(of(Form::Halves, 128, 16, 128, 3), 1);
    }
}
