//! The flags of `package`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Flavour;
use pocketmuse_package::Subset;

use super::values::{one_of, package};

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
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

impl RepackageArgs {
    /// What is taken of the package.
    pub(crate) fn subset(&self) -> Subset {
        Subset { flavours: self.flavour.clone(), without_encoder: self.without.is_some() }
    }
}
