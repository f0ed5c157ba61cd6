//! The weights of all cross-attentions and heads, as one mean. Knows no sampler.

use std::collections::BTreeMap;

use pocketmuse_package::{ATTENTION, Error, ErrorKind, Result};

use super::watch::Attention;
use crate::engine::session::{Taps, Tensor};

/// The tapped values that are weights of attention.
pub(super) const WANTED: Taps = |name| name.starts_with(ATTENTION);

/// The mean attention of the prompt's branch, which is the last, from the tapped values of a step;
/// `None` if there are none.
///
/// # Errors
///
/// `PackageDamaged` if they are of other shapes than the format says.
pub(super) fn mean(taps: &BTreeMap<String, Tensor>, positions: usize) -> Result<Option<Attention>> {
    let mut mean = Mean::default();
    for (name, tap) in taps.iter().filter(|(name, _)| WANTED(name)) {
        mean.add(&tap.shape(), tap.as_f32()?, positions).map_err(|error| error.within(name))?;
    }
    Ok((mean.count > 0).then(|| Attention { rows: mean.rows() }))
}

/// A mean of attention weights, `[positions, tokens]`.
#[derive(Default)]
struct Mean {
    sums: Vec<f64>,
    tokens: usize,
    count: usize,
}

impl Mean {
    /// Adds all heads of the last branch of `[branches, heads, positions, tokens]` weights.
    fn add(&mut self, shape: &[usize], weights: &[f32], positions: usize) -> Result<()> {
        let &[branches, heads, rows, tokens] = shape else { return Err(other(shape, positions)) };
        let plane = rows * tokens;
        if shape.contains(&0)
            || rows != positions
            || weights.len() != branches * heads * plane
            || ![0, plane].contains(&self.sums.len())
        {
            return Err(other(shape, positions));
        }
        self.sums.resize(plane, 0.0);
        self.tokens = tokens;
        for head in weights[(branches - 1) * heads * plane..].chunks_exact(plane) {
            self.sums.iter_mut().zip(head).for_each(|(sum, weight)| *sum += f64::from(*weight));
            self.count += 1;
        }
        Ok(())
    }

    /// The mean, a row for each position.
    fn rows(&self) -> Vec<Vec<f32>> {
        let mean = |sum: &f64| (sum / self.count as f64) as f32;
        self.sums.chunks_exact(self.tokens).map(|row| row.iter().map(mean).collect()).collect()
    }
}

fn other(shape: &[usize], positions: usize) -> Error {
    let detail = format!("expected f32 [branches, heads, {positions}, tokens], found {shape:?}");
    Error::new(ErrorKind::PackageDamaged, "", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_is_the_mean_of_the_prompts_branch() {
        let mut mean = Mean::default();
        // Two branches, two heads, one position, two tokens; then one head of another layer.
        mean.add(&[2, 2, 1, 2], &[9.0, 9.0, 9.0, 9.0, 0.2, 0.8, 0.4, 0.6], 1)
            .expect("as the format says");
        mean.add(&[2, 1, 1, 2], &[9.0, 9.0, 0.9, 0.1], 1).expect("as the format says");
        assert_eq!(mean.rows(), [[0.5, 0.5]]);
        for (shape, weights) in [
            (&[1, 1, 2, 1][..], &[0.5f32, 0.5][..]),
            (&[1, 1, 1, 3], &[0.5; 3]),
            (&[1, 1, 1], &[1.0]),
            (&[2, 1, 1, 2], &[1.0]),
            (&[0, 1, 1, 2], &[]),
        ] {
            let error = mean.add(shape, weights, 1).expect_err("another shape");
            assert!(
                error.detail().starts_with("expected f32 [branches, heads, 1, tokens], found"),
                "{error}"
            );
        }
    }
}
