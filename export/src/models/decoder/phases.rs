//! An upsample and the convolution after it as four small convolutions.

use crate::{
    builder::Conv,
    checkpoint::{Weight, Weights},
    error::Result,
};

/// The four 2 x 2 kernels that an upsample and a convolution are, by row and column in a 2 x 2
/// block of pixels.
pub(super) struct Phases {
    pub(super) kernels: [[Weight; 2]; 2],
    pub(super) bias: Weight,
}

impl Phases {
    pub(super) fn of(weights: &Weights, channels: usize) -> Result<Self> {
        let kernel = weights.get("conv.weight", &[channels, channels, 3, 3])?;
        let bias = weights.get("conv.bias", &[channels])?;
        Ok(Self {
            kernels: [0, 1].map(|row| [0, 1].map(|column| fold(&kernel, row, column))),
            bias,
        })
    }

    /// What is added around the small grid: pixels at even places look back by one, those at odd
    /// places ahead.
    pub(super) fn conv(row: usize, column: usize) -> Conv {
        let (row, column) = (row as i64, column as i64);
        Conv { pads: [1 - row, 1 - column, row, column], ..Conv::same(0) }
    }
}

/// The 2 x 2 kernel that a 3 x 3 kernel becomes for one place in the 2 x 2 block. Of the three
/// upsampled pixels that a kernel covers along an axis, two are copies of one pixel: the last two
/// at even places, the first two at odd.
fn fold(kernel: &Weight, row: usize, column: usize) -> Weight {
    let (outputs, inputs) = (kernel.shape()[0], kernel.shape()[1]);
    let target = |place: usize, tap: usize| if place == 0 { tap.div_ceil(2) } else { tap / 2 };
    kernel.map(&[outputs, inputs, 2, 2], move |values| {
        let mut folded = vec![0.0; outputs * inputs * 4];
        for (kernel, folded) in values.chunks_exact(9).zip(folded.chunks_exact_mut(4)) {
            for (tap, value) in kernel.iter().enumerate() {
                folded[2 * target(row, tap / 3) + target(column, tap % 3)] += value;
            }
        }
        folded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A convolution of one channel of `size x size` pixels with zeros around, by the definition.
    fn convolve(x: &[f32], size: usize, kernel: &[f32], side: usize, before: isize) -> Vec<f32> {
        let at = |row: isize, column: isize| {
            let inside = (0..size as isize).contains(&row) && (0..size as isize).contains(&column);
            if inside { x[row as usize * size + column as usize] } else { 0.0 }
        };
        let cell = |row: usize, column: usize| -> f32 {
            let taps = (0..side * side).map(|tap| {
                let (down, right) =
                    ((tap / side) as isize - before, (tap % side) as isize - before);
                kernel[tap] * at(row as isize + down, column as isize + right)
            });
            taps.sum()
        };
        (0..size * size).map(|index| cell(index / size, index % size)).collect()
    }

    #[test]
    fn four_small_convolutions_are_an_upsample_and_a_convolution() {
        let kernel: Vec<f32> = (0..9).map(|tap| (tap * tap) as f32 - 7.0).collect();
        let x: Vec<f32> = (0..9).map(|pixel| (pixel * 5 % 7) as f32).collect();
        let large: Vec<f32> = (0..36).map(|pixel| x[pixel / 6 / 2 * 3 + pixel % 6 / 2]).collect();
        let expected = convolve(&large, 6, &kernel, 3, 1);
        let weight = Weight::constant(&[1, 1, 3, 3], kernel);
        for row in 0..2 {
            for column in 0..2 {
                let folded = fold(&weight, row, column).values().expect("memory");
                // Even places look back by one. Odd ones do not; shift the image by looking back
                // and reading ahead.
                for pixel in 0..9 {
                    let tap = |at: usize| {
                        let down = pixel / 3 + at / 2 + row;
                        let right = pixel % 3 + at % 2 + column;
                        let inside = (1..=3).contains(&down) && (1..=3).contains(&right);
                        if inside { folded[at] * x[(down - 1) * 3 + right - 1] } else { 0.0 }
                    };
                    let found: f32 = (0..4).map(tap).sum();
                    let wanted = expected[(2 * (pixel / 3) + row) * 6 + 2 * (pixel % 3) + column];
                    assert_eq!(found, wanted, "place {row} {column}, pixel {pixel}");
                }
            }
        }
    }
}
