//! Stages are compiled ahead for a chip: on a desktop, for phones that would take minutes.

use std::{collections::BTreeMap, path::Path};

use pocketmuse_package::{ContextEntry, Error, ErrorKind, Result};

use super::{Pipeline, proof::Candidate};
use crate::{
    engine::{loading::Loading, providers::contexts},
    memory::measured::{self, Growth},
    package::{How, ToCompile, prepared::Need},
    request::{Job, Provider},
};

/// What was compiled of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What the manifest says of it, size by size.
    pub contexts: Vec<ContextEntry>,
    /// What memory compiling took, where the system tells.
    pub need: Option<Need>,
}

impl Candidate {
    /// What the names in the stage's shapes stand for: candidates of which that is the same
    /// are compiled once.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the package lacks the stage.
    pub fn extents(&self, pipeline: &Pipeline) -> Result<BTreeMap<String, usize>> {
        contexts::extents(pipeline.package.entry(self.stage)?, self.sizes())
    }
}

impl Pipeline {
    /// What other providers than the CPU compute of `job`.
    ///
    /// # Errors
    ///
    /// As for [`Self::plan`].
    pub fn candidates(&self, job: &Job) -> Result<Vec<Candidate>> {
        let threads = self.plan_job(job)?.threads;
        let others = self.providers().into_iter().filter(|(_, by)| *by != Provider::Cpu);
        let candidate = |(stage, _)| Candidate::of(&self.package, job, (stage, threads));
        Ok(others.map(candidate).collect())
    }

    /// Compiles a stage ahead for the chip that the provider's options say, strictly, without running
    /// it, and adds it to the package. `candidates` are that stage for each size; several share one
    /// binary, which has the weights once. `work` is an empty folder on the package's disk. Whoever
    /// opens the package next has it; what was there for the same chip and size is replaced.
    ///
    /// It cannot be stopped while the provider compiles; another process can be.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a provider that compiles nothing ahead, or a stage without a graph;
    /// `ProviderFailed` if it does not take the whole stage; `BadRequest` if there is no candidate, if
    /// they are of several stages, if their provider is not the one that this pipeline has for the
    /// stage, or if the package was changed meanwhile; `NoSpace`; else as for [`Self::run`].
    pub fn compile(&self, candidates: &[Candidate], work: &Path) -> Result<Compiled> {
        let control = self.control.clone().unwrap_or_default();
        let _turn = self.turns.take(&control, || ())?;
        let of_one_stage = |one: &&Candidate| candidates.iter().all(|all| all.stage == one.stage);
        let first = candidates.first().filter(of_one_stage).ok_or_else(|| {
            let detail = "expected one stage for one or more sizes, found none or several";
            Error::new(ErrorKind::BadRequest, "candidates", detail)
        })?;
        let (package, Candidate { stage, threads, .. }) = (&self.package, *first);
        let prepared = |candidate: &Candidate| {
            let (by, sizes) = (candidate.provider, candidate.sizes());
            self.check_other(stage, by)?;
            let how = How { threads, by, sizes: Some(sizes), ..package.how(Loading::of(stage)) };
            let name = package.free_name(stage, sizes)?;
            let yardstick = package.yardstick((stage, sizes), how, control.canceller())?;
            Ok(ToCompile { sizes, yardstick, name })
        };
        let to_compile = candidates.iter().map(prepared).collect::<Result<Vec<_>>>()?;
        measured::give_back();
        let compile = || package.compile(stage, threads, to_compile, work);
        let (contexts, growth) = measured::growth_of(compile);
        let need = growth.map(|Growth { held_bytes, peak_bytes }| Need { held_bytes, peak_bytes });
        let contexts = contexts?;
        control.canceller().check()?;
        Ok(Compiled { contexts: package.add_contexts(stage, contexts, work)?, need })
    }
}
