//! A tensor that is read when its values are needed: an export of gigabytes holds a few.

use std::{fmt, sync::Arc};

use crate::error::Result;

type Read = dyn Fn() -> Result<Vec<f32>> + Send + Sync;

/// Values in f32 and a shape; the values are read, and rearranged, on each call of
/// [`Weight::values`].
#[derive(Clone)]
pub struct Weight {
    shape: Vec<usize>,
    read: Arc<Read>,
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight {:?}", self.shape)
    }
}

impl Weight {
    /// A weight of `shape`, row-major, whose values `read` returns.
    pub fn new(
        shape: &[usize],
        read: impl Fn() -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> Self {
        Self { shape: shape.to_vec(), read: Arc::new(read) }
    }

    /// Values already in memory, for small things.
    pub fn constant(shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "as many values as the shape {shape:?} holds"
        );
        Self::new(shape, move || Ok(values.clone()))
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Reads the values.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or holds values that are not finite.
    pub fn values(&self) -> Result<Vec<f32>> {
        let values = (self.read)()?;
        debug_assert_eq!(values.len(), self.shape.iter().product::<usize>());
        Ok(values)
    }

    /// The same values in another shape of as many elements.
    pub fn reshape(&self, shape: &[usize]) -> Self {
        let (from, to) = (self.shape.iter().product::<usize>(), shape.iter().product::<usize>());
        assert_eq!(from, to, "a reshape keeps the number of elements");
        Self { shape: shape.to_vec(), read: Arc::clone(&self.read) }
    }

    /// Another weight of `shape`, made of these values when they are read.
    pub fn map(
        &self,
        shape: &[usize],
        change: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        let inner = self.clone();
        Self::new(shape, move || inner.values().map(&change))
    }

    /// Every value multiplied by `factor`.
    pub fn scale(&self, factor: f32) -> Self {
        self.map(&self.shape, move |mut values| {
            values.iter_mut().for_each(|value| *value *= factor);
            values
        })
    }

    /// `[rows, columns]` to `[columns, rows]`: a linear layer's weight as the right side of a
    /// product.
    pub fn transpose(&self) -> Self {
        let &[rows, columns] = self.shape.as_slice() else {
            panic!("a matrix, not {:?}", self.shape)
        };
        self.map(&[columns, rows], move |values| transpose(&values, rows, columns))
    }

    /// The axes in another order: `permute(&[0, 2, 3, 1])` turns OIHW into OHWI.
    pub fn permute(&self, axes: &[usize]) -> Self {
        let (shape, axes) = (self.shape.clone(), axes.to_vec());
        let permuted: Vec<_> = axes.iter().map(|axis| shape[*axis]).collect();
        self.map(&permuted, move |values| {
            let array = ndarray::ArrayD::from_shape_vec(shape.clone(), values)
                .expect("the weight's own shape");
            array.permuted_axes(axes.clone()).iter().copied().collect()
        })
    }

    /// Part number `part` of `parts` along the first axis, all of the same extent.
    pub fn part(&self, part: usize, parts: usize) -> Self {
        assert!(
            part < parts && self.shape[0].is_multiple_of(parts),
            "part {part} of {parts} of {:?}",
            self.shape
        );
        let shape: Vec<_> =
            [self.shape[0] / parts].into_iter().chain(self.shape[1..].iter().copied()).collect();
        let len = shape.iter().product::<usize>();
        self.map(&shape, move |values| values[part * len..][..len].to_vec())
    }

    /// Weights one after the other along the first axis.
    pub fn stack(parts: &[Self]) -> Self {
        let first = parts.first().expect("at least one part").shape.clone();
        let rows = parts.iter().map(|part| part.shape[0]).sum();
        assert!(
            parts.iter().all(|part| part.shape[1..] == first[1..]),
            "parts alike but for their first axis"
        );
        let shape: Vec<_> = std::iter::once(rows).chain(first[1..].iter().copied()).collect();
        let parts = parts.to_vec();
        Self::new(&shape, move || {
            parts.iter().try_fold(Vec::new(), |mut all, part| {
                all.extend(part.values()?);
                Ok(all)
            })
        })
    }
}

/// By square tiles, since a whole column of a large matrix does not fit the cache.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for column in left..columns.min(left + TILE) {
                for row in top..rows.min(top + TILE) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rearranges_when_read() {
        let weight = Weight::constant(&[2, 3], vec![0., 1., 2., 3., 4., 5.]);
        assert_eq!(weight.transpose().values().expect("memory"), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(weight.transpose().shape(), [3, 2]);
        assert_eq!(weight.scale(2.0).values().expect("memory"), [0., 2., 4., 6., 8., 10.]);
        let stacked = Weight::stack(&[weight.clone(), Weight::constant(&[1, 3], vec![6., 7., 8.])]);
        assert_eq!(stacked.shape(), [3, 3]);
        assert_eq!(stacked.values().expect("memory"), [0., 1., 2., 3., 4., 5., 6., 7., 8.]);
        let parts = [0, 1, 2].map(|part| stacked.part(part, 3));
        assert_eq!(parts[1].values().expect("memory"), [3., 4., 5.]);
        assert_eq!(
            Weight::stack(&parts).values().expect("memory"),
            stacked.values().expect("memory")
        );
        let cube = Weight::constant(&[1, 2, 2], vec![0., 1., 2., 3.]).permute(&[2, 0, 1]);
        assert_eq!(
            (cube.shape(), cube.values().expect("memory")),
            ([2, 1, 2].as_slice(), vec![0., 2., 1., 3.])
        );
    }
}
