//! The table of previews: what each token looks like, fitted to images that the model made. Knows
//! no network.
//!
//! What a token looks like depends on the tokens around it, so the table holds means. A linear map
//! from a token's vector is fitted by least squares to all cells; a token that was seen then takes
//! the mean of what the map leaves at its cells. Tokens that no image showed have the map alone.

use ndarray::{Array1, Array2, Axis};
use pocketmuse_package::{Cell, PATCH_VALUES};

/// What keeps coefficients small where few cells are, as a part of the number of cells: vectors are
/// scaled to deviation 1.
const RIDGE: f64 = 1e-3;
/// As how many cells without a difference from the map a token's own cells are weighed against.
const DOUBT: f64 = 1.0;

/// The bytes of the table for tokens with `vectors`, `[tokens, width]`. `None` without cells.
///
/// # Panics
///
/// If a cell has a token without a vector.
pub(crate) fn table(vectors: &Array2<f64>, cells: &[Cell]) -> Option<Vec<u8>> {
    if cells.is_empty() {
        return None;
    }
    let features = features(vectors, cells);
    let tokens: Vec<usize> = cells.iter().map(|cell| cell.token as usize).collect();
    let seen = features.select(Axis(0), &tokens);
    let patches = Array2::from_shape_fn((cells.len(), PATCH_VALUES), |(cell, value)| {
        cells[cell].patch[value].into()
    });
    let mut normal = seen.t().dot(&seen);
    normal.diag_mut().mapv_inplace(|value| value + RIDGE * cells.len() as f64);
    let map = solve(normal, seen.t().dot(&patches));

    let mut table = features.dot(&map);
    let left = patches - seen.dot(&map);
    let mut sums = Array2::<f64>::zeros(table.dim());
    let mut counts = Array1::<f64>::from_elem(table.nrows(), DOUBT);
    for (token, left) in tokens.iter().zip(left.rows()) {
        let mut sum = sums.row_mut(*token);
        sum += &left;
        counts[*token] += 1.0;
    }
    table += &(sums / counts.insert_axis(Axis(1)));
    Some(table.iter().map(|value| (255.0 * value.clamp(0.0, 1.0)).round() as u8).collect())
}

/// The vectors, each number scaled to mean 0 and deviation 1 over the cells, and a 1 for the
/// constant.
fn features(vectors: &Array2<f64>, cells: &[Cell]) -> Array2<f64> {
    let count = cells.len() as f64;
    let mean = |of: &dyn Fn(usize) -> f64| {
        cells.iter().map(|cell| of(cell.token as usize)).sum::<f64>() / count
    };
    let mut features = Array2::ones((vectors.nrows(), vectors.ncols() + 1));
    for (column, values) in vectors.columns().into_iter().enumerate() {
        let middle = mean(&|token| values[token]);
        let deviation = mean(&|token| (values[token] - middle).powi(2)).sqrt();
        let scale = if deviation > 0.0 { deviation.recip() } else { 0.0 };
        features.column_mut(column).assign(&values.mapv(|value| (value - middle) * scale));
    }
    features
}

/// Solves `matrix x = right` for a symmetric positive definite matrix, by Cholesky's factors.
fn solve(mut matrix: Array2<f64>, mut right: Array2<f64>) -> Array2<f64> {
    let size = matrix.nrows();
    for row in 0..size {
        for column in 0..=row {
            let dot = (0..column).map(|k| matrix[[row, k]] * matrix[[column, k]]).sum::<f64>();
            let rest = matrix[[row, column]] - dot;
            matrix[[row, column]] =
                if row == column { rest.sqrt() } else { rest / matrix[[column, column]] };
        }
    }
    for mut values in right.columns_mut() {
        for row in 0..size {
            let dot = (0..row).map(|k| matrix[[row, k]] * values[k]).sum::<f64>();
            values[row] = (values[row] - dot) / matrix[[row, row]];
        }
        for row in (0..size).rev() {
            let dot = (row + 1..size).map(|k| matrix[[k, row]] * values[k]).sum::<f64>();
            values[row] = (values[row] - dot) / matrix[[row, row]];
        }
    }
    right
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn solves_what_numpy_solves() {
        // numpy.linalg.solve([[4, 2, 1], [2, 5, 3], [1, 3, 6]], [[1], [2], [3]])
        let found = solve(
            array![[4.0, 2.0, 1.0], [2.0, 5.0, 3.0], [1.0, 3.0, 6.0]],
            array![[1.0], [2.0], [3.0]],
        );
        for (found, expected) in found.iter().zip([
            0.089_552_238_805_970_16,
            0.104_477_611_940_298_53,
            0.432_835_820_895_522_36,
        ]) {
            assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
        }
    }

    fn cell(token: u32, value: f32) -> Cell {
        Cell { token, patch: [value; PATCH_VALUES] }
    }

    #[test]
    fn a_code_looks_as_its_cells_do_and_others_as_their_vectors_say() {
        let vectors = array![[0.0], [1.0], [2.0], [3.0], [1.5], [90.0]];
        let cells: Vec<_> =
            (0..4).flat_map(|token| vec![cell(token, 0.2 + 0.1 * token as f32); 50]).collect();
        let table = table(&vectors, &cells).expect("cells");
        let found: Vec<_> = table.chunks(PATCH_VALUES).map(|patch| i32::from(patch[7])).collect();
        for (token, expected) in [(0, 51), (1, 77), (2, 102), (3, 128), (4, 89), (5, 255)] {
            assert!(
                (found[token] - expected).abs() <= 1,
                "token {token}: expected {expected}, found {found:?}"
            );
        }
        assert_eq!(table.len(), 6 * PATCH_VALUES);
    }

    #[test]
    fn a_code_apart_from_all_keeps_its_own_look() {
        let vectors = array![[0.0], [1.0], [0.5]];
        let cells =
            [vec![cell(0, 0.1); 90], vec![cell(1, 0.1); 90], vec![cell(2, 0.9); 90]].concat();
        let table = table(&vectors, &cells).expect("cells");
        assert!(
            (i32::from(table[2 * PATCH_VALUES]) - 230).abs() < 4,
            "{}",
            table[2 * PATCH_VALUES]
        );
        assert_eq!(super::table(&vectors, &[]), None);
    }

    #[test]
    fn vectors_that_do_not_differ_are_no_reason_to_fail() {
        let vectors = Array2::zeros((3, 2));
        let table = table(&vectors, &[cell(1, 0.5)]).expect("a cell");
        assert!((i32::from(table[PATCH_VALUES]) - 128).abs() <= 1, "{}", table[0]);
    }
}
