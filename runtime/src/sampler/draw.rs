//! One token drawn from one row of logits. Knows no step and no image.

use super::rng::{Mt19937, exponential};
use crate::arithmetic;

/// A drawn token and the probability it had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drawn {
    pub(super) token: u32,
    pub(super) probability: f32,
}

/// Columns whose probabilities are summed together before they join the total.
const BLOCK: usize = 128;
/// Columns that are worked on side by side: enough for any vector unit, fixed so that sums are
/// always the same.
const LANES: usize = 16;

/// Draws tokens; keeps its buffers from row to row.
#[derive(Default)]
pub(super) struct Drawer {
    /// `exp(logit - largest logit)` of the row at hand.
    weights: Vec<f32>,
    /// Sums of `weights`, by block.
    blocks: Vec<f64>,
}

impl Drawer {
    /// The token where the running sum of the softmax of `sharpness` times the row passes
    /// `uniform`, a number of (0, 1).
    ///
    /// This has the distribution of the reference's exponential race and needs one number, not one
    /// per token. Sums of 128 weights are in f32, so a probability is off by up to 1e-6 of itself.
    /// `None` if a logit is NaN or infinite (minus infinity stands for probability 0) or the row is
    /// empty.
    pub(super) fn inverse(
        &mut self,
        logits: &[f32],
        sharpness: f32,
        uniform: f64,
    ) -> Option<Drawn> {
        let total = self.weigh(logits, sharpness)?;
        let mut left = uniform * total;
        let mut block = 0;
        while block + 1 < self.blocks.len() && left >= self.blocks[block] {
            left -= self.blocks[block];
            block += 1;
        }
        let start = block * BLOCK;
        let mut chosen = None;
        for (column, weight) in self.weights.iter().enumerate().skip(start) {
            // Rounding may leave a little more than the block holds: then it goes on, at the very
            // end to the last one.
            if *weight > 0.0 {
                chosen = Some(column);
                left -= f64::from(*weight);
                if left < 0.0 {
                    break;
                }
            }
        }
        let column = chosen.or_else(|| self.weights.iter().rposition(|weight| *weight > 0.0))?;
        Some(Drawn {
            token: column as u32,
            probability: (f64::from(self.weights[column]) / total) as f32,
        })
    }

    /// Fills `weights` and `blocks`; the sum of all, or `None` if it is not a number.
    fn weigh(&mut self, logits: &[f32], sharpness: f32) -> Option<f64> {
        let largest = largest(logits);
        self.weights.clear();
        self.weights
            .extend(logits.iter().map(|logit| arithmetic::exp((logit - largest) * sharpness)));
        self.blocks.clear();
        self.blocks.extend(self.weights.chunks(BLOCK).map(|block| f64::from(sum(block))));
        let total: f64 = self.blocks.iter().sum();
        (total.is_finite() && total > 0.0).then_some(total)
    }

    /// The token that wins torch's race: the first largest of `p / q`, `q` exponential, two words
    /// for every token.
    ///
    /// The softmax is rounded where torch rounds: differences, exponentials, their sum and the
    /// quotients, each to f32. `None` as for [`Self::inverse`]; then the twister's place is
    /// undefined.
    pub(super) fn race(&mut self, logits: &[f32], twister: &mut Mt19937) -> Option<Drawn> {
        let largest = largest(logits);
        self.weights.clear();
        self.weights.extend(
            logits.iter().map(|logit| arithmetic::exp_f64(f64::from(logit - largest)) as f32),
        );
        let total = self.weights.iter().map(|weight| f64::from(*weight)).sum::<f64>() as f32;
        if !(total.is_finite() && total > 0.0) {
            return None;
        }
        let mut best = (f32::NEG_INFINITY, Drawn { token: 0, probability: 0.0 });
        for (token, weight) in (0..).zip(&self.weights) {
            let probability = weight / total;
            let uniform = twister.uniform_f64();
            // q is never below its uniform number, so most tokens lose before a logarithm is taken.
            if f64::from(probability) < f64::from(best.0) * uniform * 0.999_999 {
                continue;
            }
            let score = probability / exponential(uniform);
            if score > best.0 {
                best = (score, Drawn { token, probability });
            }
        }
        Some(best.1)
    }
}

