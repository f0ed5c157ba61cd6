//! One head of attention, in tiles that stay in registers: 6 rows of 64 columns.

/// Columns of a tile: queries whose scores are there at once, and the most that a head has.
pub(in crate::engine) const COLUMNS: usize = 64;

/// Rows of a tile.
const ROWS: usize = 6;

/// A row of a tile.
type Row = [f32; COLUMNS];

/// Whether this processor can.
pub(in crate::engine) fn is_possible() -> bool {
    std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("fma")
}

/// Keys and values of a head, as tiles read them, and room for what is made of them.
pub(super) struct Tiles {
    others: usize,
    /// Of each [`ROWS`] keys the first column, then their second, and so on.
    keys: Vec<[f32; ROWS]>,
    /// A value in each row, zeros behind it.
    values: Vec<Row>,
    /// 64 queries: the first column of each, then the second, and so on.
    queries: Vec<Row>,
    /// The scores of these, a key's in each row.
    scores: Vec<Row>,
}

impl Tiles {
    /// Room for so many keys and values, where this processor can.
    pub(super) fn new(others: usize) -> Option<Self> {
        let keys = others.div_ceil(ROWS);
        is_possible().then(|| Self {
            others,
            keys: vec![[0.0; ROWS]; keys * COLUMNS],
            values: vec![[0.0; COLUMNS]; others],
            queries: vec![[0.0; COLUMNS]; COLUMNS],
            scores: vec![[0.0; COLUMNS]; keys * ROWS],
        })
    }

    /// Takes the keys and the values of a head: numbers, and how far apart rows and columns lie.
    pub(super) fn take(&mut self, keys: Head<'_>, values: Head<'_>, width: usize) {
        let (numbers, [of_row, of_column]) = keys;
        for at in 0..self.others {
            let tile = &mut self.keys[at / ROWS * width..][..width];
            for (column, tile) in tile.iter_mut().enumerate() {
                tile[at % ROWS] = numbers[at * of_row + column * of_column];
            }
        }
        let (numbers, [of_row, of_column]) = values;
        for (at, row) in self.values.iter_mut().enumerate() {
            for (column, value) in row[..width].iter_mut().enumerate() {
                *value = numbers[at * of_row + column * of_column];
            }
        }
    }

    /// Makes what each query attends to, `made` for the first `width` columns of it.
    pub(super) fn attend(&mut self, queries: Head<'_>, width: usize, made: &mut [&mut [f32]]) {
        let (numbers, [of_row, of_column]) = queries;
        for (block, made) in made.chunks_mut(COLUMNS).enumerate() {
            for at in 0..made.len() {
                let from = (block * COLUMNS + at) * of_row;
                for (column, row) in self.queries[..width].iter_mut().enumerate() {
                    row[at] = numbers[from + column * of_column];
                }
            }
            self.block(width, made);
        }
    }

    #[expect(unsafe_code, reason = "a function for processors that have AVX-512")]
    fn block(&mut self, width: usize, made: &mut [&mut [f32]]) {
        // SAFETY: there are tiles where the processor has AVX-512 alone.
        unsafe { avx512::block(self, width, made) }
    }
}

/// Numbers of a head, and how far apart its rows and columns lie.
pub(super) type Head<'a> = (&'a [f32], [usize; 2]);

mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::{COLUMNS, ROWS, Row, Tiles};
    use crate::arithmetic;

    /// Numbers in a register.
    const LANES: usize = 16;

    /// A row of a tile, in registers.
    type Registers = [__m512; COLUMNS / LANES];

    /// What the queries that are there attend to.
    #[target_feature(enable = "avx512f,fma")]
    pub(super) fn block(tiles: &mut Tiles, width: usize, made: &mut [&mut [f32]]) {
        let Tiles { others, keys, values, queries, scores } = tiles;
        let scored = keys.chunks_exact(width).zip(scores.as_chunks_mut::<ROWS>().0);
        for (keys, scores) in scored {
            for (row, score) in products(keys.iter(), queries).into_iter().zip(scores) {
                store(row, score);
            }
        }
        let scores = &mut scores[..*others];
        let sums = exponentials(scores);
        for (part, made) in made.chunks_mut(ROWS).enumerate() {
            // The last rows of a block are made once more with those before them.
            let first = (part * ROWS).min(COLUMNS - ROWS);
            let weights = scores.iter().filter_map(|row| row[first..].first_chunk::<ROWS>());
            let rows = products(weights, values);
            for (at, made) in made.iter_mut().enumerate() {
                let (query, mut row) = (part * ROWS + at, [0.0; COLUMNS]);
                store(rows[query - first], &mut row);
                for (made, number) in made.iter_mut().zip(row) {
                    *made = number / sums[query];
                }
            }
        }
    }

    /// The sums of products of a tile: each row of `left` has a factor for each of its rows, each of
    /// `right` a number for each of its columns.
    #[target_feature(enable = "avx512f,fma")]
    #[inline]
    fn products<'a>(
        left: impl Iterator<Item = &'a [f32; ROWS]>,
        right: &[Row],
    ) -> [Registers; ROWS] {
        let mut sums = [[_mm512_setzero_ps(); COLUMNS / LANES]; ROWS];
        for (left, right) in left.zip(right) {
            let right = load(right);
            for (sums, factor) in sums.iter_mut().zip(left) {
                let factor = _mm512_set1_ps(*factor);
                for (sum, number) in sums.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(factor, number, *sum);
                }
            }
        }
        sums
    }

    /// Each column becomes `e^(score - the greatest of the column)`; what that adds up to.
    #[target_feature(enable = "avx512f,fma")]
    #[inline]
    fn exponentials(scores: &mut [Row]) -> Row {
        let (mut greatest, mut sums) = ([f32::NEG_INFINITY; COLUMNS], [0.0; COLUMNS]);
        for row in &*scores {
            for (greatest, score) in greatest.iter_mut().zip(row) {
                *greatest = if score > greatest { *score } else { *greatest };
            }
        }
        for row in scores {
            for ((score, greatest), sum) in row.iter_mut().zip(&greatest).zip(&mut sums) {
                *score = arithmetic::exp(*score - greatest);
                *sum += *score;
            }
        }
        sums
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    #[expect(unsafe_code, reason = "a load reads what a pointer points to")]
    fn load(row: &Row) -> Registers {
        let mut registers = [_mm512_setzero_ps(); COLUMNS / LANES];
        for (register, numbers) in registers.iter_mut().zip(row.as_chunks::<LANES>().0) {
            // SAFETY: there are as many numbers as a register has.
            *register = unsafe { _mm512_loadu_ps(numbers.as_ptr()) };
        }
        registers
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    #[expect(unsafe_code, reason = "a store writes where a pointer points to")]
    fn store(registers: Registers, row: &mut Row) {
        for (register, numbers) in registers.into_iter().zip(row.as_chunks_mut::<LANES>().0) {
            // SAFETY: there are as many numbers as a register has.
            unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), register) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Softmax of products with keys, times values, in f64.
    fn formula(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
        let width = query.len();
        let product = |key: &[f32]| -> f64 {
            key.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let scores: Vec<f64> = keys.chunks(width).map(product).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let all: f64 = weights.iter().sum();
        let column = |at: usize| -> f64 {
            let values = values.iter().skip(at).step_by(width);
            values.zip(&weights).map(|(value, weight)| f64::from(*value) * weight / all).sum()
        };
        (0..width).map(column).collect()
    }

    #[test]
    fn a_head_attends_as_its_formula_says() {
        if !is_possible() {
            println!("skipped: a head attends as its formula says: no AVX-512 here");
            return;
        }
        let drawn = |count: usize, seed: usize| -> Vec<f32> {
            let number = |at| ((at * 7919 + seed * 104_729) % 4001) as f32 / 1000.0 - 2.0;
            (0..count).map(number).collect()
        };
        for width in [1, 5, 48, COLUMNS] {
            for (tokens, others) in [(1, 1), (5, 7), (64, 6), (70, 77), (129, 13)] {
                let mut tiles = Tiles::new(others).expect("possible");
                for seed in 0..2 {
                    // Scaled as those of heads of 64 are: e^x magnifies how scores are rounded.
                    let queries: Vec<f32> =
                        drawn(tokens * width, seed).into_iter().map(|x| x / 8.0).collect();
                    let [keys, values] = [1, 2].map(|more| drawn(others * width, seed + more));
                    let mut made = vec![0.0; tokens * width];
                    let mut rows: Vec<_> = made.chunks_mut(width).collect();
                    let apart = [width, 1];
                    tiles.take((&keys, apart), (&values, apart), width);
                    tiles.attend((&queries, apart), width, &mut rows);
                    for (query, made) in queries.chunks(width).zip(made.chunks(width)) {
                        let expected = formula(query, &keys, &values);
                        let is_close = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-5;
                        assert!(
                            made.iter().zip(&expected).all(is_close),
                            "{width} wide, {tokens} to {others}: {made:?}, expected {expected:?}"
                        );
                    }
                }
            }
        }
    }
}
