//! The building blocks the networks share: linear, convolution, norm, attention. Knows no network.

use pocketmuse_package::Dim;

use crate::{
    builder::{Builder, Conv, To, Value},
    checkpoint::{Weight, Weights},
    error::Result,
};

/// `x W^T`, without bias; the checkpoint's weight is `[outputs, inputs]`.
pub(crate) fn linear(b: &mut Builder, x: &Value, weights: &Weights, name: &str, outputs: usize) -> Result<Value> {
    let weight = weights.get(&format!("{name}.weight"), &[outputs, x.extent(-1)])?;
    Ok(product(b, x, name, &weight))
}

/// `x W^T + bias`.
pub(crate) fn linear_bias(b: &mut Builder, x: &Value, weights: &Weights, name: &str, outputs: usize) -> Result<Value> {
    let product = linear(b, x, weights, name, outputs)?;
    let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
    let bias = b.weight(&format!("{name}.bias"), &bias);
    Ok(b.add(&product, &bias))
}

/// `x W^T` for a weight `[outputs, inputs]` at hand.
pub(crate) fn product(b: &mut Builder, x: &Value, name: &str, weight: &Weight) -> Value {
    let weight = b.weight(&format!("{name}.weight"), &weight.transpose());
    b.matmul(x, &weight)
}

/// `x / sqrt(mean(x^2) + epsilon) * weight` over the last axis.
///
/// Written as the operators that ONNX Runtime fuses into one.
pub(crate) fn rms_norm(b: &mut Builder, x: &Value, weights: &Weights, name: &str, epsilon: f32) -> Result<Value> {
    let weight = weights.get(&format!("{name}.weight"), &[x.extent(-1)])?;
    let weight = b.weight(&format!("{name}.weight"), &weight);
    let (two, epsilon) = (b.scalar(2.0), b.scalar(epsilon));
    let square = b.pow(x, &two);
    let mean = b.mean(&square, &[-1]);
    let shifted = b.add(&mean, &epsilon);
    let root = b.sqrt(&shifted);
    let normal = b.div(x, &root);
    Ok(b.mul(&normal, &weight))
}

/// The layer norm with a weight, and with a bias if `bias`.
pub(crate) fn layer_norm(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    bias: bool,
    epsilon: f32,
) -> Result<Value> {
    let width = x.extent(-1);
    let weight = weights.get(&format!("{name}.weight"), &[width])?;
    let weight = b.weight(&format!("{name}.weight"), &weight);
    let bias = if bias { Some(weights.get(&format!("{name}.bias"), &[width])?) } else { None };
    let bias = bias.map(|bias| b.weight(&format!("{name}.bias"), &bias));
    Ok(b.layer_norm(x, &weight, bias.as_ref(), epsilon))
}

/// The group norm of `[n, c, h, w]`, with weight and bias by channel.
pub(crate) fn group_norm(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    groups: usize,
    epsilon: f32,
) -> Result<Value> {
    let channels = x.extent(1);
    let mut by_channel = |part: &str| {
        let weight = weights.get(&format!("{name}.{part}"), &[channels])?;
        Ok(b.weight(&format!("{name}.{part}"), &weight.reshape(&[1, channels, 1, 1])))
    };
    let (weight, bias) = (by_channel("weight")?, by_channel("bias")?);
    let (ones, zeros) = (b.floats(&[groups], &vec![1.0; groups]), b.floats(&[groups], &vec![0.0; groups]));
    let grouped = b.reshape(x, &[To::Keep, To::Is(groups), To::Rest("group")]);
    let normal = b.instance_norm(&grouped, &ones, &zeros, epsilon);
    let shape = b.shape_of(x, 0, 4);
    let normal = b.reshape_to(&normal, &shape, x.shape());
    let scaled = b.mul(&normal, &weight);
    Ok(b.add(&scaled, &bias))
}

/// A `kernel x kernel` convolution with bias that keeps height and width.
pub(crate) fn conv(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    outputs: usize,
    kernel: usize,
) -> Result<Value> {
    let size = [x.shape()[2].clone(), x.shape()[3].clone()];
    conv_with(b, x, weights, name, outputs, kernel, Conv::same((kernel / 2) as i64), size)
}

/// A convolution with bias that moves as `conv` says; `size` names the height and width that come out.
#[expect(clippy::too_many_arguments, reason = "a convolution is all of these")]
pub(crate) fn conv_with(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    outputs: usize,
    kernel: usize,
    conv: Conv,
    size: [Dim; 2],
) -> Result<Value> {
    let weight = weights.get(&format!("{name}.weight"), &[outputs, x.extent(1), kernel, kernel])?;
    let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
    let (weight, bias) = (b.weight(&format!("{name}.weight"), &weight), b.weight(&format!("{name}.bias"), &bias));
    Ok(b.conv(x, &weight, Some(&bias), conv, size))
}

/// `[n, l, heads * d]` to `[n, heads, l, d]`.
pub(crate) fn split_heads(b: &mut Builder, x: &Value, heads: usize) -> Value {
    let width = x.extent(-1) / heads;
    let apart = b.reshape(x, &[To::Keep, To::Keep, To::Is(heads), To::Is(width)]);
    b.transpose(&apart, &[0, 2, 1, 3])
}

/// `[n, l, heads * d]` to `[n, heads, d, l]`: keys, ready to be the right side of a product.
pub(crate) fn split_heads_transposed(b: &mut Builder, x: &Value, heads: usize) -> Value {
    let width = x.extent(-1) / heads;
    let apart = b.reshape(x, &[To::Keep, To::Keep, To::Is(heads), To::Is(width)]);
    b.transpose(&apart, &[0, 2, 3, 1])
}

/// `softmax(query key + mask) value`, heads joined: `[n, l, heads * d]`.
///
/// `query` `[n, heads, l, d]`, already scaled; `key` `[n, heads, d, m]`; `value` `[n, heads, m, d]`.
pub(crate) fn attention(b: &mut Builder, query: &Value, key: &Value, value: &Value, mask: Option<&Value>) -> Value {
    let mut scores = b.matmul(query, key);
    if let Some(mask) = mask {
        scores = b.add(&scores, mask);
    }
    let weights = b.softmax(&scores);
    let mixed = b.matmul(&weights, value);
    let joined = b.transpose(&mixed, &[0, 2, 1, 3]);
    let width = mixed.extent(1) * mixed.extent(3);
    b.reshape(&joined, &[To::Keep, To::Keep, To::Is(width)])
}

/// What a query projection is multiplied by, folded into its weight: `1 / sqrt(width of a head)`.
pub(crate) fn query_scale(width: usize, heads: usize) -> f32 {
    ((width / heads) as f32).sqrt().recip()
}