/// The largest of a row, NaN left out.
fn largest(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for values in lanes {
        for (largest, value) in largest.iter_mut().zip(values) {
            *largest = if *value > *largest { *value } else { *largest };
        }
    }
    largest
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, |largest, value| if value > largest { value } else { largest })
}

/// The sum of a row, always added in the same order.
fn sum(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for values in lanes {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    sums.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::rng::{Philox, Purpose};

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<_> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }

    fn row(columns: usize, spread: f64, seed: u64) -> Vec<f32> {
        let rng = Philox::new(seed);
        (0..columns)
            .map(|column| (spread * (rng.uniform(Purpose::Token, 9, 9, column) - 0.5)) as f32)
            .collect()
    }

    #[test]
    fn inverts_the_running_sum() {
        for columns in [1, 5, 127, 128, 129, 300, 8192] {
            let logits = row(columns, 20.0, columns as u64);
            let exact = softmax(&logits);
            let mut drawer = Drawer::default();
            for step in 0..200 {
                let uniform = (f64::from(step) + 0.5) / 200.0;
                let drawn = drawer.inverse(&logits, 1.0, uniform).expect("finite");
                let token = drawn.token as usize;
                let below: f64 = exact[..token].iter().sum();
                // 2e-6: f32 weights and block sums.
                assert!(
                    below - 2e-6 <= uniform && uniform <= below + exact[token] + 2e-6,
                    "{columns}: {uniform}"
                );
                assert!(
                    (f64::from(drawn.probability) - exact[token]).abs() <= 2e-6 * exact[token],
                    "{columns}"
                );
            }
        }
    }

    #[test]
    fn both_draws_have_the_softmax_as_distribution() {
        const DRAWS: usize = 40_000;
        let logits = row(12, 5.0, 1);
        let exact = softmax(&logits);
        let (mut drawer, rng, mut twister) = (Drawer::default(), Philox::new(3), Mt19937::new(3));
        let mut counts = [[0usize; 12]; 2];
        for position in 0..DRAWS {
            let uniform = rng.uniform(Purpose::Token, 0, 0, position);
            counts[0][drawer.inverse(&logits, 1.0, uniform).expect("finite").token as usize] += 1;
            counts[1][drawer.race(&logits, &mut twister).expect("finite").token as usize] += 1;
        }
        for counts in counts {
            for (token, (count, exact)) in counts.iter().zip(&exact).enumerate() {
                let (expected, spread) =
                    (exact * DRAWS as f64, (exact * (1.0 - exact) * DRAWS as f64).sqrt());
                // The seeds are fixed, so it never tips; by chance one of 150,000 counts is outside.
                assert!(
                    (*count as f64 - expected).abs() < 4.5 * spread,
                    "token {token}: {count}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn race_takes_two_words_per_token_and_the_first_largest() {
        let logits = row(64, 8.0, 2);
        let (mut short, mut long) = (Mt19937::new(8), Mt19937::new(8));
        let drawn = Drawer::default().race(&logits, &mut short).expect("finite");
        let scores: Vec<_> =
            softmax(&logits).iter().map(|p| *p as f32 / long.exponential()).collect();
        let best = scores.iter().copied().fold(0.0, f32::max);
        assert_eq!(Some(drawn.token as usize), scores.iter().position(|score| *score == best));
        assert_eq!(short, long);
    }

    #[test]
    fn refuses_what_is_no_number() {
        for (logits, fine) in [
            (&[0.0, f32::NAN, 1.0][..], false),
            (&[0.0, f32::INFINITY], false),
            (&[f32::NEG_INFINITY; 3], false),
            (&[f32::NAN; 20], false),
            (&[], false),
            (&[0.0, f32::NEG_INFINITY], true),
            (&[f32::MAX, f32::MIN], true),
        ] {
            let mut drawer = Drawer::default();
            assert_eq!(drawer.inverse(logits, 1.0, 0.999).is_some(), fine, "{logits:?}");
            assert_eq!(drawer.race(logits, &mut Mt19937::new(1)).is_some(), fine, "{logits:?}");
        }
    }

    #[test]
    fn never_draws_what_has_no_probability() {
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        for uniform in [f64::MIN_POSITIVE, 0.5, 1.0 - f64::EPSILON, 1.0] {
            assert_eq!(
                Drawer::default().inverse(&logits, 1.0, uniform),
                Some(Drawn { token: 1, probability: 1.0 })
            );
        }
    }
}
