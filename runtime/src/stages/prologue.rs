//! What depends on the prompt and the micro-conditioning alone, computed once for all steps.

use pocketmuse_package::{Dim, Error, ErrorKind, Result, Stage, StageEntry, TensorSpec};

use super::{Network, text_encoder::Text};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
    request::conditioning::{NUMBERS, sinusoids},
};

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
