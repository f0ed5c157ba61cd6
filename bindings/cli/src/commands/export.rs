//! `pocketmuse export`: a checkpoint becomes a package.

use std::{path::Path, time::Instant};

use pocketmuse_export::Options;
use pocketmuse_package::{Error, ErrorKind, Result, files};

use crate::{
    args::ExportArgs,
    runtime, stop,
    terminal::{self, mebibytes},
};

/// A file of prompts larger than this is not one.
const MAX_PROMPTS_BYTES: u64 = 1 << 20;

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
    let options = Options { flavours, name: args.name.clone(), overwrite: args.force };
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
        mebibytes(bytes),
        started.elapsed().as_secs_f64(),
        manifest.digest()
    ))?;
    Ok(0)
}

/// The prompts in a file, one a line; empty lines are none.
fn prompts_of(file: &Path) -> Result<Vec<String>> {
    let bytes = files::read_bounded(file, MAX_PROMPTS_BYTES, ErrorKind::BadInput)?;
    let wrong = |detail| Error::new(ErrorKind::BadInput, file.display().to_string(), detail);
    let text = String::from_utf8(bytes).map_err(|_| wrong("expected text in UTF-8"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let prompts: Vec<_> = lines.map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(wrong("expected a prompt on each line, found none"));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_prompt_on_each_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prompts.txt");
        let found = |text: &[u8]| {
            std::fs::write(&file, text).expect("written");
            prompts_of(&file).map_err(|error| error.to_string())
        };
        assert_eq!(found(b"a tree\r\n\n  a car "), Ok(vec!["a tree".into(), "a car".into()]));
        for (text, expected) in [(&b" \n"[..], "found none"), (b"\xff", "text in UTF-8")] {
            let error = found(text).expect_err(expected);
            assert!(error.contains(expected) && error.contains("prompts.txt"), "{error}");
        }
        assert_eq!(
            prompts_of(&folder.path().join("no")).err().map(|e| e.kind()),
            Some(ErrorKind::NotFound)
        );
    }
}
