//! Run before trusted: what a provider makes of inputs drawn from a pinned seed, at the very shapes
//! of the request, against what the CPU makes of them.

use std::time::{Duration, Instant};

use pocketmuse_package::{Dim, Dtype, Result, StageEntry};

use super::{target::Sizes, tolerance::Tolerance};
use crate::engine::session::{Input, Session, Tensor};

/// The seed of all inputs.
const SEED: u64 = 15;

/// Integers that are drawn: tokens and token ids that every model has.
const INTEGERS: u64 = 16;

/// What a verdict depends on here.
pub(crate) fn version(tolerance: Tolerance) -> String {
    format!("{SEED} {INTEGERS} {tolerance:?}")
}

/// A stage runs so often in a proof, at most, and no more after so long: what it takes is the median.
const MOST_RUNS: usize = 5;
const LONG: Duration = Duration::from_millis(500);

/// What the CPU makes of the inputs.
pub(crate) struct Reference {
    /// In the order of the outputs.
    values: Vec<Values>,
    /// What one run takes.
    pub(crate) run: Duration,
}

/// How what a provider makes compares with that.
pub(crate) struct Compared {
    /// Whether it may be used.
    pub(crate) is_right: bool,
    /// How far it is off, or what is wrong, to be said of the provider.
    pub(crate) reason: String,
    /// What one run takes.
    pub(crate) run: Duration,
}

impl Reference {
    /// Runs the CPU's session of `entry`.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`].
    pub(crate) fn new(cpu: &mut Session, entry: &StageEntry, sizes: Sizes) -> Result<Self> {
        let (made, run) = run(cpu, entry, sizes)?;
        let values = made.into_iter().map(Values::of).collect::<Result<_>>()?;
        Ok(Self { values, run })
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
        (tolerance, sizes): (Tolerance, Sizes),
    ) -> Result<Compared> {
        let mut all = Vec::new();
        let (made, run) = run(other, entry, sizes)?;
        let found = made.into_iter().zip(&self.values);
        for (spec, (found, expected)) in entry.outputs.iter().zip(found) {
            let (is_right, said) = compared(&Values::of(found)?, expected, tolerance);
            if !is_right {
                let reason = format!("computes another {}: {said}", spec.name);
                return Ok(Compared { is_right, reason, run });
            }
            all.push(format!("{}: {said}", spec.name));
        }
        Ok(Compared { is_right: true, reason: all.join("; "), run })
    }
}

/// What a session makes of the inputs that are drawn, and the median of what its runs take.
fn run(session: &mut Session, entry: &StageEntry, sizes: Sizes) -> Result<(Vec<Tensor>, Duration)> {
    let drawn = drawn(entry, sizes);
    let inputs = drawn.iter().map(|(name, shape, values)| match values {
        Values::Floats(values) => (*name, Input::F32(shape, values)),
        Values::Integers(values) => (*name, Input::I64(shape, values)),
    });
    let inputs = inputs.collect::<Vec<_>>();
    let (first, mut times) = (Instant::now(), Vec::new());
    loop {
        let started = Instant::now();
        let made = session.run(&inputs)?;
        times.push(started.elapsed());
        if times.len() == MOST_RUNS || first.elapsed() >= LONG {
            times.sort();
            return Ok((made, times[times.len() / 2]));
        }
    }
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Values {
    fn of(tensor: Tensor) -> Result<Self> {
        let tensor = tensor.to_f32()?;
        match tensor.as_i64() {
            Ok(integers) => Ok(Self::Integers(integers.to_vec())),
            Err(_) => Ok(Self::Floats(tensor.as_f32()?.to_vec())),
        }
    }
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
    use pocketmuse_package::Flavour;

    use super::{super::tolerance::Precision, *};

    #[test]
    fn rubbish_of_the_right_size_is_seen() {
        let expected: Vec<f32> = (0..64).map(|value| (value as f32).sin()).collect();
        let rubbish: Vec<f32> = (0..64).map(|value| (value as f32).cos()).collect();
        let near: Vec<f32> = expected.iter().map(|value| value * (1.0 + 2e-5)).collect();
        let bf16: Vec<f32> = expected.iter().map(|value| value * (1.0 + 5e-3)).collect();
        let limit = Tolerance::of(Flavour::F32, Precision::OfFlavour);
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
        let limit = Tolerance::of(Flavour::F32, Precision::Bf16);
        let is_right = |found: &[f32]| compared(&Values::Floats(found.to_vec()), &cpu, limit).0;
        assert!(is_right(&bf16), "which was asked for");
        assert!(!is_right(&rubbish) && !is_right(&broken) && !is_right(&[0.0; 64]));
    }
}
