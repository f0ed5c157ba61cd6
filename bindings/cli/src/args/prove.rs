//! The flags of `prove`, which this command gives to another process of itself.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::{Candidate, Stage};
use pocketmuse_package::{Error, ErrorKind, Result};

use super::{package::PackageArgs, values::one_of};

/// The flags of `prove`.
#[derive(Clone, Debug, Args)]
pub struct ProveArgs {
    /// Which package, and who is proved
    #[command(flatten)]
    pub package: PackageArgs,
    /// The stage
    #[arg(long, value_parser = one_of(Stage::ALL, Stage::name))]
    pub stage: Stage,
    /// Rows of tokens
    #[arg(long)]
    pub rows: usize,
    /// Columns of tokens
    #[arg(long)]
    pub columns: usize,
    /// Guidance branches
    #[arg(long)]
    pub branches: usize,
    /// Compile the stage instead, and work in this folder
    #[arg(long)]
    pub into: Option<PathBuf>,
}

impl ProveArgs {
    /// What is proved.
    pub(crate) fn candidate(&self) -> Result<Candidate> {
        let Self { package, stage, rows, columns, branches, into: _ } = self;
        let (others, threads) = (package.run.others(), package.run.threads);
        let (Some(provider), Some(threads)) = (others.get(stage), threads) else {
            let detail = "expected a provider of the stage, and threads, found none";
            return Err(Error::new(ErrorKind::BadRequest, "prove", detail));
        };
        let (grid, branches) = ([*rows, *columns], *branches);
        Ok(Candidate { stage: *stage, provider: *provider, grid, branches, threads })
    }
}
