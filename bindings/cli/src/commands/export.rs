//! `pocketmuse export`: a checkpoint becomes a package.

use std::time::Instant;

use pocketmuse_export::Options;
use pocketmuse_package::Result;

use crate::{
    args::ExportArgs,
    runtime, stop,
    terminal::{self, mebibytes},
};

pub(crate) fn run(args: &ExportArgs) -> Result<u8> {
    let started = Instant::now();
    let mut flavours =
        if args.flavours.is_empty() { Options::default().flavours } else { args.flavours.clone() };
    flavours.sort();
    flavours.dedup();
    let options = Options { flavours, name: args.name.clone(), overwrite: args.force };
    let bar = terminal::byte_bar("exporting");
    let summary = pocketmuse_export::export(
        &args.checkpoint,
        &args.output,
        &options,
        runtime::calibrate,
        |progress| {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.written_bytes);
            stop::flow()
        },
    );
    bar.finish_and_clear();
    let summary = summary?;
    summary.warnings.iter().for_each(terminal::warn);
    let manifest = &summary.manifest;
    let bytes = manifest.files().map(|file| file.bytes).sum();
    let flavours: Vec<_> = manifest.flavours.keys().map(|flavour| flavour.name()).collect();
    terminal::print(format!(
        "{}: {}, {}, {} in {:.1} s, digest {}",
        args.output.display(),
        manifest.model.name,
        flavours.join(" "),
        mebibytes(bytes),
        started.elapsed().as_secs_f64(),
        manifest.digest()
    ))?;
    Ok(0)
}
