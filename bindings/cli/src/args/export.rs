//! The flags of `export`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Flavour;

use super::values::one_of;

/// The flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The checkpoint's folder: model_index.json, text_encoder, tokenizer, transformer, vqvae,
    /// scheduler
    pub checkpoint: PathBuf,
    /// The package's folder, which must not exist
    #[arg(short, long, value_name = "PACKAGE")]
    pub output: PathBuf,
    /// A kind of graphs to write; may be given several times [default: int8]
    #[arg(long = "flavour", value_name = "FLAVOUR",
          value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavours: Vec<Flavour>,
    /// A file of prompts to measure with, one a line [default: the checkpoint's calibration.txt, or
    /// 36 of many kinds]
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,
    /// The flavour whose images are measured: f32 makes the same ones on every processor
    #[arg(long, value_name = "FLAVOUR", default_value = "int8",
          value_parser = one_of([Flavour::Int8, Flavour::F32], Flavour::name))]
    pub draft: Flavour,
    /// The model's name in the package [default: the checkpoint's folder]
    #[arg(long)]
    pub name: Option<String>,
    /// Replace a package that is there
    #[arg(long)]
    pub force: bool,
}
