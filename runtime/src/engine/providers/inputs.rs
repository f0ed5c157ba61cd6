//! The inputs of a proof: drawn from a pinned seed, but for what a model is never given at random.
//! What earlier stages make is made by them, on the CPU; of values outside of measured ranges
//! integers make something else than floats do.

use std::collections::BTreeMap;

use pocketmuse_package::{Dim, Dtype, Result, Stage, StageEntry, TensorSpec};

use super::target::Sizes;
use crate::{
    engine::session::{Input, Session, Tensor},
    request::conditioning::{NUMBERS, sinusoids},
};

/// The seed of all inputs.
const SEED: u64 = 15;

/// Integers that are drawn: tokens and token ids that every model has.
const INTEGERS: u64 = 16;

/// The aesthetic score that models are told.
const SCORE: f32 = 6.0;

/// How much the prompt weighs where there is guidance. The more it does, the larger are errors of
/// both branches beside what they differ by: 10 makes nine times as much of them.
const GUIDANCE: f32 = 3.0;

/// What a verdict depends on here.
pub(super) fn version() -> String {
    format!("{SEED} {INTEGERS} {SCORE} {GUIDANCE}")
}

/// The values of a tensor.
pub(super) enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Values {
    pub(super) fn of(tensor: Tensor) -> Result<Self> {
        let tensor = tensor.to_f32()?;
        match tensor.as_i64() {
            Ok(integers) => Ok(Self::Integers(integers.to_vec())),
            Err(_) => Ok(Self::Floats(tensor.as_f32()?.to_vec())),
        }
    }

    /// At most so many of them, as far from each other as they can be.
    pub(super) fn some(self, most: usize) -> Self {
        fn some<T: Copy>(values: Vec<T>, most: usize) -> Vec<T> {
            if values.len() <= most {
                return values;
            }
            let all = values.len() as u64;
            (0..most as u64).map(|at| values[(at * all / most as u64) as usize]).collect()
        }
        match self {
            Self::Floats(values) => Self::Floats(some(values, most)),
            Self::Integers(values) => Self::Integers(some(values, most)),
        }
    }

    /// The same values, then others of the same type.
    fn append(&mut self, others: Self) {
        match (self, others) {
            (Self::Floats(values), Self::Floats(others)) => values.extend(others),
            (Self::Integers(values), Self::Integers(others)) => values.extend(others),
            _ => {}
        }
    }
}

/// The stages whose outputs `stage` is given, in their order.
pub(crate) fn earlier(stage: Stage) -> &'static [Stage] {
    match stage {
        Stage::TextEncoder | Stage::Decoder | Stage::Encoder => &[],
        Stage::Prologue => &[Stage::TextEncoder],
        Stage::Step => &[Stage::TextEncoder, Stage::Prologue],
    }
}

/// What earlier stages made, by the names that later ones know it by.
#[derive(Default)]
pub(crate) struct Made(BTreeMap<String, Values>);

impl Made {
    /// Runs the CPU's session of an earlier stage, as often as there are branches if it takes one
    /// prompt at a time.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`].
    pub(crate) fn add(
        &mut self,
        cpu: &mut Session,
        (stage, entry): (Stage, &StageEntry),
        sizes: Sizes,
    ) -> Result<()> {
        let times = if stage == Stage::TextEncoder { sizes.branches as u64 } else { 1 };
        for time in 0..times {
            let outputs = Inputs::drawn(entry, sizes, (SEED + time, self)).run(cpu)?;
            for (spec, output) in entry.outputs.iter().zip(outputs) {
                let values = Values::of(output)?;
                match self.0.get_mut(&spec.name) {
                    Some(rows) if time > 0 => rows.append(values),
                    _ => drop(self.0.insert(spec.name.clone(), values)),
                }
            }
        }
        Ok(())
    }
}

/// A value for each input of a graph, with its shape.
pub(super) struct Inputs(Vec<(String, Vec<usize>, Values)>);

impl Inputs {
    /// The inputs of `entry`, given what was `made` before.
    pub(super) fn of(entry: &StageEntry, sizes: Sizes, made: &Made) -> Self {
        Self::drawn(entry, sizes, (SEED, made))
    }

    fn drawn(entry: &StageEntry, sizes: Sizes, (seed, made): (u64, &Made)) -> Self {
        let mut state = seed;
        let mut draw = move || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let inputs = entry.inputs.iter().map(|spec| {
            let shape = shape(spec, sizes);
            let values = value(spec, &shape, sizes, (made, &mut draw));
            (spec.name.clone(), shape, values)
        });
        Self(inputs.collect())
    }

    /// What a session makes of them.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`].
    pub(super) fn run(&self, session: &mut Session) -> Result<Vec<Tensor>> {
        let inputs = self.0.iter().map(|(name, shape, values)| match values {
            Values::Floats(values) => (name.as_str(), Input::F32(shape, values)),
            Values::Integers(values) => (name.as_str(), Input::I64(shape, values)),
        });
        session.run(&inputs.collect::<Vec<_>>())
    }
}

pub(super) fn shape(spec: &TensorSpec, sizes: Sizes) -> Vec<usize> {
    let extent = |dim| sizes.extent(dim).unwrap_or(1);
    spec.shape.0.iter().map(extent).collect()
}

/// The values of one input: made before, known, or drawn.
fn value(
    spec: &TensorSpec,
    shape: &[usize],
    sizes: Sizes,
    (made, draw): (&Made, &mut dyn FnMut() -> u64),
) -> Values {
    let count: usize = shape.iter().product();
    match made.0.get(&spec.name) {
        Some(Values::Floats(values)) if values.len() == count => {
            return Values::Floats(values.clone());
        }
        Some(Values::Integers(values)) if values.len() == count => {
            return Values::Integers(values.clone());
        }
        _ => {}
    }
    let [width, height] =
        ["8 * width", "8 * height"].map(|name| sizes.extent(&Dim::from(name)).unwrap_or(0));
    let numbers = [width as f32, height as f32, 0.0, 0.0, SCORE];
    let rows = |row: &[f32]| row.repeat(count / row.len().max(1));
    match (spec.dtype, spec.name.as_str()) {
        (Dtype::F32 | Dtype::F16, "micro_conds") => Values::Floats(rows(&numbers)),
        (Dtype::F32 | Dtype::F16, "sinusoids") => {
            let width = shape.last().map_or(0, |width| width / NUMBERS);
            Values::Floats(rows(&sinusoids(numbers, width)))
        }
        (Dtype::F32 | Dtype::F16, "guidance") if count == 2 => {
            Values::Floats(vec![1.0 - GUIDANCE, GUIDANCE])
        }
        (Dtype::F32 | Dtype::F16, "guidance") => Values::Floats(vec![1.0; count]),
        (Dtype::F32 | Dtype::F16, _) => {
            let unit = |word: u64| (word >> 40) as f32 / (1 << 24) as f32;
            Values::Floats((0..count).map(|_| unit(draw())).collect())
        }
        (_, "positions") => Values::Integers((0..count as i64).collect()),
        _ => Values::Integers((0..count).map(|_| (draw() % INTEGERS) as i64).collect()),
    }
}
