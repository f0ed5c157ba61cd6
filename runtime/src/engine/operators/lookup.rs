//! `Lookup`: a table for each channel. With it go a `Slice` of rows before, and a `Pad` of rows
//! after. `LookupFloats`: the same to floats, channels first.
//!
//! | input | |
//! |---|---|
//! | image | u8 `[1, height, width, channels]` |
//! | table | u8 or f32 `[channels, 256]`: what each byte of a channel becomes |
//! | start, end | i64 `[1]`, or neither: the rows that are read |
//! | pads, fill | i64 `[8]` and u8 or f32 `[]`, or neither: rows above and below, as `Pad` adds |

use std::fmt;

use ort::{
    Result,
    operator::ComputeContext,
    value::{DynValue, PrimitiveTensorElementType},
};

use super::{
    rows::{Extents, share},
    values::{input, no_output, optional, wrong},
};

/// What a byte can be.
const BYTES: usize = 256;

/// Channels that a thread takes at a time, where channels come first.
const CHANNELS: usize = 32;

/// Pixels of a row that stay in the nearest cache while they are read channel by channel.
const PIXELS: usize = 16;

/// `Lookup`: u8 `[1, rows, width, channels]`.
pub(super) fn bytes(context: &ComputeContext) -> Result<()> {
    let (image, table) = (input(context, 0)?, input(context, 1)?);
    let at = Place::<u8>::of(context, &image)?;
    let (tables, row) = (at.tables(&table)?, at.extents.row());
    let mut output = context.output(0, at.extents.shape(at.height))?.ok_or_else(no_output)?;
    share(context, output.try_extract_tensor_mut::<u8>()?.1, row, |index, made| {
        match at.row(index) {
            Some(source) => look_up(source, tables, made),
            None => made.fill(at.fill),
        }
    })
}

/// `LookupFloats`: f32 `[1, channels, rows, width]`.
pub(super) fn floats(context: &ComputeContext) -> Result<()> {
    let (image, table) = (input(context, 0)?, input(context, 1)?);
    let at = Place::<f32>::of(context, &image)?;
    let tables = at.tables(&table)?;
    let Extents { width, channels, .. } = at.extents;
    let mut output = context.output(0, [1, channels, at.height, width])?.ok_or_else(no_output)?;
    let plane = at.height * width; // as many lie in memory
    share(context, output.try_extract_tensor_mut::<f32>()?.1, CHANNELS * plane, |part, planes| {
        let first = part * CHANNELS;
        let tables = tables.get(first..).unwrap_or_default();
        for row in 0..at.height {
            let made = row * width..(row + 1) * width;
            let Some(source) = at.row(row) else {
                let rows = planes.chunks_exact_mut(plane);
                rows.for_each(|plane| plane[made.clone()].fill(at.fill));
                continue;
            };
            for (block, source) in source.chunks(PIXELS * channels).enumerate() {
                let made = made.start + block * PIXELS..;
                for (at, (plane, table)) in planes.chunks_exact_mut(plane).zip(tables).enumerate() {
                    let pixels = source.iter().skip(first + at).step_by(channels);
                    for (made, byte) in plane[made.clone()].iter_mut().zip(pixels) {
                        *made = table[usize::from(*byte)];
                    }
                }
            }
        }
    })
}

/// What is read, and the rows that are made of it.
struct Place<'a, T> {
    extents: Extents,
    /// The rows that are read.
    source: &'a [u8],
    /// How many are made, and how many of them are before those that are read.
    height: usize,
    above: usize,
    fill: T,
}

impl<'a, T: PrimitiveTensorElementType + Copy + Default + fmt::Debug> Place<'a, T> {
    fn of(context: &ComputeContext, image: &'a DynValue) -> Result<Self> {
        let (shape, image) = image.try_extract_tensor::<u8>()?;
        let extents = Extents::of(shape)?;
        let (rows, row) = (extents.slice(context, 2)?, extents.row());
        let (above, below, fill) = added(context)?;
        let height = [above, below].iter().try_fold(rows.len(), |sum, rows| sum.checked_add(*rows));
        let height = height.ok_or_else(|| wrong("an image that fits in memory", (above, below)))?;
        let source = &image[rows.start * row..rows.end * row];
        Ok(Self { extents, source, height, above, fill })
    }

    /// The row that is read for row `index` of what is made; `None` for one that is added.
    fn row(&self, index: usize) -> Option<&'a [u8]> {
        let start = index.checked_sub(self.above)?.checked_mul(self.extents.row())?;
        self.source.get(start..start + self.extents.row())
    }

    /// One table for each channel.
    fn tables<'t>(&self, table: &'t DynValue) -> Result<&'t [[T; BYTES]]> {
        let (_, table) = table.try_extract_tensor::<T>()?;
        match table.as_chunks::<BYTES>() {
            (tables, []) if tables.len() == self.extents.channels => Ok(tables),
            _ => Err(wrong(&format!("{} tables of 256", self.extents.channels), table.len())),
        }
    }
}

/// How many rows are added above and below, and of what.
fn added<T>(context: &ComputeContext) -> Result<(usize, usize, T)>
where
    T: PrimitiveTensorElementType + Copy + Default + fmt::Debug,
{
    let (pads, fill) = (optional::<i64>(context, 4)?, optional::<T>(context, 5)?);
    match (pads.as_deref(), fill.as_deref()) {
        (None, None) => Ok((0, 0, T::default())),
        (Some(&[0, above, 0, 0, 0, below, 0, 0]), Some(&[fill])) if above.min(below) >= 0 => {
            Ok((above as usize, below as usize, fill))
        }
        found => Err(wrong("rows above and below, of one value", found)),
    }
}

/// Pixels of a row, each byte as the table of its channel has it.
fn look_up(source: &[u8], tables: &[[u8; BYTES]], made: &mut [u8]) {
    let pixels = source.chunks_exact(tables.len()).zip(made.chunks_exact_mut(tables.len()));
    for (source, made) in pixels {
        for ((source, made), table) in source.iter().zip(made).zip(tables) {
            *made = table[usize::from(*source)];
        }
    }
}
