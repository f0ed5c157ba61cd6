//! Plans jobs for one budget, with the threads that are wished. Knows no pipeline.

use pocketmuse_package::Result;

use crate::{
    engine::providers::Sizes,
    memory::plan::Plan,
    package::Package,
    request::{Budget, Job, Options, Providers},
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
    pub(super) fn plan(&self, package: &Package, job: &Job) -> Result<Plan> {
        self.plan_of(package, job, &self.options)
    }

    /// The same, and `providers` compute the stages.
    pub(super) fn computed_by(&self, providers: Providers) -> Self {
        Self { options: Options { providers, ..self.options.clone() }, ..*self }
    }

    /// The plan of a job that is not tried where the budget is too small.
    ///
    /// # Errors
    ///
    /// `NotEnoughMemory` then; else as for [`Plan::new`].
    pub(super) fn plan_that_fits(&self, package: &Package, job: &Job) -> Result<Plan> {
        let memory = Budget::Bytes(self.budget_bytes);
        self.plan_of(package, job, &Options { memory, ..self.options.clone() })
    }

    /// The plan of the same job with so many threads.
    ///
    /// # Errors
    ///
    /// As for [`Plan::new`].
    pub(super) fn plan_with(&self, package: &Package, job: &Job, threads: usize) -> Result<Plan> {
        let options = Options { threads: Some(threads), ..self.options.clone() };
        self.plan_of(package, job, &options)
    }

    fn plan_of(&self, package: &Package, job: &Job, options: &Options) -> Result<Plan> {
        let needs = package.needs(Sizes::of(job));
        Plan::within(package.manifest(), (job, &needs), options, self.budget_bytes)
    }
}
