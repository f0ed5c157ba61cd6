//! Run before trusted: what a provider makes of inputs drawn from a pinned seed, at the very shapes
//! of the request, against what the CPU makes of them.

use pocketmuse_package::{Flavour, Result, Stage, StageEntry};

pub(crate) use super::inputs::{Made, earlier};
use super::{
    inputs::{self, Inputs, Values},
    target::Sizes,
};
use crate::engine::session::Session;

/// What a provider computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// What the graphs of the flavour are made for.
    OfFlavour,
    /// 16 bits, of which 8 are digits.
    Bf16,
}

/// How near a provider must be to the CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerance {
    /// The most that outputs may differ: the length of the difference over that of the CPU's.
    relative: f64,
    /// The share of integers that are equal, at least. Those that differ are near ties.
    equal: f64,
}

impl Tolerance {
    /// In brackets what was found with tiny-world, at 4 x 4 to 16 x 16 tokens.
    pub(crate) fn of((flavour, stage): (Flavour, Stage), precision: Precision) -> Self {
        let (relative, equal) = match (precision, flavour, stage) {
            // f32 sums in another order (2e-5); bf16, which must fail, has 5e-3.
            (Precision::OfFlavour, Flavour::F32, _) => (1e-3, 0.99),
            // OpenVINO's step 1e-2, its encoder 98.8 % of 256 tokens. Rubbish is near 1, and makes
            // one token in hundreds the same.
            (Precision::Bf16, ..) => (2e-2, 0.95),
            // QNN 7e-4, WebGPU, which adds in halves, 2.4e-3 and 3.1e-3.
            (_, Flavour::F16, Stage::TextEncoder | Stage::Decoder) => (5e-3, 0.99),
            // QNN's sigmoid moves by 2^-11: where it is small, much of it (3.4e-2).
            (_, Flavour::F16, Stage::Prologue) => (5e-2, 0.99),
            // QNN 9e-3, WebGPU 2.4e-2.
            (_, Flavour::F16, Stage::Step) => (5e-2, 0.99),
            // One token in 64 may be a near tie.
            (_, Flavour::F16, Stage::Encoder) => (2e-2, 0.98),
            // Against floats with the same weights. QNN 3e-4 of the text, OpenVINO 4e-3.
            (_, Flavour::Qdq, Stage::TextEncoder) => (1e-2, 0.99),
            // QNN 2.1e-2, where modulations are small.
            (_, Flavour::Qdq, Stage::Prologue) => (5e-2, 0.99),
            // The CPU 4e-3, QNN 9e-3; with products by u16, which must fail, 4.3e-2.
            (_, Flavour::Qdq, Stage::Step) => (3e-2, 0.99),
            // 50 dB (QNN 5e-4); with norms as of 4 x 4 tokens 2.5e-1.
            (_, Flavour::Qdq, Stage::Decoder) => (6e-3, 0.99),
            // Halves: 1.1e-2 was found; rubbish is near 1.
            _ => (2e-2, 0.99),
        };
        Self { relative, equal }
    }
}

/// What a verdict depends on here.
pub(crate) fn version(tolerance: Tolerance) -> String {
    format!("{} {tolerance:?}", inputs::version())
}

/// Inputs, and what the CPU makes of them, in the order of the outputs.
pub(crate) struct Reference {
    inputs: Inputs,
    outputs: Vec<Values>,
}

/// How what a provider makes compares with that.
pub(crate) struct Compared {
    /// Whether it may be used.
    pub(crate) is_right: bool,
    /// How far it is off, or what is wrong, to be said of the provider.
    pub(crate) reason: String,
}

impl Reference {
    /// Runs the CPU's session of `entry` with what earlier stages made.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`].
    pub(crate) fn new(
        cpu: &mut Session,
        entry: &StageEntry,
        (sizes, made): (Sizes, &Made),
    ) -> Result<Self> {
        let inputs = Inputs::of(entry, sizes, made);
        let outputs = inputs.run(cpu)?.into_iter().map(Values::of).collect::<Result<_>>()?;
        Ok(Self { inputs, outputs })
    }

    /// Runs another provider's session of the same, and compares.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`].
    pub(crate) fn compare(
        &self,
        other: &mut Session,
        entry: &StageEntry,
        tolerance: Tolerance,
    ) -> Result<Compared> {
        let mut all = Vec::new();
        let found = self.inputs.run(other)?.into_iter().zip(&self.outputs);
        for (spec, (found, expected)) in entry.outputs.iter().zip(found) {
            let (is_right, said) = compared(&Values::of(found)?, expected, tolerance);
            if !is_right {
                let reason = format!("computes another {}: {said}", spec.name);
                return Ok(Compared { is_right, reason });
            }
            all.push(format!("{}: {said}", spec.name));
        }
        Ok(Compared { is_right: true, reason: all.join("; ") })
    }
}

/// Whether two outputs are as good as equal, and by how much they differ, for people.
fn compared(found: &Values, expected: &Values, tolerance: Tolerance) -> (bool, String) {
    let Tolerance { relative: most, equal: least } = tolerance;
    match (found, expected) {
        (Values::Integers(found), Values::Integers(expected)) => {
            let equal = found.iter().zip(expected).filter(|(found, expected)| found == expected);
            let share = equal.count() as f64 / expected.len().max(1) as f64;
            let is_right = found.len() == expected.len() && share >= least;
            (is_right, format!("expected {least} of it as on the CPU, found {share:.3}"))
        }
        (Values::Floats(found), Values::Floats(expected)) => {
            let wrong = relative(found, expected).unwrap_or_default();
            let said = "expected a relative error of at most";
            (wrong <= most, format!("{said} {most}, found {wrong:.2e}"))
        }
        _ => (false, "expected values of the CPU's type, found another".to_owned()),
    }
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
        let step = (Flavour::F32, Stage::Step);
        let limit = Tolerance::of(step, Precision::OfFlavour);
        let cpu = Values::Floats(expected.clone());
        let is_right = |found: &[f32]| compared(&Values::Floats(found.to_vec()), &cpu, limit).0;
        assert!(is_right(&expected) && is_right(&near));
        let mut broken = expected.clone();
        broken[3] = f32::NAN;
        for wrong in [&rubbish, &bf16, &broken, &vec![0.0; 64], &expected[1..].to_vec()] {
            assert!(!is_right(wrong));
        }
        let tokens = Values::Integers(vec![7; 100]);
        let others = |count: usize| {
            let others = (0..100).map(|at| if at < count { 8 } else { 7 }).collect();
            compared(&Values::Integers(others), &tokens, limit).0
        };
        assert!(others(0) && others(1) && !others(2));
        assert!(!compared(&cpu, &tokens, limit).0 && !compared(&tokens, &cpu, limit).0);
        let limit = Tolerance::of(step, Precision::Bf16);
        let is_right = |found: &[f32]| compared(&Values::Floats(found.to_vec()), &cpu, limit).0;
        assert!(is_right(&bf16), "which was asked for");
        assert!(!is_right(&rubbish) && !is_right(&broken) && !is_right(&[0.0; 64]));
    }
}
