//! Another provider than the CPU shows that it computes a stage as the CPU does: in this process, or
//! where the caller says. What it shows is kept with what is known of the package.

use std::sync::Arc;

use pocketmuse_package::{Result, Stage};

use crate::{
    engine::{
        loading::Loading,
        providers::{Assignment, Sizes},
    },
    memory::measured::{self, Growth},
    package::{
        How, Package,
        prepared::{Need, Verdict},
    },
    request::{Cancel, Job, Provider},
};

/// A stage that another provider than the CPU is to compute, for one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which stage.
    pub stage: Stage,
    /// Who is to compute it.
    pub provider: Provider,
    /// Rows and columns of tokens, those around the image included.
    pub grid: [usize; 2],
    /// Guidance branches: 2 where an image is guided, else 1.
    pub branches: usize,
    /// Threads to compute with.
    pub threads: usize,
}

impl Candidate {
    pub(super) fn of(package: &Package, job: &Job, (stage, threads): (Stage, usize)) -> Self {
        let (Sizes { grid, branches }, provider) = (Sizes::of(job), package.provider(stage));
        Self { stage, provider, grid, branches, threads }
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes { grid: self.grid, branches: self.branches }
    }
}

/// Has candidates proved somewhere else than in this process.
#[derive(Clone)]
pub(super) struct Prover(pub(super) Arc<Prove>);

pub(super) type Prove = dyn Fn(&Candidate, &Cancel) -> Result<Option<Verdict>> + Send + Sync;

/// Has a candidate proved: by `prover`, or here, where a note of it is left should the process not
/// come to its end.
///
/// # Errors
///
/// `ProviderFailed` if it does not take the whole stage, fails, computes something else, or does not
/// come to an end; `Cancelled` if it is to stop; else as for [`Package::load_as`].
pub(super) fn prove(
    package: &Package,
    (candidate, loading): (Candidate, Loading),
    (prover, cancel): (Option<&Prover>, &Cancel),
) -> Result<()> {
    let about = (candidate.stage, candidate.sizes());
    let elsewhere = prover.map(|Prover(prove)| prove(&candidate, cancel)).transpose()?;
    let verdict = match elsewhere.flatten() {
        Some(verdict) => verdict,
        None => {
            let _marker = package.mark(about)?;
            shown(package, (candidate, loading), cancel)?
        }
    };
    package.keep(about, verdict.clone())?;
    let Candidate { provider, stage, .. } = candidate;
    if verdict.is_right {
        return Ok(());
    }
    Err(Assignment { provider, stage }.failed(&verdict.reason))
}

/// What a candidate shows in this process, and what that takes.
///
/// # Errors
///
/// As for [`prove`].
pub(super) fn shown(
    package: &Package,
    (candidate, loading): (Candidate, Loading),
    cancel: &Cancel,
) -> Result<Verdict> {
    let (stage, sizes) = (candidate.stage, candidate.sizes());
    let (threads, by) = (candidate.threads, candidate.provider);
    let how = How { threads, by, sizes: Some(sizes), ..package.how(loading) };
    let yardstick = package.yardstick((stage, sizes), how, cancel)?;
    measured::give_back();
    let (shown, growth) = measured::growth_of(|| package.show(stage, how, (&yardstick, cancel)));
    let least = package.entry(stage)?.weights.as_ref().map_or(0, |weights| weights.bytes);
    let need = growth.map(|Growth { held_bytes, peak_bytes }| {
        let held_bytes = held_bytes.max(least); // others in this process may have freed some
        Need { held_bytes, peak_bytes: peak_bytes.max(held_bytes) }
    });
    let verdict = shown?.verdict(need);
    measured::give_back();
    Ok(verdict)
}
