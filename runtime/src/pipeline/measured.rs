//! What measuring needs of a pipeline besides: its package, profiles, and the prologue's values without
//! a picture being made.

use std::path::Path;

use pocketmuse_package::Result;

use super::{Pipeline, Warm};
use crate::{package::Package, request::Resolved, stages::Primed};

impl Pipeline {
    /// The opened package.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// The same pipeline, whose stages write profiles into `folder`.
    pub fn with_profiles(self, folder: &Path) -> Self {
        Self { package: self.package.with_profiles(folder), ..self }
    }

    /// The prologue's values for `job`, and the weights of the guidance branches.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`].
    pub fn primed(&self, job: &Resolved) -> Result<(Primed, Vec<f32>)> {
        let mut warm = Warm::default();
        let mut turn = self.turn(job, &mut warm)?;
        let prompts = self.tokenize(job)?;
        let text = self.encode(&mut turn, &prompts)?;
        Ok((self.prime(&mut turn, text, job)?, prompts.guidance))
    }
}
