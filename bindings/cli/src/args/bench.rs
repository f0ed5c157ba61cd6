//! The flags of `bench`.

use clap::Args;

use super::package::PackageArgs;

const BENCH_HELP: &str = "\
Makes one image from files that the system does not hold in memory (where it can be asked to \
forget them), then as many as --runs says, whose medians are printed, and one more to count \
operations. Operations are two for each multiply-add of a matrix product or convolution. The \
machine's own speed is that of single linear layers of the shapes that the step graph has, int8 \
(DynamicQuantizeLinear and MatMulInteger, fused) and f32 (MatMul), through the same ONNX Runtime, \
each as often as the step graph runs it. With --json, stdout has one JSON object; times are \
milliseconds, sizes bytes.

Example:
  pocketmuse bench --package amused-512.package --threads 2 --json";

/// The flags of `bench`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_HELP)]
pub struct BenchArgs {
    /// The package and how it is run
    #[command(flatten)]
    pub package: PackageArgs,
    /// Steps from all tokens masked to all chosen [default: the package's]
    #[arg(long, alias = "num-inference-steps", value_name = "COUNT")]
    pub steps: Option<u32>,
    /// Height and width in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,
    /// Images whose median is printed
    #[arg(long, value_name = "COUNT", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
}
