//! The building blocks the networks share: linear, convolution, norm, attention. Knows no network.

use pocketmuse_package::{Dim, Dtype};

use crate::{
    builder::{Builder, Conv, To, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    form::Form,
};

/// `x W^T`, without bias; the checkpoint's weight is `[outputs, inputs]`.
pub(crate) fn linear(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    outputs: usize,
) -> Result<Value> {
    let weight = weights.get(&format!("{name}.weight"), &[outputs, x.extent(-1)])?;
    Ok(product(b, x, name, &weight))
}

/// `x W^T + bias`.
pub(crate) fn linear_bias(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    outputs: usize,
) -> Result<Value> {
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
/// Written as the operators that ONNX Runtime's CPU provider fuses into one; for halves as a layer
/// norm of the values and their negatives: their mean is 0 and their variance the mean of squares,
/// which no half has to hold; for integers as one operator, whose inner values need no ranges.
pub(crate) fn rms_norm(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    epsilon: f32,
) -> Result<Value> {
    let width = x.extent(-1);
    let weight = weights.get(&format!("{name}.weight"), &[width])?;
    if b.form() == Form::Halves {
        let twice = Weight::stack(&[weight.clone(), weight]);
        let minus = b.scalar(-1.0);
        let negatives = b.mul(x, &minus);
        let both = b.concat(&[x, &negatives], x.shape().len() - 1);
        let both = unbiased_norm(b, &both, &format!("{name}.weight"), &twice, epsilon);
        return Ok(b.split(&both, 2).swap_remove(0));
    }
    let weight = b.weight(&format!("{name}.weight"), &weight);
    if b.form() == Form::Integers {
        return Ok(b.rms_norm(x, &weight, epsilon));
    }
    let (two, epsilon) = (b.scalar(2.0), b.scalar(epsilon));
    let square = b.pow(x, &two);
    let mean = b.mean(&square, &[-1]);
    let shifted = b.add(&mean, &epsilon);
    let root = b.sqrt(&shifted);
    let normal = b.div(x, &root);
    Ok(b.mul(&normal, &weight))
}

/// The layer norm with a weight and a bias.
pub(crate) fn layer_norm(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    epsilon: f32,
) -> Result<Value> {
    let width = x.extent(-1);
    let weight = weights.get(&format!("{name}.weight"), &[width])?;
    let bias = weights.get(&format!("{name}.bias"), &[width])?;
    let (weight, bias) =
        (b.weight(&format!("{name}.weight"), &weight), b.weight(&format!("{name}.bias"), &bias));
    Ok(b.layer_norm(x, &weight, &bias, epsilon))
}

/// The layer norm with a weight alone: the RMS norm of what is left when the mean is taken away.
pub(crate) fn centred_norm(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    epsilon: f32,
) -> Result<Value> {
    if b.form() == Form::Halves {
        let name = format!("{name}.weight");
        let weight = weights.get(&name, &[x.extent(-1)])?;
        return Ok(unbiased_norm(b, x, &name, &weight, epsilon));
    }
    let mean = b.mean(x, &[-1]);
    let centred = b.sub(x, &mean);
    rms_norm(b, &centred, weights, name, epsilon)
}

/// The layer norm with a weight alone, as one operator.
fn unbiased_norm(b: &mut Builder, x: &Value, name: &str, weight: &Weight, epsilon: f32) -> Value {
    let (weight, zeros) = (b.weight(name, weight), vec![0.0; x.extent(-1)]);
    let zeros = b.floats(&[zeros.len()], &zeros);
    b.layer_norm(x, &weight, &zeros, epsilon)
}

/// The group norm of one image `[1, c, h, w]`, with weight and bias by channel.
///
/// On the CPU the statistics are sums of sums, row by row first: a flat sum over millions of values
/// loses digits. They become one scale and one shift by channel, so the image itself is read twice
/// and written once. In halves these sums would be wrong, and the norm of each group is an operator.
pub(crate) fn group_norm(
    b: &mut Builder,
    x: &Value,
    weights: &Weights,
    name: &str,
    groups: usize,
    epsilon: f32,
) -> Result<Value> {
    let channels = x.extent(1);
    let by_channel = match b.form() {
        Form::Cpu => vec![groups, channels / groups],
        Form::Halves | Form::Integers => vec![1, channels, 1, 1],
    };
    let mut by_channel = |part: &str| {
        let weight = weights.get(&format!("{name}.{part}"), &[channels])?;
        Ok(b.weight(&format!("{name}.{part}"), &weight.reshape(&by_channel)))
    };
    let (weight, bias) = (by_channel("weight")?, by_channel("bias")?);
    if b.form().is_portable() {
        let rest = To::Rest("rows of a group");
        let apart = b.reshape(x, &[To::Keep, To::Is(groups), rest, To::Keep]);
        let normal = b.instance_norm(&apart, epsilon);
        let target = b.ints(&[0, channels as i64, -1, 0]);
        let normal = b.reshape_to(&normal, &target, x.shape());
        let scaled = b.mul(&normal, &weight);
        return Ok(b.add(&scaled, &bias));
    }
    let (mean, square) = (group_mean(b, x, groups), group_mean_of_squares(b, x, groups));
    let (scale, shift) = norm_by_group(b, &mean, &square, &weight, &bias, epsilon);
    let (scale, shift) =
        (b.reshape(&scale, &[To::Is(channels)]), b.reshape(&shift, &[To::Is(channels)]));
    Ok(b.affine_by_channel(x, &scale, &shift))
}

/// The scale and the shift of a group norm, `[groups, channels of a group]` as `weight` and `bias`
/// are, from each group's mean and mean of squares, `[groups, 1]`.
pub(crate) fn norm_by_group(
    b: &mut Builder,
    mean: &Value,
    square: &Value,
    weight: &Value,
    bias: &Value,
    epsilon: f32,
) -> (Value, Value) {
    let squared_mean = b.mul(mean, mean);
    let variance = b.sub(square, &squared_mean);
    let epsilon = b.scalar(epsilon);
    let shifted = b.add(&variance, &epsilon);
    let deviation = b.sqrt(&shifted);
    let scale = b.div(weight, &deviation);
    let moved = b.mul(mean, &scale);
    let shift = b.sub(bias, &moved);
    (scale, shift)
}

/// The mean of each group, `[groups, 1]`.
fn group_mean(b: &mut Builder, x: &Value, groups: usize) -> Value {
    let rows = b.mean(x, &[-1]);
    mean_of_rows(b, &rows, groups)
}

/// The mean of each group's squares, `[groups, 1]`.
fn group_mean_of_squares(b: &mut Builder, x: &Value, groups: usize) -> Value {
    let rows = b.sum_of_squares(x, &[-1]);
    let width = b.shape_of(x, 3, 4);
    let width = b.cast(&width, Dtype::F32);
    let rows = b.div(&rows, &width);
    mean_of_rows(b, &rows, groups)
}

/// `[1, c, h, 1]`, a number for each row of pixels, to `[groups, 1]`.
fn mean_of_rows(b: &mut Builder, rows: &Value, groups: usize) -> Value {
    let rows = b.reshape(rows, &[To::Is(groups), To::Rest("rows of a group")]);
    b.mean(&rows, &[-1])
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

/// A convolution with bias that moves as `conv` says; `size` names the height and width that come
/// out.
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
    let (weight, bias) =
        (b.weight(&format!("{name}.weight"), &weight), b.weight(&format!("{name}.bias"), &bias));
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
/// `query` `[n, heads, l, d]`, already scaled; `key` `[n, heads, d, m]`; `value` `[n, heads, m,
/// d]`.
pub(crate) fn attention(
    b: &mut Builder,
    query: &Value,
    key: &Value,
    value: &Value,
    mask: Option<&Value>,
) -> Value {
    let weights = attention_weights(b, query, key, mask);
    mix_values(b, &weights, value)
}

/// The half of [`attention`] before the values, `[n, heads, l, m]`: the last axis sums to 1.
pub(crate) fn attention_weights(
    b: &mut Builder,
    query: &Value,
    key: &Value,
    mask: Option<&Value>,
) -> Value {
    let mut scores = b.matmul(query, key);
    if let Some(mask) = mask {
        scores = b.add(&scores, mask);
    }
    b.softmax(&scores)
}

/// The half of [`attention`] after its weights.
pub(crate) fn mix_values(b: &mut Builder, weights: &Value, value: &Value) -> Value {
    let mixed = b.matmul(weights, value);
    let joined = b.transpose(&mixed, &[0, 2, 1, 3]);
    let width = mixed.extent(1) * mixed.extent(3);
    b.reshape(&joined, &[To::Keep, To::Keep, To::Is(width)])
}

/// What a query projection is multiplied by, folded into its weight: `1 / sqrt(width of a head)`.
pub(crate) fn query_scale(width: usize, heads: usize) -> f32 {
    ((width / heads) as f32).sqrt().recip()
}
