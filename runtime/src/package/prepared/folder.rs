//! The cache folder: the records in it with their graphs, and what is removed from it. Everything
//! else in the folder is left alone.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pocketmuse_package::{Digest, Error, Result, files};

use super::{marker, record};

/// What a process that was killed left is removed when it is this old.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What is kept of packages that are gone is removed when nobody opened them for so long: until
/// then they may have been moved, as iOS does with an app's folder at every update. So is what this
/// version cannot read.
const FORGOTTEN: Duration = Duration::from_secs(30 * DAY.as_secs());

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is kept of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's file.
    pub path: PathBuf,
    /// The digest of the package's manifest; `None` if the record is damaged or missing, or this is
    /// what a process that was killed left.
    pub package: Option<Digest>,
    /// Folders that the package lay in.
    pub folders: Vec<PathBuf>,
    /// Files of the package that were found whole.
    pub files: usize,
    /// Its optimised graphs.
    pub graphs: Vec<PathBuf>,
    /// Notes of proofs of other providers than the CPU that run, or did not end.
    pub proofs: Vec<PathBuf>,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Entry {
    fn of(path: PathBuf) -> Self {
        let record = record::read(&path);
        let package = record.as_ref().and_then(|record| record.digest.parse().ok());
        let record = record.unwrap_or_default();
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let (files, folders) = (record.files.len(), record.folders);
        Self { path, package, folders, files, graphs: Vec::new(), proofs: Vec::new(), bytes }
    }

    /// Removes all of it; another process may have done so meanwhile.
    fn remove(&self) -> Result<()> {
        for path in std::iter::once(&self.path).chain(&self.graphs).chain(&self.proofs) {
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
                let is_note = path.to_string_lossy().ends_with(marker::ENDING);
                if is_note { &mut entry.proofs } else { &mut entry.graphs }.push(path.clone());
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

/// The record that a file belongs to: itself, or that of a graph or a proof; `None` for what is not ours.
fn record_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let beside = || name.strip_suffix(".onnx").or_else(|| name.strip_suffix(marker::ENDING));
    let digest = name.strip_suffix(".json").or_else(|| beside()?.split('-').next())?;
    digest.parse::<Digest>().is_ok().then(|| path.with_file_name(format!("{digest}.json")))
}

/// Removes what is kept of packages that are there no more, and what killed processes left long
/// before `now`.
pub(super) fn forget_the_gone(folder: &Path, now: SystemTime) -> Result<()> {
    for entry in list(folder)? {
        let is_there = entry.folders.iter().any(|folder| folder.exists());
        let most = if files::is_temporary(&entry.path) { ABANDONED } else { FORGOTTEN };
        if !is_there && age(&entry.path, now).is_some_and(|age| age > most) {
            entry.remove()?;
        }
    }
    Ok(())
}

/// Makes a record as old as the last day on which its package was opened.
pub(super) fn touch(record: &Path, now: SystemTime) {
    if age(record, now).is_some_and(|age| age > DAY) {
        let opened = fs::File::options().append(true).open(record);
        // Where that fails, it is forgotten a little early.
        let _ = opened.and_then(|file| file.set_modified(now));
    }
}

/// How long ago a file was written.
fn age(path: &Path, now: SystemTime) -> Option<Duration> {
    now.duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}
