//! What depends on the prompt and the micro-conditioning alone, computed once for all steps.

use pocketmuse_package::{Dim, Error, ErrorKind, Result, Stage, StageEntry, TensorSpec};

use super::{Network, text_encoder::Text};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
};

/// Numbers of the micro-conditioning.
const NUMBERS: usize = 5;

/// The input that is these numbers.
const MICRO_CONDS: &str = "micro_conds";

/// The input that is their sinusoids.
const SINUSOIDS: &str = "sinusoids";

/// The prologue, loaded.
pub struct Prologue {
    session: Session,
    names: Vec<String>,
    /// Values for each number of the micro-conditioning, if the graph takes their sinusoids.
    sinusoids: Option<usize>,
}

/// What every step is given besides tokens: values by their names in the step graph, one row for
/// each guidance branch.
pub struct Primed {
    /// By their names in the step graph, `[branches, ...]` each.
    pub values: Vec<(String, Tensor)>,
    /// Guidance branches: 2 with a negative prompt and a prompt, else 1.
    pub branches: usize,
}

impl Network for Prologue {
    const STAGE: Stage = Stage::Prologue;

    fn of(package: &Package, session: Session) -> Result<Self> {
        let StageEntry { inputs, outputs, .. } = package.entry(Self::STAGE)?;
        let names = outputs.iter().map(|spec| spec.name.clone()).collect();
        let taken = inputs.iter().find(|spec| spec.name == SINUSOIDS);
        let width = |spec: &TensorSpec| match spec.shape.0.last() {
            Some(Dim::Fixed(width)) => width / NUMBERS,
            _ => 0,
        };
        Ok(Self { session, names, sinusoids: taken.map(width) })
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Prologue {
    /// Primes one guidance branch for each row of `text`.
    ///
    /// `micro_conds` are width, height, the two crop coordinates and the aesthetic score, the same
    /// for all branches.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails.
    pub fn prime(&mut self, text: &Text, micro_conds: [f32; 5]) -> Result<Primed> {
        let branches = text.hidden.shape().first().copied().unwrap_or(0);
        let (name, row) = match self.sinusoids {
            None => (MICRO_CONDS, micro_conds.to_vec()),
            Some(width) => (SINUSOIDS, sinusoids(micro_conds, width)),
        };
        let (width, rows) = (row.len(), row.repeat(branches));
        let outputs = self.session.run(&[
            ("hidden", Input::Tensor(&text.hidden)),
            ("pooled", Input::Tensor(&text.pooled)),
            (name, Input::F32(&[branches, width], &rows)),
        ])?;
        if let Some(output) =
            outputs.iter().find(|output| output.shape().first() != Some(&branches))
        {
            let detail = format!("expected {branches} branches, found {:?}", output.shape());
            return Err(Error::new(ErrorKind::EngineFailed, "prologue", detail));
        }
        Ok(Primed { values: self.names.iter().cloned().zip(outputs).collect(), branches })
    }

    /// Tapped values of the last run.
    #[cfg(feature = "measure")]
    pub fn taps(&self) -> &std::collections::BTreeMap<String, Tensor> {
        self.session.taps()
    }
}

/// Each number `v` as `[cos(v f_0) .. | sin(v f_0) ..]`, `f_k = 10000^(-k / half)`, `width` values of
/// each. As the exporter's graph of f32 computes them.
fn sinusoids(numbers: [f32; NUMBERS], width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |k: usize| (-(10000f64.ln() as f32) * k as f32 / half as f32).exp();
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let waves = |number: f32| {
        let angles = frequencies.iter().map(move |frequency| number * frequency);
        angles.clone().map(f32::cos).chain(angles.map(f32::sin))
    };
    numbers.into_iter().flat_map(waves).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_are_those_of_the_reference() {
        // numpy: f = exp(-log(10000) * arange(2) / 2); concatenate([cos(512 * f), sin(512 * f)])
        let found = sinusoids([512.0, 0.0, 0.0, 0.0, 6.0], 4);
        let expected = [-0.996_833_4, 0.396_416_66, 0.079_518_49, -0.918_070_73];
        assert_eq!(found.len(), 20);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}"); // of an angle of 512
        }
        assert_eq!(found[4..8], [1.0, 1.0, 0.0, 0.0]);
    }
}
