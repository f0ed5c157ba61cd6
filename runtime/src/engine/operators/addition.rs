//! `ScaledAddition`: the sum of two images whose channels have scales, in units of a third.
//!
//! | input | |
//! |---|---|
//! | one, other | u8 `[1, height, width, channels]`, 128 for 0 |
//! | factors | f32 `[channels]` for each, or none for 1: what a unit of it is in units of the sum |
//! | start, end | i64 `[1]`, or neither: the rows of the other that are read |
//!
//! The sum is f32, rounded to the nearest even unit and clipped: as `DequantizeLinear`, `Mul`,
//! `Add` and `QuantizeLinear` do it, to the bit.

use ort::{Result, operator::ComputeContext};

use super::{
    rows::{Extents, share},
    values::{input, no_output, optional, wrong},
    wide::add,
};

pub(super) fn compute(context: &ComputeContext) -> Result<()> {
    let (one, other) = (input(context, 0)?, input(context, 1)?);
    let ((shape, one), (other_shape, other)) =
        (one.try_extract_tensor::<u8>()?, other.try_extract_tensor::<u8>()?);
    let (extents, others) = (Extents::of(shape)?, Extents::of(other_shape)?);
    let rows = others.slice(context, 4)?;
    if (Extents { height: rows.len(), ..others }) != extents {
        return Err(wrong(&format!("an image like {extents:?}"), (others, rows)));
    }
    let [one_factors, other_factors] = [2, 3].map(|index| factors(context, index, extents));
    let factors = [one_factors?, other_factors?];
    let row = extents.row();
    let other = &other[rows.start * row..rows.end * row];
    let mut output = context.output(0, extents.shape(extents.height))?.ok_or_else(no_output)?;
    share(context, output.try_extract_tensor_mut::<u8>()?.1, row, |index, made| {
        let at = index * row..(index + 1) * row; // as many rows as the output has
        add([&one[at.clone()], &other[at]], [&factors[0], &factors[1]], made);
    })
}

fn factors(context: &ComputeContext, index: usize, extents: Extents) -> Result<Vec<f32>> {
    let factors = optional::<f32>(context, index)?;
    let factors = factors.unwrap_or_else(|| vec![1.0; extents.channels]);
    match factors.len() == extents.channels {
        true => Ok(factors),
        false => Err(wrong(&format!("{} factors", extents.channels), factors.len())),
    }
}
