//! What the two halves of the VQ-GAN share: the residual block and the norm.

use crate::{
    builder::{Builder, Value},
    checkpoint::Weights,
    error::Result,
    layers,
};

/// The eps of every group norm of the VQ-GAN.
pub(super) const EPSILON: f32 = 1e-6;

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
    let y = layers::conv(b, x, weights, name, outputs, side)?;
    b.observe(&format!("{name}.out"), &y);
    Ok(y)
}
