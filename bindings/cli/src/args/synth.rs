//! The flags of `synth`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pocketmuse_package::Dtype;

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
    #[arg(long, value_enum, default_value = "f16")]
    pub dtype: FloatType,
    /// Replace a folder that is there
    #[arg(long)]
    pub force: bool,
}

/// The types that weights can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FloatType {
    /// 16-bit float
    F16,
    /// 16-bit float with the exponent of an f32
    Bf16,
    /// 32-bit float
    F32,
}

impl From<FloatType> for Dtype {
    fn from(float: FloatType) -> Self {
        match float {
            FloatType::F16 => Self::F16,
            FloatType::Bf16 => Self::Bf16,
            FloatType::F32 => Self::F32,
        }
    }
}
