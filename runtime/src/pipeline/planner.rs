//! Plans jobs for one budget, with the threads that are wished. Knows no pipeline.

use pocketmuse_package::{Manifest, Result};

use crate::{
    memory::plan::Plan,
    request::{Job, Options},
};

/// How a package was opened, and what its budget came to then.
pub(super) struct Planner {
    options: Options,
    budget_bytes: u64,
}

impl Planner {
    pub(super) fn new(options: &Options) -> Self {
        Self { options: options.clone(), budget_bytes: options.memory.bytes() }
    }

    /// # Errors
    ///
    /// As for [`Plan::new`].
    pub(super) fn plan(&self, manifest: &Manifest, job: &Job) -> Result<Plan> {
        Plan::within(manifest, job, &self.options, self.budget_bytes)
    }

    /// The plan of the same job with so many threads.
    ///
    /// # Errors
    ///
    /// As for [`Plan::new`].
    pub(super) fn plan_with(&self, manifest: &Manifest, job: &Job, threads: usize) -> Result<Plan> {
        let options = Options { threads: Some(threads), ..self.options.clone() };
        Plan::within(manifest, job, &options, self.budget_bytes)
    }
}
