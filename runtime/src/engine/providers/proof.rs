//! Run before trusted: what a provider makes of inputs drawn from a pinned seed, at the very shapes
//! of the request, against what the CPU makes of them.

use std::time::{Duration, Instant};

use pocketmuse_package::{Dtype, Error, ErrorKind, FileEntry, Result, StageEntry};

pub(crate) use super::inputs::{Made, earlier};
use super::{
    inputs::{self, Inputs, Values},
    target::Sizes,
    tolerance::Tolerance,
};
use crate::engine::session::{Session, Tensor};

/// What a verdict depends on here.
pub(crate) fn version(tolerance: Tolerance) -> String {
    format!("{} {tolerance:?}", inputs::version())
}

/// A stage runs so often in a proof, at most, and no more after so long: what it takes is the median.
const MOST_RUNS: usize = 5;
const LONG: Duration = Duration::from_millis(500);

/// Values of all outputs that are kept beside a context, at most, in 4 bytes each.
const MOST_VALUES: usize = 24_000;

/// Inputs, and what the CPU makes of them.
pub(crate) struct Reference {
    inputs: Inputs,
    /// In the order of the outputs.
    values: Vec<Values>,
    /// Of each output only so many values are known: see [`Values::some`].
    most: usize,
    /// What one run takes, where the CPU is here.
    pub(crate) run: Option<Duration>,
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
        let (made, run) = run(cpu, &inputs)?;
        let values = made.into_iter().map(Values::of).collect::<Result<_>>()?;
        Ok(Self { inputs, values, most: usize::MAX, run: Some(run) })
    }

    /// What the CPU made of the same inputs elsewhere: see [`Self::into_rows`].
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if these are not as many rows as the outputs of `entry` have.
    pub(crate) fn of_rows(
        entry: &StageEntry,
        (sizes, made): (Sizes, &Made),
        (file, rows): (&FileEntry, &[u8]),
    ) -> Result<Self> {
        let (most, mut left) = (most_values(entry.outputs.len()), rows);
        let wrong = |bytes: usize| {
            let detail = format!("expected {bytes} bytes of rows, found {}", rows.len());
            Error::new(ErrorKind::PackageDamaged, file.path.as_str(), detail)
        };
        let counts = entry.outputs.iter().map(|spec| {
            let count = inputs::shape(spec, sizes).iter().product::<usize>().min(most);
            (spec.dtype, count)
        });
        let counts: Vec<_> = counts.collect();
        let expected = 4 * counts.iter().map(|(_, count)| count).sum::<usize>();
        let mut values = Vec::new();
        for (dtype, count) in counts {
            let (these, rest) = left.split_at_checked(4 * count).ok_or_else(|| wrong(expected))?;
            let words = these.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
            values.push(match dtype {
                Dtype::F32 | Dtype::F16 => Values::Floats(words.map(f32::from_le_bytes).collect()),
                _ => Values::Integers(words.map(|word| i32::from_le_bytes(word).into()).collect()),
            });
            left = rest;
        }
        if !left.is_empty() {
            return Err(wrong(expected));
        }
        Ok(Self { inputs: Inputs::of(entry, sizes, made), values, most, run: None })
    }

    /// Some values of each output, for who has no graph to compute them: f32 or i32, little endian.
    pub(crate) fn into_rows(self) -> Vec<u8> {
        let most = most_values(self.values.len());
        let words = self.values.into_iter().flat_map(|values| match values.some(most) {
            Values::Floats(values) => values.into_iter().map(f32::to_le_bytes).collect::<Vec<_>>(),
            Values::Integers(values) => {
                let word = |value| i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes();
                values.into_iter().map(word).collect()
            }
        });
        words.flatten().collect()
    }

    /// The same, with the time that another session of the CPU takes for it.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`].
    pub(crate) fn timed(self, cpu: &mut Session) -> Result<Self> {
        let (_, run) = run(cpu, &self.inputs)?;
        Ok(Self { run: Some(run), ..self })
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
        let (made, run) = run(other, &self.inputs)?;
        let found = made.into_iter().zip(&self.values);
        for (spec, (found, expected)) in entry.outputs.iter().zip(found) {
            let found = Values::of(found)?.some(self.most);
            let (is_right, said) = compared(&found, expected, tolerance);
            if !is_right {
                let reason = format!("computes another {}: {said}", spec.name);
                return Ok(Compared { is_right, reason, run });
            }
            all.push(format!("{}: {said}", spec.name));
        }
        Ok(Compared { is_right: true, reason: all.join("; "), run })
    }
}

