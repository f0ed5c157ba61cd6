//! `ModulatedRmsNorm` and `ModulatedLayerNorm`: a norm that is scaled and shifted by branch.
//!
//! | input | |
//! |---|---|
//! | x | f32 `[branches, tokens, width]` |
//! | weight | f32 `[width]` |
//! | epsilon | f32 `[]` |
//! | scale, shift | f32 `[branches, 1, width]` |
//!
//! Makes `x / sqrt(mean(x^2) + epsilon) * weight * scale + shift`, in this order, of x or of x less
//! its mean: what ONNX Runtime makes in three to five passes, up to the order in which numbers are
//! added.

use ort::{Result, operator::ComputeContext};

use super::{
    rows::share,
    values::{input, no_output, optional, wrong},
    wide::{Modulation, modulated_layer_norm, modulated_rms_norm},
};

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

/// `ModulatedRmsNorm`.
pub(super) fn rms(context: &ComputeContext) -> Result<()> {
    compute(context, modulated_rms_norm)
}

/// `ModulatedLayerNorm`.
pub(super) fn layer(context: &ComputeContext) -> Result<()> {
    compute(context, modulated_layer_norm)
}

fn compute(
    context: &ComputeContext,
    normalize: fn(&[f32], Modulation<'_>, &mut [f32]),
) -> Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [branches, tokens, width] = match **shape {
        [branches, tokens, width] if branches.min(tokens).min(width) > 0 => {
            [branches, tokens, width].map(|extent| extent as usize)
        }
        _ => return Err(wrong("values of shape [branches, tokens, width]", shape)),
    };
    let rows = |index: usize, rows: usize| {
        let found = optional::<f32>(context, index)?.unwrap_or_default();
        match found.len() == rows * width {
            true => Ok(found),
            false => Err(wrong(&format!("{rows} rows of {width}"), found.len())),
        }
    };
    let (weight, scale, shift) = (rows(1, 1)?, rows(3, branches)?, rows(4, branches)?);
    let epsilon = match optional::<f32>(context, 2)?.as_deref() {
        Some(&[epsilon]) => epsilon,
        found => return Err(wrong("one epsilon", found)),
    };
    let mut output = context.output(0, [branches, tokens, width])?.ok_or_else(no_output)?;
    let made = output.try_extract_tensor_mut::<f32>()?.1;
    share(context, made, ROWS * width, |part, made| {
        for (row, made) in (part * ROWS..).zip(made.chunks_exact_mut(width)) {
            let branch = row / tokens * width..(row / tokens + 1) * width;
            let (scale, shift) = (&scale[branch.clone()], &shift[branch]);
            let modulation = Modulation { epsilon, weight: &weight, scale, shift };
            normalize(&x[row * width..(row + 1) * width], modulation, made);
        }
    })
}
