//! `--trace`: what went on inside while images were made becomes a folder: heat maps, a page that
//! shows them together, and JSON. Knows files and charts, not how a trace is made.

mod data;

mod heat;

mod charts;
mod verdict;

mod page;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use pocketmuse::{Manifest, Output, Trace};
use pocketmuse_package::{
    Error, ErrorKind, Result,
    files::{NewFolder, TemporaryFolder},
};

use self::data::Data;

/// The page's name in the folder.
const PAGE: &str = "index.html";
/// The JSON's.
const JSON: &str = "trace.json";

/// Checks early that [`write`] will be able to: the folder is new, or a trace that is to be
/// replaced.
///
/// # Errors
///
/// `BadRequest` if there is something else; `Io` if the folder around it cannot be written to.
pub(crate) fn check(folder: &Path) -> Result<()> {
    if folder.symlink_metadata().is_ok() && !is_trace(folder) {
        let detail = "expected a new folder or a trace to replace, found something else";
        return Err(Error::new(ErrorKind::BadRequest, folder.display().to_string(), detail));
    }
    TemporaryFolder::beside(folder).map(drop)
}

/// Whether a folder is a trace: its page and its JSON begin as ours do, and nothing but charts lies
/// beside them.
fn is_trace(folder: &Path) -> bool {
    let begins = |name: &str, start: &str| {
        let mut bytes = Vec::new();
        let file = File::open(folder.join(name));
        file.and_then(|file| file.take(start.len() as u64).read_to_end(&mut bytes)).is_ok()
            && bytes == start.as_bytes()
    };
    let is_part = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        path.is_file()
            && (name == PAGE || name == JSON || path.extension().is_some_and(|end| end == "png"))
    };
    let Ok(mut entries) = fs::read_dir(folder) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| is_part(&entry.path())))
        && begins(PAGE, page::START)
        && begins(JSON, data::START)
}

/// Writes a trace of the images of `output`; returns the page's file.
///
/// # Errors
///
/// As for [`check`].
pub(crate) fn write(
    folder: &Path,
    trace: &Trace,
    output: &Output,
    manifest: &Manifest,
) -> Result<PathBuf> {
    check(folder)?;
    let new = NewFolder::begin(folder, true)?;
    let save = |name: &str, bytes: &[u8]| {
        let path = new.path().join(name);
        fs::write(&path, bytes).map_err(|error| Error::io(folder.join(name), error))
    };
    let mut charts = Vec::new();
    for (image, pixels) in output.images.iter().enumerate() {
        let prefix =
            if output.images.len() > 1 { format!("picture-{image}-") } else { String::new() };
        let of_image = charts::of(trace, image, pixels, &prefix);
        of_image.iter().try_for_each(|chart| save(&format!("{}.png", chart.name), &chart.png))?;
        charts.push(of_image);
    }
    let (all, words) = (0..output.images.len(), 0..trace.words.len());
    let data = Data {
        model: &manifest.model.name,
        request: &output.request,
        shares: all
            .clone()
            .map(|image| words.clone().map(|word| trace.share(image, word)).collect())
            .collect(),
        verdicts: all
            .map(|image| words.clone().map(|word| verdict::of(trace, image, word)).collect())
            .collect(),
        trace,
    };
    let json = serde_json::to_vec(&data).expect("plain data with string keys always serializes");
    save(JSON, &json)?;
    save(PAGE, page::html(&data, &charts).as_bytes())?;
    new.finish()?;
    Ok(folder.join(PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace");
        check(&path).expect("new");
        fs::create_dir(&path).expect("made");
        let error = check(&path).expect_err("something else");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        let write = |name: &str, text: &str| fs::write(path.join(name), text).expect("written");
        for (page, json) in [("", ""), ("<!DOCTYPE html>", "{}"), (page::START, "{}")] {
            write(PAGE, page);
            write(JSON, json);
            check(&path).expect_err("files of the same names");
        }
        write(JSON, data::START);
        write("words.png", "");
        check(&path).expect("a trace");
        write("notes.txt", "mine");
        check(&path).expect_err("a trace and something that would be lost");
        assert_eq!(
            check(&folder.path().join("none/trace")).expect_err("no folder").kind(),
            ErrorKind::NotFound
        );
    }
}
