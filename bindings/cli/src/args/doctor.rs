//! The flags of `doctor`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Flavour;

use super::{
    package::RunArgs,
    values::{one_of, package},
};

/// The flags of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "The exit code is 0 if all that was asked for is good, 1 if something is \
                        refused, 2 if there is an error.

Examples:
  pocketmuse doctor
  pocketmuse doctor my-package --provider-library openvino=/absolute/path.so")]
pub struct DoctorArgs {
    /// A package's folder, or its name, whose stages providers are to compute [default: the built-in
    /// model, if a provider is named]
    #[arg(value_parser = package())]
    pub package: Option<PathBuf>,
    /// The graphs to look at [default: all of the package]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Option<Flavour>,
    /// Prove again what was proved before, and what crashed or hung
    #[arg(long)]
    pub again: bool,
    /// Who computes what
    #[command(flatten)]
    pub run: RunArgs,
}
