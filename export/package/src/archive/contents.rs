//! What a source holds and which of its files are wanted.

use std::path::Path;

use super::read::Source;
use crate::{Error, ErrorKind, FileEntry, MANIFEST, Manifest, Result, Subset};

/// What an archive or a folder holds, and what is wanted of it.
pub(super) struct Contents {
    /// All files of the source, in their order.
    pub(super) files: Vec<FileEntry>,
    /// What is wanted.
    pub(super) manifest: Manifest,
    /// The wanted manifest's text.
    pub(super) text: Vec<u8>,
    pub(super) wanted: Vec<FileEntry>,
}

impl Contents {
    pub(super) fn of(source: &mut impl Source, subset: &Subset) -> Result<Self> {
        let text = source.manifest()?;
        let within = |error: Error| error.within(source.at());
        let all = Manifest::parse(&text).map_err(|error| within(error.within(MANIFEST)))?;
        let manifest = all.subset(subset)?;
        // Whole, it stays as it is, with fields that this build does not know.
        let text = if manifest == all { text } else { manifest.to_json().into_bytes() };
        Ok(Self {
            files: distinct(&all).map_err(within)?,
            wanted: distinct(&manifest).map_err(within)?,
            manifest,
            text,
        })
    }

    pub(super) fn wants(&self, file: &FileEntry) -> bool {
        self.wanted.contains(file)
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.wanted.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// The files of a package in their order, each once.
///
/// A manifest from elsewhere may name one file twice, in two spellings, or take one's name for
/// another's folder.
pub(super) fn distinct(manifest: &Manifest) -> Result<Vec<FileEntry>> {
    let mut files: Vec<FileEntry> = Vec::new();
    for file in manifest.files() {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    let refuse = |path: &str, found: &str| {
        let detail = format!("expected a name of its own for every file, found {found}");
        Err(Error::new(ErrorKind::PackageDamaged, format!("{path:?}"), detail))
    };
    // Not all file systems tell upper case from lower, so names have to differ without it.
    let mut names: Vec<String> = files.iter().map(|file| file.path.to_lowercase()).collect();
    names.push(MANIFEST.to_owned());
    for (index, file) in files.iter().enumerate() {
        let spelling: Vec<_> =
            Path::new(&file.path).components().map(|part| part.as_os_str()).collect();
        if spelling.join("/".as_ref()) != file.path.as_str() {
            return refuse(&file.path, "another spelling of it");
        }
        let name = &names[index];
        let clashes = names.iter().enumerate().any(|(other, text)| {
            other != index
                && text
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if clashes {
            return refuse(&file.path, "it twice");
        }
    }
    Ok(files)
}
