//! The cache folder: the records in it with their graphs, and what is removed from it. Everything
//! else in the folder is left alone.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pocketmuse_package::{Digest, Error, Result, files};

use super::record;

/// What a process that was killed left is removed when it is this old.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What is kept of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's file.
    pub path: PathBuf,
    /// The package it is about; `None` if the record is damaged or missing, or this is what a
    /// process that was killed left.
    pub package: Option<PathBuf>,
    /// Files of the package that were found whole.
    pub files: usize,
    /// Its optimised graphs.
    pub graphs: Vec<PathBuf>,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Entry {
    fn of(path: PathBuf) -> Self {
        let record = record::read(&path);
        let files = record.as_ref().map_or(0, |record| record.files.len());
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self {
            path,
            package: record.map(|record| record.package),
            files,
            graphs: Vec::new(),
            bytes,
        }
    }

    /// Removes all of it; another process may have done so meanwhile.
    fn remove(&self) -> Result<()> {
        for path in std::iter::once(&self.path).chain(&self.graphs) {
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is kept in `folder`, by name; nothing if there is no such folder.
///
/// # Errors
///
/// `Io` if it cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Entry>> {
    let at = |error| Error::io(folder, error);
    let paths = match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry.map_err(at)?.path())).collect::<Result<Vec<_>>>()?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(error)),
    };
    let mut found = BTreeMap::new();
    for path in &paths {
        if files::is_temporary(path) {
            found.insert(path.clone(), Entry::of(path.clone()));
        } else if let Some(record) = record_of(path) {
            let entry = found.entry(record).or_insert_with_key(|record| Entry::of(record.clone()));
            if *path != entry.path {
                entry.bytes += fs::metadata(path).map_or(0, |metadata| metadata.len());
                entry.graphs.push(path.clone());
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Removes all that is kept in `folder`, leftovers of killed processes too, and nothing else.
/// Returns of how many packages.
///
/// # Errors
///
/// `Io` if a file cannot be removed.
pub fn clean(folder: &Path) -> Result<usize> {
    let entries = list(folder)?;
    entries.iter().try_for_each(Entry::remove)?;
    Ok(entries.len())
}

/// The record that a file belongs to: itself, or that of a graph; `None` for what is not ours.
fn record_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let digest =
        name.strip_suffix(".json").or_else(|| name.strip_suffix(".onnx")?.split('-').next())?;
    digest.parse::<Digest>().is_ok().then(|| path.with_file_name(format!("{digest}.json")))
}

/// Removes what is kept of packages that are there no more, and what killed processes left long
/// ago.
pub(super) fn forget_the_gone(folder: &Path) -> Result<()> {
    for entry in list(folder)? {
        let is_gone = match &entry.package {
            Some(package) => !package.exists(),
            None => files::is_temporary(&entry.path) && is_abandoned(&entry.path),
        };
        if is_gone {
            entry.remove()?;
        }
    }
    Ok(())
}

fn is_abandoned(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > ABANDONED)
}
