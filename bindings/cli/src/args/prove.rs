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
    /// Rows and columns of tokens, and guidance branches; several to compile
    #[arg(long, value_name = "ROWS,COLUMNS,BRANCHES", value_parser = extents, required = true)]
    pub size: Vec<[usize; 3]>,
    /// Compile the stage instead, and work in this folder
    #[arg(long)]
    pub into: Option<PathBuf>,
}

impl ProveArgs {
    /// What is proved or compiled: the stage for each size.
    pub(crate) fn candidates(&self) -> Result<Vec<Candidate>> {
        let Self { package, stage, size, into: _ } = self;
        let (others, threads) = (package.run.others(), package.run.threads);
        let (Some(provider), Some(threads)) = (others.get(stage), threads) else {
            let detail = "expected a provider of the stage, and threads, found none";
            return Err(Error::new(ErrorKind::BadRequest, "prove", detail));
        };
        let (stage, provider) = (*stage, *provider);
        let of_size = |[rows, columns, branches]: [usize; 3]| Candidate {
            stage,
            provider,
            grid: [rows, columns],
            branches,
            threads,
        };
        Ok(size.iter().copied().map(of_size).collect())
    }
}

/// Three numbers with commas.
fn extents(text: &str) -> std::result::Result<[usize; 3], String> {
    let numbers: std::result::Result<Vec<_>, _> = text.split(',').map(str::parse).collect();
    let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| "expected three numbers with commas".to_owned())
}
