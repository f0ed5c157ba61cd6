//! The flags of every command that runs a package: which one, and how.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::{Budget, Flavour};

use super::values::one_of;

/// Which package is run, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct PackageArgs {
    /// The package to use [default: the built-in model, exported once into the cache]
    #[arg(long = "package", value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The graphs of the package to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Option<Flavour>,
    /// How it is run
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a package is run, and what is printed meanwhile.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Threads to compute with [default: one for each fast core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// The most memory to hold, such as 512MB or 1.5GiB; auto is three quarters of what the system
    /// has left [default: auto]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Budget>,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
}
