//! `--trace`: what went on inside while pictures were made becomes a folder: heat maps, a page that
//! shows them together, and JSON. Knows files and charts, not how a trace is made.

mod charts;
mod heat;
mod page;
mod verdict;

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{ImageFormat, RgbImage};
use pocketmuse::{Manifest, Output, Request, Trace};
use pocketmuse_package::{
    Error, ErrorKind, Result,
    files::{NewFolder, TemporaryFolder},
};
use serde::Serialize;

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
    if folder.symlink_metadata().is_ok()
        && !(folder.join(JSON).is_file() && folder.join(PAGE).is_file())
    {
        let detail = "expected a new folder or a trace to replace, found something else";
        return Err(Error::new(ErrorKind::BadRequest, folder.display().to_string(), detail));
    }
    TemporaryFolder::beside(folder).map(drop)
}

/// A chart as it is written.
struct Chart {
    /// The file's name without its ending.
    name: String,
    png: Vec<u8>,
}

impl Chart {
    fn new(name: String, image: &RgbImage) -> Self {
        let mut png = Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).expect("a picture in memory always encodes");
        Self { name, png: png.into_inner() }
    }
}

/// What the JSON holds.
#[derive(Serialize)]
struct Data<'a> {
    model: &'a str,
    request: &'a Request,
    /// By picture and word.
    shares: Vec<Vec<Option<f32>>>,
    /// In words, by picture and word.
    verdicts: Vec<Vec<String>>,
    trace: &'a Trace,
}

/// Writes a trace of the pictures of `output`; returns the page's file.
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
    let mut pictures = Vec::new();
    for (picture, image) in output.images.iter().enumerate() {
        let prefix =
            if output.images.len() > 1 { format!("picture-{picture}-") } else { String::new() };
        let charts = charts::of(trace, picture, image, &prefix);
        charts.iter().try_for_each(|chart| save(&format!("{}.png", chart.name), &chart.png))?;
        pictures.push(charts);
    }
    let by_word = |picture| 0..if picture < output.images.len() { trace.words.len() } else { 0 };
    let all = 0..output.images.len();
    let data = Data {
        model: &manifest.model.name,
        request: &output.request,
        shares: all
            .clone()
            .map(|picture| by_word(picture).map(|word| trace.share(picture, word)).collect())
            .collect(),
        verdicts: all
            .map(|picture| by_word(picture).map(|word| verdict::of(trace, picture, word)).collect())
            .collect(),
        trace,
    };
    let json = serde_json::to_vec(&data).expect("plain data with string keys always serializes");
    save(JSON, &json)?;
    save(PAGE, page::html(&data, &pictures).as_bytes())?;
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
        for name in [JSON, PAGE] {
            fs::write(path.join(name), "").expect("written");
        }
        check(&path).expect("a trace");
        assert_eq!(
            check(&folder.path().join("none/trace")).expect_err("no folder").kind(),
            ErrorKind::Io
        );
    }
}
