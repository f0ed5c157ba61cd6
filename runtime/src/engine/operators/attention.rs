//! `SelfAttention` and `CrossAttention`: softmax(queries keysᵀ) values, head by head, of queries that
//! are scaled already, for processors with AVX-512. The scores of 64 queries of a head are there at a
//! time, never all.
//!
//! | input of `SelfAttention` | |
//! |---|---|
//! | parts | f32 `[branches, tokens, 3 * heads * width]`: queries, keys, values |
//! | shape | i64 `[4]`: its last two are the heads and their width |
//!
//! | input of `CrossAttention` | |
//! |---|---|
//! | queries | f32 `[branches, tokens, heads * width]` |
//! | keys | f32 `[branches, heads, width, others]` |
//! | values | f32 `[branches, heads, others, width]` |
//!
//! Both make f32 `[branches, tokens, heads * width]`: what three `Transpose`, two `MatMul` and a
//! `Softmax` make, up to the order in which numbers are added. A head is at most [`COLUMNS`] wide.

mod tiles;

use std::sync::{Mutex, PoisonError};

use ort::{Result, operator::ComputeContext};

use self::tiles::Tiles;
pub(in crate::engine) use self::tiles::{COLUMNS, is_possible};
use super::values::{input, no_output, optional, wrong};

/// How many there are of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extents {
    branches: usize,
    tokens: usize,
    others: usize,
    heads: usize,
    width: usize,
}

impl Extents {
    /// Those of `[branches, tokens, others, heads, width]`.
    fn of(extents: [i64; 5]) -> Result<Self> {
        let [branches, tokens, others, heads, width] = extents.map(|extent| extent as usize);
        match extents.iter().all(|extent| *extent > 0) && width <= COLUMNS {
            true => Ok(Self { branches, tokens, others, heads, width }),
            false => Err(wrong(&format!("heads at most {COLUMNS} wide"), extents)),
        }
    }
}

/// Numbers of each branch, head, token and column, and how far apart these lie.
#[derive(Clone, Copy, Debug)]
struct Strided<'a> {
    numbers: &'a [f32],
    apart: [usize; 4],
}

impl<'a> Strided<'a> {
    /// The numbers of a head, and how far apart its tokens and columns lie.
    fn head(self, branch: usize, head: usize) -> (&'a [f32], [usize; 2]) {
        let [of_branch, of_head, of_token, of_column] = self.apart;
        (&self.numbers[branch * of_branch + head * of_head..], [of_token, of_column])
    }
}

/// `SelfAttention`.
pub(super) fn of_itself(context: &ComputeContext) -> Result<()> {
    let parts = input(context, 0)?;
    let (shape, numbers) = parts.try_extract_tensor::<f32>()?;
    let (heads, width) = match optional::<i64>(context, 1)?.as_deref() {
        Some(&[_, _, heads, width]) => (heads, width),
        found => return Err(wrong("a shape of heads", found)),
    };
    let extents = match **shape {
        [branches, tokens, row] if three_of(heads, width) == Some(row) => {
            Extents::of([branches, tokens, tokens, heads, width])?
        }
        _ => return Err(wrong(&format!("three parts of {heads} heads of {width}"), shape)),
    };
    let part = extents.heads * extents.width;
    let apart = [extents.tokens * 3 * part, extents.width, 3 * part, 1];
    let parts = [0, 1, 2].map(|at| Strided { numbers: &numbers[at * part..], apart });
    attend(context, parts, extents)
}

/// `CrossAttention`.
pub(super) fn of_others(context: &ComputeContext) -> Result<()> {
    let [queries, keys, values] = [0, 1, 2].map(|index| input(context, index));
    let (queries, keys, values) = (queries?, keys?, values?);
    let (shape, queries) = queries.try_extract_tensor::<f32>()?;
    let (of_keys, keys) = keys.try_extract_tensor::<f32>()?;
    let (of_values, values) = values.try_extract_tensor::<f32>()?;
    let extents = match (&**shape, &**of_keys) {
        (&[branches, tokens, row], &[of_keys, heads, width, others])
            if of_keys == branches
                && **of_values == [branches, heads, others, width]
                && heads.checked_mul(width) == Some(row) =>
        {
            Extents::of([branches, tokens, others, heads, width])?
        }
        _ => return Err(wrong("queries, keys and values", (shape, of_keys, of_values))),
    };
    let Extents { tokens, others, heads, width, .. } = extents;
    let (row, all) = (heads * width, heads * width * others);
    let queries = Strided { numbers: queries, apart: [tokens * row, width, row, 1] };
    let keys = Strided { numbers: keys, apart: [all, width * others, 1, others] };
    let values = Strided { numbers: values, apart: [all, width * others, width, 1] };
    attend(context, [queries, keys, values], extents)
}

fn three_of(heads: i64, width: i64) -> Option<i64> {
    heads.checked_mul(width)?.checked_mul(3)
}

/// Has ONNX Runtime's threads make the heads of the output.
fn attend(context: &ComputeContext, parts: [Strided<'_>; 3], extents: Extents) -> Result<()> {
    let Extents { branches, tokens, others, heads, width } = extents;
    let first = Tiles::new(others).ok_or_else(|| wrong("a processor with AVX-512", "none"))?;
    let mut output = context.output(0, [branches, tokens, heads * width])?.ok_or_else(no_output)?;
    let made = output.try_extract_tensor_mut::<f32>()?.1;
    let mut of_heads: Vec<_> = (0..branches * heads).map(|_| Vec::with_capacity(tokens)).collect();
    for (at, columns) in made.chunks_exact_mut(width).enumerate() {
        of_heads[at / heads / tokens * heads + at % heads].push(columns);
    }
    let of_heads: Vec<_> = of_heads.into_iter().map(Mutex::new).collect();
    // As many as threads, since fresh memory costs as much as a part of the work.
    let free = Mutex::new(vec![first]);
    context.par_for(of_heads.len(), 0, |index| {
        let Some(made) = of_heads.get(index) else { return };
        let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(mut tiles) = taken.or_else(|| Tiles::new(others)) else { return };
        let [queries, keys, values] = parts.map(|part| part.head(index / heads, index % heads));
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        tiles.take(keys, values, width);
        tiles.attend(queries, width, &mut made);
        free.lock().unwrap_or_else(PoisonError::into_inner).push(tiles);
    })
}
