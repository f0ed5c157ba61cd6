//! `GatedGelu`: f32 `[..., 2 * width]` becomes `[..., width]`: the first half times the GELU of the
//! second, `x * (erf(x / sqrt(2)) + 1) / 2`.

use ort::{Result, operator::ComputeContext};

use super::{
    rows::share,
    values::{input, no_output, wrong},
    wide::gated_gelu,
};

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

pub(super) fn compute(context: &ComputeContext) -> Result<()> {
    let x = input(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (width, mut extents) = match **shape {
        [ref rows @ .., both] if both > 0 && both % 2 == 0 => ((both / 2) as usize, rows.to_vec()),
        _ => return Err(wrong("two halves", shape)),
    };
    extents.push(width as i64);
    let mut output = context.output(0, extents)?.ok_or_else(no_output)?;
    let made = output.try_extract_tensor_mut::<f32>()?.1;
    share(context, made, ROWS * width, |part, made| {
        let first = part * ROWS * 2 * width;
        let rows = x[first..].chunks_exact(2 * width);
        for (row, made) in rows.zip(made.chunks_exact_mut(width)) {
            gated_gelu(row, made);
        }
    })
}
