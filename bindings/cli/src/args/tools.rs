//! The flags of the commands that make no images: `inspect`, `verify`, `prepared`, `setup`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Flavour;

use super::values::one_of;

/// The flags of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A checkpoint's or a package's folder
    pub path: PathBuf,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// The flags of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Prints one line for each tensor. The exit code is 0 only if all hold.")]
pub struct VerifyArgs {
    /// The package's folder
    pub package: PathBuf,
    /// Reference tensors: inputs and outputs of every stage
    #[arg(long, value_name = "FILE.safetensors")]
    pub golden: PathBuf,
    /// The graphs of the package to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Option<Flavour>,
    /// Threads to compute with [default: one for each fast core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
}

/// The flags of `prepared`.
#[derive(Debug, Args)]
pub struct PreparedArgs {
    /// Remove all of it: packages are checked and optimised again when they are used
    #[arg(long)]
    pub clean: bool,
}

/// The flags of `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Bring it even if it is there
    #[arg(long)]
    pub force: bool,
}
