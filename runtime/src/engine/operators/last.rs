//! `LastRows`: rows of an image that are read for the last time. The memory of those above goes
//! back to the system.
//!
//! | input | |
//! |---|---|
//! | image | u8 `[1, height, width, channels]` |
//! | start, end | i64 `[1]`, or neither: the rows that are read |
//!
//! The rows are as `Slice` gives them. Whoever asks for a row above one that was asked for before
//! gets an error if it is gone.

use ort::{Result, operator::ComputeContext};

use super::{
    rows::{Extents, share},
    values::{input, no_output, wrong},
};
use crate::engine::apart;

pub(super) fn compute(context: &ComputeContext) -> Result<()> {
    let image = input(context, 0)?;
    let (shape, image) = image.try_extract_tensor::<u8>()?;
    let extents = Extents::of(shape)?;
    let (rows, row) = (extents.slice(context, 1)?, extents.row());
    if !apart::leave_before(image.as_ptr(), rows.start * row) {
        return Err(wrong("rows that are there still", rows));
    }
    let source = &image[rows.start * row..rows.end * row];
    let mut output = context.output(0, extents.shape(rows.len()))?.ok_or_else(no_output)?;
    share(context, output.try_extract_tensor_mut::<u8>()?.1, row, |index, made| {
        made.copy_from_slice(&source[index * row..(index + 1) * row]); // as many rows as it has
    })
}
