//! `pocketmuse package`: a part of a package, as a folder or as one file.

use indicatif::ProgressDrawTarget;
use pocketmuse_package::{Result, archive};

use crate::{
    args::RepackageArgs,
    events::{self, PathText},
    results::Copied,
    stop,
    terminal::{self, megabytes},
};

pub(crate) fn run(args: &RepackageArgs) -> Result<u8> {
    let bar = terminal::byte_bar("copying the package");
    if args.json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let copied = archive::copy(&args.source, &args.subset(), &args.output, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
        stop::flow()
    });
    bar.finish_and_clear();
    let manifest = copied?;
    let bytes: u64 = manifest.files().map(|file| file.bytes).sum();
    if args.json {
        let flavours = manifest.flavours.keys().copied().collect();
        let copied = Copied { package: PathText(&args.output), flavours, bytes };
        terminal::print(events::line(&events::plain_json(&copied)))?;
    } else {
        let flavours: Vec<_> = manifest.flavours.keys().map(|flavour| flavour.name()).collect();
        let (output, size) = (args.output.display(), megabytes(bytes));
        terminal::print(format!("{output}: {}, {size}", flavours.join(", ")))?;
    }
    Ok(0)
}
