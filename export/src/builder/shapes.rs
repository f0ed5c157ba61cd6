//! Shapes: operators that move values about, and what shapes they make.

use pocketmuse_package::{Dim, Dtype};

use super::{Builder, Value};
use crate::graph::Attribute;

/// One extent of a reshaped value.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// As before at the same axis.
    Keep,
    /// This number.
    Is(usize),
    /// What is left, under a name if it cannot be known.
    Rest(&'static str),
}

impl Builder {
    /// The axes in another order.
    #[track_caller]
    pub fn transpose(&mut self, x: &Value, axes: &[usize]) -> Value {
        assert_eq!(axes.len(), x.shape.len(), "transpose of {}", x.name);
        let shape = axes.iter().map(|axis| x.shape[*axis].clone()).collect();
        let perm = axes.iter().map(|axis| *axis as i64).collect();
        self.node("Transpose", &[x], (x.dtype, shape), vec![("perm", Attribute::Ints(perm))])
    }

    /// The same elements in another shape.
    #[track_caller]
    pub fn reshape(&mut self, x: &Value, to: &[To]) -> Value {
        let kept = |axis: usize| {
            x.shape.get(axis).unwrap_or_else(|| panic!("axis {axis} of {}", x.name)).clone()
        };
        let shape = shape_of_reshape(&x.shape, to);
        let target: Vec<i64> = to
            .iter()
            .enumerate()
            .map(|(axis, to)| match to {
                To::Keep => matches!(kept(axis), Dim::Named(_))
                    .then_some(0)
                    .unwrap_or_else(|| x.extent(axis as isize) as i64),
                To::Is(extent) => *extent as i64,
                To::Rest(_) => -1,
            })
            .collect();
        let target = self.ints(&target);
        self.node("Reshape", &[x, &target], (x.dtype, shape), vec![])
    }

    /// The same elements in a shape that is computed: `target` is a vector of integers, `shape`
    /// what it will be.
    pub fn reshape_to(&mut self, x: &Value, target: &Value, shape: &[Dim]) -> Value {
        self.node("Reshape", &[x, target], (x.dtype, shape.to_vec()), vec![])
    }

    /// Rows of `table` at `indices`: `[..indices, ..table without its first axis]`.
    pub fn gather(&mut self, table: &Value, indices: &Value) -> Value {
        let shape = indices.shape.iter().chain(&table.shape[1..]).cloned().collect();
        self.node(
            "Gather",
            &[table, indices],
            (table.dtype, shape),
            vec![("axis", Attribute::Int(0))],
        )
    }

    /// `x` at `indices` (a vector) along `axis`.
    #[track_caller]
    pub fn gather_axis(&mut self, x: &Value, indices: &Value, axis: usize) -> Value {
        let mut shape = x.shape.clone();
        shape[axis] = indices.dim(0).clone();
        self.node(
            "Gather",
            &[x, indices],
            (x.dtype, shape),
            vec![("axis", Attribute::Int(axis as i64))],
        )
    }

    /// One row per sample: `x` `[n, rows, c]`, `index` `[n, 1]`, gives `[n, c]`.
    #[track_caller]
    pub fn pick_row(&mut self, x: &Value, index: &Value) -> Value {
        assert_eq!((x.shape.len(), index.extent(1)), (3, 1), "one row of {}", x.name);
        let shape = vec![x.shape[0].clone(), x.shape[2].clone()];
        self.node(
            "GatherND",
            &[x, index],
            (x.dtype, shape),
            vec![("batch_dims", Attribute::Int(1))],
        )
    }

    /// Values one after the other along `axis`.
    #[track_caller]
    pub fn concat(&mut self, parts: &[&Value], axis: usize) -> Value {
        let mut shape = parts[0].shape.clone();
        shape[axis] = Dim::Fixed(parts.iter().map(|part| part.extent(axis as isize)).sum());
        self.node(
            "Concat",
            parts,
            (parts[0].dtype, shape),
            vec![("axis", Attribute::Int(axis as i64))],
        )
    }

