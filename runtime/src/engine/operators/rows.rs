//! Rows of an image: which are read, which are added around them, and how they are shared among
//! threads.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use ort::{Result, operator::ComputeContext};

use super::values::{optional, wrong};

/// The extents of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Extents {
    /// Those of a shape `[1, height, width, channels]`, of which none is 0.
    pub(super) fn of(shape: &[i64]) -> Result<Self> {
        let extents: Option<Vec<usize>> =
            shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
        match extents.as_deref() {
            Some(&[1, height, width, channels]) if height.min(width).min(channels) > 0 => {
                Ok(Self { height, width, channels })
            }
            _ => Err(wrong("an image of shape [1, height, width, channels]", shape)),
        }
    }

    /// Bytes of a row.
    pub(super) fn row(self) -> usize {
        self.width * self.channels // as many lie in memory
    }

    /// The shape with another height.
    pub(super) fn shape(self, height: usize) -> Vec<usize> {
        vec![1, height, self.width, self.channels]
    }

    /// The rows from the input `first` to before the one behind it, as `Slice` takes them but not
    /// counted from the end; all where there are none.
    pub(super) fn slice(self, context: &ComputeContext, first: usize) -> Result<Range<usize>> {
        let [start, end] = [first, first + 1].map(|index| optional::<i64>(context, index));
        let at = |found: Option<Vec<i64>>, all: usize| match found.as_deref() {
            None => Ok(all),
            Some(&[at]) => usize::try_from(at)
                .map(|at| at.min(self.height))
                .map_err(|_| wrong("a row of an image", at)),
            Some(other) => Err(wrong("one row of an image", other)),
        };
        let (start, end) = (at(start?, 0)?, at(end?, self.height)?);
        Ok(start..end.max(start))
    }
}

/// Has ONNX Runtime's threads call `make` with each part of `image`, of `length` or what is left,
/// and its number.
pub(super) fn share<T: Send>(
    context: &ComputeContext,
    image: &mut [T],
    length: usize,
    make: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Result<()> {
    let parts: Vec<_> = image.chunks_mut(length.max(1)).map(Mutex::new).collect();
    context.par_for(parts.len(), 0, |index| {
        if let Some(part) = parts.get(index) {
            make(index, &mut part.lock().unwrap_or_else(PoisonError::into_inner));
        }
    })
}
