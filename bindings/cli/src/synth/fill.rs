//! Random weights: one pinned generator, so that a seed gives the same bytes
//! on every machine. Knows values and dtypes, not networks.

use std::io::Write;

use half::{bf16, f16, slice::HalfFloatSliceExt};
use pocketmuse_package::{Dtype, Error, ErrorKind, Result};

/// What a tensor is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// The same value everywhere.
    Constant(f32),
    /// Bell-shaped values around 0 with this standard deviation, none beyond 3.5 of them.
    Random(f32),
}

/// Values made at a time.
const PIECE: usize = 1 << 14;

/// The standard deviation of the sum of four uniform 16-bit numbers: `sqrt(4 * (65536^2 - 1) /
/// 12)`.
const STD_OF_SUM: f64 = 37_837.227_2;

/// The weights of one tensor: SplitMix64 over a counter, keyed by the seed and the tensor's name,
/// so that a tensor's values depend on neither its neighbours nor their order.
pub struct Values {
    state: u64,
}

impl Values {
    /// The values of tensor `name` under `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        Self { state: name.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte))) }
    }

    /// Writes `count` values as `dtype`, little-endian.
    ///
    /// # Errors
    ///
    /// `BadRequest` if `dtype` is not a float; `Io` if `out` fails.
    pub fn write(
        mut self,
        out: &mut impl Write,
        count: usize,
        fill: Fill,
        dtype: Dtype,
    ) -> Result<()> {
        let mut values = vec![0f32; PIECE.min(count)];
        let mut bytes = Vec::with_capacity(PIECE * 4);
        let mut left = count;
        while left > 0 {
            let piece = &mut values[..left.min(PIECE)];
            self.fill(piece, fill);
            bytes.clear();
            encode(piece, dtype, &mut bytes)?;
            out.write_all(&bytes)
                .map_err(|error| Error::new(ErrorKind::Io, "", error.to_string()))?;
            left -= piece.len();
        }
        Ok(())
    }

    fn fill(&mut self, values: &mut [f32], fill: Fill) {
        match fill {
            Fill::Constant(value) => values.fill(value),
            Fill::Random(std) => {
                let scale = (f64::from(std) / STD_OF_SUM) as f32;
                values.iter_mut().for_each(|value| *value = self.bell() as f32 * scale);
            }
        }
    }

    /// The sum of four uniform 16-bit numbers, less its mean.
    fn bell(&mut self) -> i32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = mix(self.state);
        let lanes = [bits, bits >> 16, bits >> 32, bits >> 48].map(|lane| i32::from(lane as u16));
        lanes.into_iter().sum::<i32>() - 131_070
    }
}

/// SplitMix64's finalizer.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn encode(values: &[f32], dtype: Dtype, out: &mut Vec<u8>) -> Result<()> {
    match dtype {
        Dtype::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Dtype::Bf16 => {
            out.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()))
        }
        Dtype::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values); // several at a time where the CPU can
            out.extend(halves.iter().flat_map(|value| value.to_le_bytes()));
        }
        _ => {
            let detail = format!("expected f16, bf16 or f32, found {dtype}");
            return Err(Error::new(ErrorKind::BadRequest, "dtype", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, count: usize, fill: Fill) -> Vec<f32> {
        let mut bytes = Vec::new();
        Values::new(1, name).write(&mut bytes, count, fill, Dtype::F32).expect("memory");
        bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().expect("four")))
            .collect()
    }

    #[test]
    fn is_bell_shaped_with_the_std_asked_for() {
        let values = values("a", 1 << 20, Fill::Random(0.02));
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        let std = (values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()
            / values.len() as f64)
            .sqrt();
        // Five standard errors of the mean of a million; 68% of a bell is within one deviation.
        assert!(mean.abs() < 1e-4 && (std - 0.02).abs() < 1e-4, "mean {mean}, std {std}");
        let inside =
            values.iter().filter(|value| value.abs() < 0.02).count() as f64 / values.len() as f64;
        assert!((0.64..0.70).contains(&inside), "{inside} within one standard deviation");
    }

    #[test]
    fn differs_by_name_and_agrees_with_itself() {
        assert_eq!(values("a", 9, Fill::Random(1.0)), values("a", 9, Fill::Random(1.0)));
        assert_ne!(values("a", 9, Fill::Random(1.0)), values("b", 9, Fill::Random(1.0)));
        assert_eq!(values("a", 3, Fill::Constant(0.5)), [0.5; 3]);
    }

    #[test]
    fn halves_are_the_rounded_floats() {
        let exact = values("a", 1000, Fill::Random(0.3));
        for (dtype, tolerance) in [(Dtype::F16, 1e-3), (Dtype::Bf16, 8e-3)] {
            let mut bytes = Vec::new();
            Values::new(1, "a").write(&mut bytes, 1000, Fill::Random(0.3), dtype).expect("memory");
            for (exact, two) in exact.iter().zip(bytes.chunks_exact(2)) {
                let two = two.try_into().expect("two");
                let half = if dtype == Dtype::F16 {
                    f16::from_le_bytes(two).to_f32()
                } else {
                    bf16::from_le_bytes(two).to_f32()
                };
                assert!(
                    (half - exact).abs() <= tolerance * exact.abs() + 1e-6,
                    "{half} for {exact}"
                );
            }
        }
    }
}
