//! Which tokens of an image are masked again after a step: the least confident ones, with noise.

use crate::arithmetic;

/// Below this a probability or a noise term counts as this.
const LEAST: f32 = 1e-20;

/// How sure the model was of a token, noise included: `ln p + temperature * noise`.
///
/// A token that was known before the step has the probability `f32::MAX`.
pub(super) fn confidence(probability: f32, temperature: f32, noise: f32) -> f32 {
    arithmetic::ln(f64::from(probability.max(LEAST))) as f32 + temperature * noise
}

/// Gumbel noise from a uniform number of (0, 1): `-ln(-ln u)`, in f64, rounded to f32 at the end.
pub(super) fn gumbel(uniform: f64) -> f32 {
    -arithmetic::ln(-arithmetic::ln(uniform)) as f32
}

/// Gumbel noise from a uniform number of [0, 1), clamped and rounded where torch does.
pub(super) fn gumbel_as_torch(uniform: f32) -> f32 {
    let ln = |x: f32| arithmetic::ln(f64::from(x.max(LEAST))) as f32;
    -ln(-ln(uniform))
}

/// The value that a confidence must reach to stay: the one with `mask_len` smaller ones.
///
/// `order` is a buffer. `confidences` has at least one element, none NaN.
pub(super) fn cut(confidences: &[f32], mask_len: usize, order: &mut Vec<f32>) -> f32 {
    order.clear();
    order.extend_from_slice(confidences);
    let index = mask_len.min(confidences.len() - 1);
    *order.select_nth_unstable_by(index, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tokens_are_surest() {
        assert_eq!(confidence(f32::MAX, 0.0, 3.0), 88.722_84); // numpy.log(numpy.finfo('f4').max)
        assert_eq!(confidence(0.0, 0.0, 3.0), -46.051_7); // numpy.log(numpy.float32(1e-20))
        assert_eq!(confidence(1.0, 2.0, 1.5), 3.0);
    }

    #[test]
    fn noise_is_gumbels() {
        // -log(-log(0.5)), and the two clamps
        assert_eq!(gumbel(0.5), 0.366_512_92);
        assert_eq!(gumbel_as_torch(0.5), 0.366_512_92);
        assert_eq!(gumbel_as_torch(0.0), -3.829_764_6);
        assert!(gumbel_as_torch(1.0 - f32::EPSILON / 2.0) > 16.0);
        assert!(gumbel(0.5 / (1u64 << 52) as f64).is_finite());
        assert!(gumbel(1.0 - 0.5 / (1u64 << 52) as f64).is_finite());
    }

    #[test]
    fn cut_leaves_as_many_below_as_asked_for() {
        let confidences = [3.0, -1.0, 88.0, 0.5, -1.0];
        for (mask_len, expected) in [(0, -1.0), (1, -1.0), (2, 0.5), (3, 3.0), (4, 88.0), (9, 88.0)]
        {
            assert_eq!(cut(&confidences, mask_len, &mut Vec::new()), expected, "{mask_len}");
        }
    }
}
