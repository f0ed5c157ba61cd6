//! The flags of `package`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Flavour;
use pocketmuse_package::Subset;

use super::values::{one_of, package, target};

/// The flags of `package`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every file is checked on the way. A folder that was not finished is taken up \
                  again by the same command."
)]
pub struct RepackageArgs {
    /// The package: its folder, its name, or its archive
    #[arg(value_parser = package())]
    pub source: PathBuf,
    /// What to make: an archive if it ends in .pocketmuse or .tar, else a folder
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// The graphs to take; may be given more than once [default: all]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Vec<Flavour>,
    /// What to leave behind: encoder, which only edits need
    #[arg(long, value_name = "STAGE", value_parser = ["encoder"])]
    pub without: Option<String>,
    /// Take what was compiled for a chip in the place of graphs, such as qnn:sm8650
    ///
    /// Stages that have nothing for it come with their graphs.
    #[arg(long, value_name = "PROVIDER:CHIP", value_parser = target)]
    pub target: Option<(String, String)>,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

impl RepackageArgs {
    /// What is taken of the package.
    pub(crate) fn subset(&self) -> Subset {
        Subset {
            flavours: self.flavour.clone(),
            without_encoder: self.without.is_some(),
            target: self.target.clone(),
        }
    }
}
