//! The flags of `compile`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::{Flavour, Provider, Stage};

use super::values::{library, one_of, package, targets};

/// The flags of `compile`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "What is compiled lies in the package, which programs load in the place of its \
                        graphs where chip and size are the same. `pocketmuse package --target` \
                        makes a package without these graphs.

Example:
  pocketmuse compile my-package --flavour f16 --target qnn:sm8650,sm8550 --size 256,512 \\
    --provider-library qnn=/absolute/path.so"
)]
pub struct CompileArgs {
    /// The package's folder, or its name
    #[arg(value_parser = package())]
    pub package: PathBuf,
    /// Who compiles, and for which chips, such as qnn:sm8650,sm8550
    #[arg(long, value_name = "PROVIDER:CHIPS", value_parser = targets)]
    pub target: (Provider, Vec<String>),
    /// Width and height of the images, in pixels [default: the package's own]
    #[arg(long, value_name = "PIXELS", value_delimiter = ',')]
    pub size: Vec<u32>,
    /// Guidance branches: 2 with guidance, 1 without
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_values = ["1", "2"])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=2))]
    pub branches: Vec<u8>,
    /// The stages [default: all; of qdq all but the encoder]
    #[arg(long, value_delimiter = ',', value_parser = one_of(Stage::ALL, Stage::name))]
    pub stage: Vec<Stage>,
    /// The graphs to compile [default: qdq, else f16, else the package's best]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Option<Flavour>,
    /// Make a binary for each size and number of branches, as the simulator needs, instead of one
    /// that has the weights once
    #[arg(long)]
    pub separate: bool,
    /// The provider's plug-in, such as qnn=/absolute/path.so
    #[arg(long, value_name = "NAME=FILE", value_parser = library)]
    pub provider_library: (Provider, PathBuf),
    /// Threads to compute with [default: one for each fast core]
    #[arg(short, long, value_name = "COUNT", env = "POCKETMUSE_THREADS", hide_env = true)]
    pub threads: Option<usize>,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
}
