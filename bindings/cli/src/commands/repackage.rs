//! `pocketmuse package`: a part of a package, as a folder or as one file.

use indicatif::ProgressDrawTarget;
use pocketmuse_package::{Result, archive};
use serde_json::json;

use crate::{
    args::RepackageArgs,
    stop,
    terminal::{self, mebibytes},
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
    let flavours: Vec<_> = manifest.flavours.keys().map(|flavour| flavour.name()).collect();
    terminal::print(if args.json {
        json!({ "package": args.output, "flavours": flavours, "bytes": bytes }).to_string()
    } else {
        format!("{}: {}, {}", args.output.display(), flavours.join(", "), mebibytes(bytes))
    });
    Ok(0)
}
