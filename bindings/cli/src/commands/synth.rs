//! `pocketmuse synth`: a full-size checkpoint of random weights.

use std::time::Instant;

use pocketmuse_package::Result;

use crate::{
    args::SynthArgs,
    stop,
    synth::{self, Options},
    terminal::{self, megabytes, thousands},
};

pub(crate) fn run(args: &SynthArgs) -> Result<u8> {
    let started = Instant::now();
    let options =
        Options { preset: args.preset, seed: args.seed, dtype: args.dtype, overwrite: args.force };
    let bar = terminal::byte_bar("writing");
    let summary = synth::write(&args.output, &options, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.written_bytes);
        stop::flow()
    });
    bar.finish_and_clear();
    let summary = summary?;
    for (network, tensors, parameters) in &summary.networks {
        terminal::print(format!(
            "{network:<13}{tensors:>4} tensors{:>14} parameters",
            thousands(*parameters as u64)
        ))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    terminal::print(format!(
        "{}: {} in {seconds:.1} s",
        args.output.display(),
        megabytes(summary.bytes)
    ))?;
    Ok(0)
}
