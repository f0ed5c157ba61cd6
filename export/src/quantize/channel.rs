//! The arithmetic of 8-bit weights: one scale per output channel, safe on every CPU.
//!
//! Before VNNI, x86 multiplies u8 activations by s8 weights two at a time and adds each pair in 16
//! bits, clipped. Two weights `a`, `b` of one sign next to each other clip where `255 (|a| + |b|) >
//! 32767`, which makes results wrong, not inexact. So the scale of a channel is chosen such that no
//! pair of one sign adds up to more than 128: the largest sum of a pair maps to 127 where it is
//! larger than the largest weight. On normally distributed weights of 1,024 inputs this costs a
//! third more rounding error than the whole range would, and half as much as 7-bit weights.

use super::rounding::nearest;

/// The largest magnitude a weight, or a pair's sum before rounding, maps to.
const LARGEST: f32 = 127.0;

/// One scale per column of a matrix `[rows, columns]`, row-major, whose rows `2i` and `2i + 1` are
/// added in pairs.
///
/// A column of zeros gets scale 1.
///
/// # Panics
///
/// If `columns` is 0 or does not divide `weight.len()`.
pub fn pair_safe_scales(weight: &[f32], columns: usize) -> Vec<f32> {
    assert!(columns > 0 && weight.len().is_multiple_of(columns), "whole rows");
    let mut largest = vec![0.0f32; columns];
    for pair in weight.chunks(2 * columns) {
        let (first, second) = pair.split_at(columns);
        for (largest, weight) in largest.iter_mut().zip(first) {
            *largest = largest.max(weight.abs());
        }
        for ((largest, a), b) in largest.iter_mut().zip(first).zip(second) {
            // Of one sign their sum is the larger, of two signs one of them is.
            *largest = largest.max(b.abs()).max((a + b).abs());
        }
    }
    largest.into_iter().map(|largest| if largest > 0.0 { largest / LARGEST } else { 1.0 }).collect()
}

/// `weight / scale` of each column of a matrix `[rows, scales.len()]`, row-major, rounded: the
/// bytes of s8 values in -127..=127, `weight ≈ value * scale`.
///
/// # Example
///
/// ```
/// use pocketmuse_export::quantize::{columns, pair_safe_scales};
///
/// let weight = [0.5, 1.0, -0.25, 1.0]; // two columns of two rows
/// let scales = pair_safe_scales(&weight, 2);
/// // The second column's pair has one sign and shares the range.
/// assert_eq!(scales, [0.5 / 127.0, 2.0 / 127.0]);
/// assert_eq!(columns(&weight, &scales), [127, 64, -64i8 as u8, 64]);
/// ```
pub fn columns(weight: &[f32], scales: &[f32]) -> Vec<u8> {
    let inverse: Vec<f32> = scales.iter().map(|scale| scale.recip()).collect();
    let mut bytes = Vec::with_capacity(weight.len());
    for row in weight.chunks(scales.len()) {
        bytes.extend(row.iter().zip(&inverse).map(|(weight, inverse)| round(weight * inverse)));
    }
    bytes
}

/// `weight / scale` of blocks of `size` values that share a scale, rounded: the bytes of s8 values.
pub(super) fn blocks(weight: &[f32], size: usize, scales: &[f32]) -> Vec<u8> {
    let block = |(block, scale): (&[f32], &f32)| {
        let inverse = scale.recip();
        block.iter().map(|weight| round(weight * inverse)).collect::<Vec<_>>()
    };
    weight.chunks(size).zip(scales).flat_map(block).collect()
}

/// Rows of `width` values, each with a scale of its own: values, scales. No pairs: rows are looked
/// up, not multiplied.
pub(crate) fn rows(table: &[f32], width: usize) -> (Vec<u8>, Vec<f32>) {
    let largest = |row: &[f32]| row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = |row: &[f32]| {
        Some(largest(row)).filter(|largest| *largest > 0.0).map_or(1.0, |largest| largest / LARGEST)
    };
    let scales: Vec<f32> = table.chunks(width).map(scale).collect();
    let quantized = |(row, scale): (&[f32], &f32)| {
        row.iter().map(|value| round(value / scale)).collect::<Vec<_>>()
    };
    (table.chunks(width).zip(&scales).flat_map(quantized).collect(), scales)
}

/// To the nearest integer in -127..=127, as the byte of an i8.
fn round(value: f32) -> u8 {
    (nearest(value.clamp(-LARGEST, LARGEST)) as i8).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(bytes: &[u8]) -> Vec<i8> {
        bytes.iter().map(|byte| byte.cast_signed()).collect()
    }

    #[test]
    fn a_pair_of_one_sign_shares_the_range() {
        let weight = [1.0, 1.0, 1.0, -1.0]; // two columns of two rows
        let scales = pair_safe_scales(&weight, 2);
        assert_eq!(scales, [2.0 / 127.0, 1.0 / 127.0]);
        assert_eq!(signed(&columns(&weight, &scales)), [64, 127, 64, -127]);
    }

    #[test]
    fn a_column_of_zeros_stays_zero() {
        assert_eq!(pair_safe_scales(&[0.0; 3], 1), [1.0]);
        assert_eq!(rows(&[0.0; 4], 2), (vec![0; 4], vec![1.0, 1.0]));
    }

    #[test]
    fn rows_have_scales_of_their_own() {
        let (values, scales) = rows(&[0.5, -2.0, 0.005, 0.02], 2);
        assert_eq!(signed(&values), [32, -127, 32, 127]);
        assert_eq!(scales, [2.0 / 127.0, 0.02 / 127.0]);
    }

    proptest! {
        /// What the CPU adds in 16 bits stays within 16 bits, whatever the activations.
        #[test]
        fn no_pair_can_clip(weight in proptest::collection::vec(-1e3f32..1e3, 1..64)) {
            let scales = pair_safe_scales(&weight, 1);
            let values = signed(&columns(&weight, &scales));
            for pair in values.chunks(2) {
                let of = |sign: i32| -> i32 {
                    pair.iter().map(|value| (sign * i32::from(*value)).max(0)).sum()
                };
                prop_assert!(255 * of(1) <= 32767 && 255 * of(-1) <= 32768, "{pair:?}");
            }
            for (weight, value) in weight.iter().zip(&values) {
                // To the nearest, and what dividing by the scale in f32 rounds.
                prop_assert!((weight - f32::from(*value) * scales[0]).abs() <= 0.5001 * scales[0]);
            }
        }
    }
}
