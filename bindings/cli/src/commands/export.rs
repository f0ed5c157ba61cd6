//! `pocketmuse export`: a checkpoint becomes a package.

use std::{path::Path, time::Instant};

use pocketmuse_export::Options;
use pocketmuse_package::Result;

use crate::{
    args::ExportArgs,
    prompts::Prompts,
    runtime, stop,
    terminal::{self, megabytes},
};

pub(crate) fn run(args: &ExportArgs) -> Result<u8> {
    let started = Instant::now();
    let mut flavours =
        if args.flavours.is_empty() { Options::default().flavours } else { args.flavours.clone() };
    flavours.sort();
    flavours.dedup();
    let prompts = match &args.calibrate {
        Some(file) => prompts_of(file)?,
        None => Vec::new(),
    };
    let options =
        Options { flavours, name: args.name.clone(), overwrite: args.force, draft: args.draft };
    let bar = terminal::byte_bar("exporting");
    let summary = pocketmuse_export::export(
        &args.checkpoint,
        &args.output,
        &options,
        |draft| runtime::calibrate(draft, &prompts),
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
        megabytes(bytes),
        started.elapsed().as_secs_f64(),
        manifest.digest()
    ))?;
    Ok(0)
}

/// The prompts in a file, one a line.
fn prompts_of(file: &Path) -> Result<Vec<String>> {
    let prompts = Prompts::read(file)?;
    let named = |(number, line): (usize, Result<&str>)| {
        let at = || format!("{}: line {number}", file.display());
        line.map(str::to_owned).map_err(|error| error.within(at()))
    };
    prompts.lines().map(named).collect()
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::ErrorKind;

    use super::*;

    #[test]
    fn a_line_that_is_none_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prompts.txt");
        let found = |text: &[u8]| {
            std::fs::write(&file, text).expect("written");
            prompts_of(&file)
        };
        assert_eq!(found(b"a tree\r\n# no\n  a car ").expect("text"), ["a tree", "a car"]);
        let error = found(b"a tree\n\xff").expect_err("no text");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains("prompts.txt: line 2"), "{error}");
    }
}
