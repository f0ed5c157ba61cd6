//! Values in units of a scale by channel, and how they pass from one scale to another.

use pocketmuse_package::Dtype;

use crate::{
    builder::{Builder, Step, To, Value},
    checkpoint::Weight,
};

/// An image's units in f32.
pub(super) fn to_f32(b: &mut Builder, x: &Value) -> Value {
    if x.dtype() == Dtype::F32 { x.clone() } else { b.dequantize(x, Step::CENTRED) }
}

/// An image's units in u8.
pub(super) fn to_u8(b: &mut Builder, x: &Value) -> Value {
    if x.dtype() == Dtype::F32 { b.quantize(x, Step::CENTRED) } else { x.clone() }
}

/// A tile in f32, in units of other scales.
pub(super) fn rescale(b: &mut Builder, tile: &Value, scales: &[f32], wanted: &[f32]) -> Value {
    let factors: Vec<f32> =
        scales.iter().zip(wanted).map(|(scale, wanted)| scale / wanted).collect();
    let units = to_f32(b, tile);
    if factors.iter().all(|factor| *factor == 1.0) {
        return units;
    }
    let factors = b.floats(&[factors.len()], &factors);
    b.mul(&units, &factors)
}

/// Of each channel of a tile, `[1, channels]`: the sum of units, the sum of their squares.
pub(super) fn sums(b: &mut Builder, tile: &Value) -> [Value; 2] {
    // Pixel after pixel: ONNX Runtime adds rows of a matrix four times as fast as rows of rows.
    let pixels = b.reshape(tile, &[To::Rest("pixels"), To::Is(tile.extent(3))]);
    let units = to_f32(b, &pixels);
    let squares = b.mul(&units, &units);
    [units, squares].map(|values| b.sum(&values, &[0]))
}

/// A kernel for inputs in units of `scales` by channel.
pub(super) fn kernel_for_units(kernel: &Weight, scales: &[f32]) -> Weight {
    let (shape, scales) = (kernel.shape().to_vec(), scales.to_vec());
    let places: usize = shape[2..].iter().product();
    kernel.map(&shape, move |mut values| {
        for output in values.chunks_exact_mut(places * scales.len()) {
            for (input, scale) in output.chunks_exact_mut(places).zip(&scales) {
                input.iter_mut().for_each(|value| *value *= scale);
            }
        }
        values
    })
}
