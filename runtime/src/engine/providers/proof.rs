//! Run before trusted: what a provider makes of inputs drawn from a pinned seed, at the very shapes
//! of the request, against what the CPU makes of them.

use pocketmuse_package::{Dim, Dtype, Flavour, Result, StageEntry};

use super::target::{Sizes, Target};
use crate::engine::session::{Input, Session, Tensor};

/// The seed of all inputs.
const SEED: u64 = 15;

/// Integers that are drawn: tokens and token ids that every model has.
const INTEGERS: u64 = 16;

/// The share of integers that are equal, at least: OpenVINO's encoder in bf16 reached 98.8 %, so
/// two tokens of 256 may be ties that fall otherwise.
const EQUAL: f64 = 0.99;

/// The most that outputs may differ: the length of the difference over that of the CPU's.
fn tolerance(flavour: Flavour) -> f64 {
    match flavour {
        Flavour::F32 => 1e-3, // f32 sums in another order: 2e-5; bf16, which must fail: 5e-3
        _ => 2e-2,            // halves: 1.1e-2 was found; rubbish is near 1
    }
}

/// Runs both and compares.
///
/// # Errors
///
/// `ProviderFailed` if they differ by more than is tolerated, or the provider fails; `EngineFailed`
/// if the CPU does.
pub(crate) fn prove(
    (other, target): (&mut Session, &Target<'_>),
    cpu: &mut Session,
    (entry, flavour): (&StageEntry, Flavour),
) -> Result<()> {
    let drawn = drawn(entry, target.sizes);
    let inputs = drawn.iter().map(|(name, shape, values)| match values {
        Values::Floats(values) => (*name, Input::F32(shape, values)),
        Values::Integers(values) => (*name, Input::I64(shape, values)),
    });
    let inputs: Vec<_> = inputs.collect();
    let (found, expected) = (other.run(&inputs)?, cpu.run(&inputs)?);
    for (spec, (found, expected)) in entry.outputs.iter().zip(found.into_iter().zip(expected)) {
        if let Some(wrong) = difference(found, expected, tolerance(flavour))? {
            let reason = format!("computes another {}: {wrong}", spec.name);
            return Err(target.assignment.failed(&reason));
        }
    }
    Ok(())
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// A value for each input.
fn drawn(entry: &StageEntry, sizes: Sizes) -> Vec<(&str, Vec<usize>, Values)> {
    let mut state = SEED;
    let mut draw = move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Named(name) => sizes.extent(name).unwrap_or(1),
    };
    let mut value = |spec: &pocketmuse_package::TensorSpec| {
        let shape: Vec<usize> = spec.shape.0.iter().map(extent).collect();
        let count = shape.iter().product();
        match spec.dtype {
            Dtype::F32 | Dtype::F16 => {
                let unit = |word: u64| (word >> 40) as f32 / (1 << 24) as f32;
                let floats = (0..count).map(|_| unit(draw())).collect();
                (shape, Values::Floats(floats))
            }
            _ if spec.name == "positions" => (shape, Values::Integers((0..count as i64).collect())),
            _ => {
                let integers = (0..count).map(|_| (draw() % INTEGERS) as i64).collect();
                (shape, Values::Integers(integers))
            }
        }
    };
    let inputs = entry.inputs.iter().map(|spec| {
        let (shape, values) = value(spec);
        (spec.name.as_str(), shape, values)
    });
    inputs.collect()
}

/// How two outputs differ, for people, if that is too much.
fn difference(found: Tensor, expected: Tensor, tolerance: f64) -> Result<Option<String>> {
    let (found, expected) = (found.to_f32()?, expected.to_f32()?);
    if let (Ok(found), Ok(expected)) = (found.as_i64(), expected.as_i64()) {
        let equal = found.iter().zip(expected).filter(|(found, expected)| found == expected);
        let share = equal.count() as f64 / expected.len().max(1) as f64;
        let is_right = found.len() == expected.len() && share >= EQUAL;
        let wrong = || format!("expected {EQUAL} of it as on the CPU, found {share:.3}");
        return Ok((!is_right).then(wrong));
    }
    let (found, expected) = (found.as_f32()?, expected.as_f32()?);
    Ok(relative(found, expected).filter(|wrong| wrong.is_nan() || *wrong > tolerance).map(
        |wrong| format!("expected a relative error of at most {tolerance}, found {wrong:.2e}"),
    ))
}

/// The length of the difference over that of what is expected; `None` of nothing.
fn relative(found: &[f32], expected: &[f32]) -> Option<f64> {
    if found.len() != expected.len() {
        return Some(f64::NAN);
    }
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum();
    let pairs = found.iter().zip(expected);
    let wrong: f64 = square(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let length: f64 = square(&mut expected.iter().map(|value| f64::from(*value)));
    (!expected.is_empty()).then(|| (wrong / length.max(f64::MIN_POSITIVE)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_of_the_right_size_is_seen() {
        let expected: Vec<f32> = (0..64).map(|value| (value as f32).sin()).collect();
        let rubbish: Vec<f32> = (0..64).map(|value| (value as f32).cos()).collect();
        let near: Vec<f32> = expected.iter().map(|value| value * (1.0 + 2e-5)).collect();
        let bf16: Vec<f32> = expected.iter().map(|value| value * (1.0 + 5e-3)).collect();
        let limit = tolerance(Flavour::F32);
        let is_right =
            |found: &[f32]| relative(found, &expected).is_some_and(|wrong| wrong <= limit);
        assert!(is_right(&expected) && is_right(&near));
        let mut broken = expected.clone();
        broken[3] = f32::NAN;
        for wrong in [&rubbish, &bf16, &broken, &vec![0.0; 64], &expected[1..].to_vec()] {
            assert!(!is_right(wrong));
        }
    }
}
