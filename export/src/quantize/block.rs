//! The arithmetic of 4-bit weights: blocks of neighbours that share a scale. A value `q` of
//! `0..=15` stands for `scale (q - 8)`.

use super::rounding::nearest;

/// Weights in a block: of the sizes that ONNX Runtime has kernels for, the most exact. The scale
/// makes it 5 bits a weight.
pub(super) const SIZE: usize = 32;

/// The value that stands for 0.
const MIDDLE: f32 = 8.0;

/// How much smaller than the whole range a scale may be: clipping a block's largest weight can cost
/// less than what finer steps win for all others. Tried from the first to the last.
const SHRINKS: [f32; 6] = [1.0, 0.96, 0.92, 0.88, 0.84, 0.8];

/// Rows of `width` weights as blocks: the bytes `[rows, blocks, SIZE / 2]`, the even one of two
/// neighbours in the low half, and scales `[rows, blocks]`. The last block of a row is filled up
/// with zeros.
///
/// The largest weight of a block is mapped to -8, which has no counterpart, so that its sign costs
/// no range; the scale is negative then. Of some smaller scales the one with the least squared
/// error is taken.
pub(super) fn quantize(rows: &[f32], width: usize) -> (Vec<u8>, Vec<f32>) {
    let blocks = rows.len() / width * width.div_ceil(SIZE);
    let (mut bytes, mut scales) =
        (Vec::with_capacity(blocks * SIZE / 2), Vec::with_capacity(blocks));
    for row in rows.chunks_exact(width) {
        for part in row.chunks(SIZE) {
            let mut block = [0.0; SIZE];
            block[..part.len()].copy_from_slice(part);
            let scale = best_scale(&block);
            scales.push(scale);
            bytes.extend(
                block
                    .chunks_exact(2)
                    .map(|pair| nibble(pair[0], scale) | nibble(pair[1], scale) << 4),
            );
        }
    }
    (bytes, scales)
}

/// The scale with the least squared error; 1 for a block of zeros.
fn best_scale(block: &[f32; SIZE]) -> f32 {
    let largest = block.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    if largest == 0.0 {
        return 1.0;
    }
    let tried = SHRINKS.map(|shrink| {
        let scale = shrink * largest / -MIDDLE;
        (squared_error(block, scale), scale)
    });
    tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, scale)| scale)
}

/// In lanes, which a compiler may compute at once.
fn squared_error(block: &[f32; SIZE], scale: f32) -> f32 {
    let inverse = scale.recip();
    let mut lanes = [0.0; 8];
    for part in block.chunks_exact(lanes.len()) {
        for (sum, value) in lanes.iter_mut().zip(part) {
            let error = value - scale * (steps(*value, inverse) - MIDDLE);
            *sum += error * error;
        }
    }
    lanes.iter().sum()
}

/// A weight in steps, 0 to 15.
fn steps(value: f32, inverse: f32) -> f32 {
    nearest((value * inverse + MIDDLE).clamp(0.0, 15.0))
}

fn nibble(value: f32, scale: f32) -> u8 {
    steps(value, scale.recip()) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restored(bytes: &[u8], scales: &[f32]) -> Vec<f32> {
        let values = bytes
            .iter()
            .flat_map(|byte| [byte & 15, byte >> 4])
            .map(|value| f32::from(value) - MIDDLE);
        values.enumerate().map(|(at, value)| value * scales[at / SIZE]).collect()
    }

    #[test]
    fn whole_steps_are_exact_and_rows_are_filled_up() {
        let row: Vec<f32> = (0..40).map(|at| 0.5 * (f32::from(at as u8 % 16) - 8.0)).collect();
        let (bytes, scales) = quantize(&row, 40);
        assert_eq!((bytes.len(), &scales), (32, &vec![0.5; 2]));
        assert_eq!(restored(&bytes, &scales)[..40], row);
        assert_eq!(restored(&bytes, &scales)[40..], [0.0; 24]);
        assert_eq!(bytes[..2], [0x10, 0x32]); // -8 and -7, then -6 and -5
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let (bytes, scales) = quantize(&[0.0; SIZE], SIZE);
        assert_eq!((restored(&bytes, &scales), scales), (vec![0.0; SIZE], vec![1.0]));
    }

    proptest! {
        /// No scale is worse than the whole range's, whose error is at most half a step, or one at
        /// the open end.
        #[test]
        fn errors_are_bounded(row in proptest::collection::vec(-10f32..10.0, SIZE)) {
            let (bytes, scales) = quantize(&row, SIZE);
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let square = |a: &f32, b: &f32| (a - b).powi(2);
            let restored = restored(&bytes, &scales);
            let error: f32 = restored.iter().zip(&row).map(|(a, b)| square(a, b)).sum();
            prop_assert!(error <= SIZE as f32 * (largest / 8.0).powi(2) + 1e-6);
        }
    }
}
