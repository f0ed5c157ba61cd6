//! What depends on the prompt and the micro-conditioning alone, computed once for all steps.

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{Network, text_encoder::Text};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
};

/// The prologue, loaded.
pub struct Prologue {
    session: Session,
    names: Vec<String>,
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
        let outputs = &package.entry(Self::STAGE)?.outputs;
        Ok(Self { session, names: outputs.iter().map(|spec| spec.name.clone()).collect() })
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
        let micro_conds = micro_conds.repeat(branches);
        let outputs = self.session.run(&[
            ("hidden", Input::Tensor(&text.hidden)),
            ("pooled", Input::Tensor(&text.pooled)),
            ("micro_conds", Input::F32(&[branches, 5], &micro_conds)),
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