    /// `count` equal parts along the last axis.
    #[track_caller]
    pub fn split(&mut self, x: &Value, count: usize) -> Vec<Value> {
        let whole = x.extent(-1);
        assert_eq!(whole % count, 0, "{count} equal parts of {}", x.name);
        let mut shape = x.shape.clone();
        *shape.last_mut().expect("a last axis") = Dim::Fixed(whole / count);
        let names: Vec<_> = (0..count).map(|_| self.fresh("split")).collect();
        let attributes =
            vec![("axis", Attribute::Int(-1)), ("num_outputs", Attribute::Int(count as i64))];
        self.push("Split", &[x], names.clone(), attributes);
        names.into_iter().map(|name| Value { name, dtype: x.dtype, shape: shape.clone() }).collect()
    }

    /// The extents of axes `start..end` as a vector of integers.
    pub fn shape_of(&mut self, x: &Value, start: i64, end: i64) -> Value {
        let attributes = vec![("start", Attribute::Int(start)), ("end", Attribute::Int(end))];
        self.node("Shape", &[x], (Dtype::I64, vec![Dim::Fixed((end - start) as usize)]), attributes)
    }

    /// 2 x 2 blocks of pixels into channels, `[n, c, h, w]` to `[n, 4c, h/2, w/2]`, channel order
    /// (row, column, c).
    pub fn space_to_depth(&mut self, x: &Value, size: [Dim; 2]) -> Value {
        let [height, width] = size;
        let shape = vec![x.dim(0).clone(), Dim::Fixed(x.extent(1) * 4), height, width];
        self.node("SpaceToDepth", &[x], (x.dtype, shape), vec![("blocksize", Attribute::Int(2))])
    }

    /// The reverse of [`Self::space_to_depth`].
    pub fn depth_to_space(&mut self, x: &Value, size: [Dim; 2]) -> Value {
        let [height, width] = size;
        let shape = vec![x.dim(0).clone(), Dim::Fixed(x.extent(1) / 4), height, width];
        let attributes = vec![("blocksize", Attribute::Int(2)), ("mode", Attribute::Text("DCR"))];
        self.node("DepthToSpace", &[x], (x.dtype, shape), attributes)
    }
}

/// The shape of an operator on two values, extents of 1 stretched.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::Fixed(1);
    (0..rank)
        .map(|axis| {
            let of = |shape: &[Dim]| {
                (axis + shape.len()).checked_sub(rank).map_or(one.clone(), |at| shape[at].clone())
            };
            let (a, b) = (of(a), of(b));
            if a == b || b == one {
                Some(a)
            } else if a == one {
                Some(b)
            } else {
                None
            }
        })
        .collect()
}

/// The shape `to` asks for.
#[track_caller]
pub(super) fn shape_of_reshape(from: &[Dim], to: &[To]) -> Vec<Dim> {
    let kept = |axis: usize| matches!(to.get(axis), Some(To::Keep));
    let mut changed = from.iter().enumerate().filter(|(axis, _)| !kept(*axis)).map(|(_, dim)| dim);
    let whole =
        changed.try_fold(
            1,
            |whole, dim| if let Dim::Fixed(extent) = dim { Some(whole * extent) } else { None },
        );
    let said: usize =
        to.iter().map(|to| if let To::Is(extent) = to { *extent } else { 1 }).product();
    let rest = to.iter().any(|to| matches!(to, To::Rest(_)));
    if let Some(whole) = whole {
        let fits = if rest { whole % said == 0 } else { whole == said };
        assert!(fits, "reshape of {from:?} to {to:?}");
    }
    to.iter()
        .enumerate()
        .map(|(axis, to)| match to {
            To::Keep => from[axis].clone(),
            To::Is(extent) => Dim::Fixed(*extent),
            To::Rest(name) => whole
                .map_or_else(|| Dim::Named((*name).to_owned()), |whole| Dim::Fixed(whole / said)),
        })
        .collect()
}
