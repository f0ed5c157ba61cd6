//! The flags of `synth`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse_package::Dtype;

use super::values::one_of;
use crate::synth::Preset;

/// The flags of `synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Whose sizes it has
    #[arg(long)]
    pub preset: Preset,
    /// The checkpoint's folder, which must not exist
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// The same seed makes the same bytes
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// The type of the weights
    #[arg(long, default_value = "f16",
          value_parser = one_of([Dtype::F16, Dtype::Bf16, Dtype::F32], Dtype::name))]
    pub dtype: Dtype,
    /// Replace a checkpoint of synth that is there
    #[arg(long)]
    pub force: bool,
}
