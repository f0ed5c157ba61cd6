//! The flags of every command that runs a package: which one, and how.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::{Budget, Flavour};

use super::values::{one_of, package};

/// Which package is run, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct PackageArgs {
    /// A package's folder, or its name [default: the built-in model]
    ///
    /// `pocketmuse ls` lists the names. Without it that of POCKETMUSE_PACKAGE is used, else the
    /// built-in model, which is exported once into the cache.
    #[arg(long = "package", short_alias = 'm', alias = "model", value_name = "PACKAGE",
          env = "POCKETMUSE_PACKAGE", hide_env = true, value_parser = package())]
    pub folder: Option<PathBuf>,
    /// The graphs to run [default: the package's best]
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
    ///
    /// Without it POCKETMUSE_THREADS says how many.
    #[arg(
        short,
        long,
        alias = "n-threads",
        value_name = "COUNT",
        env = "POCKETMUSE_THREADS",
        hide_env = true
    )]
    pub threads: Option<usize>,
    /// The most memory to hold, such as 512MB or 2G [default: auto]
    ///
    /// 2G is 2GB. auto is three quarters of what the system has left.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Budget>,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
}