/// Values of each of so many outputs that are kept, at most.
fn most_values(outputs: usize) -> usize {
    MOST_VALUES / outputs.max(1)
}

/// What a session makes of the inputs, and the median of what its runs take.
fn run(session: &mut Session, inputs: &Inputs) -> Result<(Vec<Tensor>, Duration)> {
    let (first, mut times) = (Instant::now(), Vec::new());
    loop {
        let started = Instant::now();
        let made = inputs.run(session)?;
        times.push(started.elapsed());
        if times.len() == MOST_RUNS || first.elapsed() >= LONG {
            times.sort();
            return Ok((made, times[times.len() / 2]));
        }
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
    use pocketmuse_package::{Digest, Dim, Flavour, Stage, TensorSpec};

    use super::{super::tolerance::Precision, *};

    const SIZES: Sizes = Sizes { grid: [8, 8], branches: 2 };

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

    #[test]
    fn rows_come_back_and_others_are_refused() {
        let spec = |name: &str, dtype, extents: &[usize]| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: extents.iter().map(|extent| Dim::Fixed(*extent)).collect(),
        };
        let file = FileEntry { path: "a.rows".to_owned(), bytes: 0, sha256: Digest::of(b"") };
        let entry = StageEntry {
            graph: file.clone(),
            weights: None,
            held: None,
            inputs: Vec::new(),
            outputs: vec![spec("a", Dtype::F16, &[300, 100]), spec("b", Dtype::I64, &[3])],
            taps: Default::default(),
            contexts: Vec::new(),
            without_graph: false,
        };
        let (floats, integers): (Vec<_>, Vec<_>) =
            ((0..30_000).map(|at| at as f32 / 7.0).collect(), vec![-1, 0, 70_000]);
        let values = vec![Values::Floats(floats.clone()), Values::Integers(integers.clone())];
        let (inputs, run) = (Inputs::of(&entry, SIZES, &Made::default()), None);
        let rows = Reference { inputs, values, most: usize::MAX, run }.into_rows();
        assert!(rows.len() <= 100_000, "{}", rows.len());
        let made = (SIZES, &Made::default());
        let read = Reference::of_rows(&entry, made, (&file, &rows)).expect("as many as there are");
        let limit = Tolerance::of((Flavour::F32, Stage::Step), Precision::OfFlavour);
        let is_right = |floats: Vec<f32>, integers: Vec<i64>| {
            let found = [Values::Floats(floats), Values::Integers(integers)];
            let found = found.map(|values| values.some(read.most));
            found
                .iter()
                .zip(&read.values)
                .all(|(found, expected)| compared(found, expected, limit).0)
        };
        assert!(is_right(floats.clone(), integers.clone()));
        assert!(!is_right(floats.iter().map(|value| value * 1.01).collect(), integers.clone()));
        assert!(!is_right(floats, vec![-1, 0, 7]));
        for wrong in [&rows[1..], &rows[..4], &[], &[&rows[..], b"more"].concat()] {
            let error = Reference::of_rows(&entry, made, (&file, wrong)).err().expect("refused");
            assert_eq!((error.kind(), error.at()), (ErrorKind::PackageDamaged, "a.rows"));
            let expected = format!("expected {} bytes of rows, found {}", rows.len(), wrong.len());
            assert_eq!(error.detail(), expected);
        }
    }
}
