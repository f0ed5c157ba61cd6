//! Folders in which clients work: beside the library, hidden, removed afterwards, and swept where a
//! killed process left them. Knows no client.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pocketmuse_package::{Error, ErrorKind, Result};
use tempfile::TempDir;

/// How our temporary names begin and end.
const BEGINS: &str = ".pocketmuse-";
const ENDS: &str = ".part";

/// What is left of a process that was killed is removed when it is older than this.
const OLD: Duration = Duration::from_secs(60 * 60);

/// A folder of one client: where it runs, where it puts temporary files, and what it brings.
pub(crate) struct WorkFolder {
    root: TempDir,
}

impl WorkFolder {
    /// A new one in `folder`.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be made.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix(BEGINS)
            .suffix(ENDS)
            .tempdir_in(folder)
            .map_err(|error| Error::io(folder, error))?;
        let work = Self { root };
        for folder in [work.empty(), work.temporary(), work.brought()] {
            fs::create_dir(&folder).map_err(|error| Error::io(&folder, error))?;
        }
        Ok(work)
    }

    /// An empty folder: the client's current one.
    pub(crate) fn empty(&self) -> PathBuf {
        self.root.path().join("empty")
    }

    /// For its temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.path().join("temporary")
    }

    /// For what it brings.
    pub(crate) fn brought(&self) -> PathBuf {
        self.root.path().join("brought")
    }
}

/// Removes what killed processes left in `folder`: names of ours that nobody touched for an hour.
/// What cannot be removed stays.
pub(crate) fn sweep(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours =
            name.to_str().is_some_and(|name| name.starts_with(BEGINS) && name.ends_with(ENDS));
        if is_ours && is_old(&entry, now) {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let _ = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

fn is_old(entry: &fs::DirEntry, now: SystemTime) -> bool {
    let modified = entry.metadata().and_then(|meta| meta.modified());
    modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > OLD))
}

/// Checks that `folder` has room for `bytes`, where the system tells.
///
/// # Errors
///
/// `Io` if it has less.
pub(crate) fn check_room(folder: &Path, bytes: u64) -> Result<()> {
    match free_bytes(folder) {
        Ok(free) if free < bytes => Err(no_room(folder, bytes, Some(free))),
        _ => Ok(()),
    }
}

/// The error of a disk that is full.
pub(crate) fn no_room(folder: &Path, needed: u64, free: Option<u64>) -> Error {
    let found = free.map_or("a full disk".to_owned(), |free| format!("{} MiB", free >> 20));
    let detail = format!(
        "expected {} MiB of free disk for bringing ONNX Runtime, found {found}: make room, or set \
         XDG_CACHE_HOME to a folder on another disk",
        needed >> 20
    );
    Error::new(ErrorKind::Io, folder.display().to_string(), detail)
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(folder)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_old_leftovers_of_ours_are_swept() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let files = [".pocketmuse-a.part", "x.part", ".pocketmuse-b", "libonnxruntime.so", "lock"];
        for name in files {
            fs::write(at(name), "x").expect("written");
        }
        fs::create_dir(at(".pocketmuse-c.part")).expect("made");
        fs::write(at(".pocketmuse-c.part/inner"), "x").expect("written");
        let names = || {
            let entries = fs::read_dir(root.path()).expect("readable");
            let mut names: Vec<_> =
                entries.map(|entry| entry.expect("an entry").file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        let now = SystemTime::now();
        let minute = Duration::from_secs(60);
        for early in [now - minute, now, now + 59 * minute] {
            sweep(root.path(), early);
            assert_eq!(names(), before);
        }
        sweep(root.path(), now + 61 * minute);
        assert_eq!(names(), [".pocketmuse-b", "libonnxruntime.so", "lock", "x.part"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_swept_and_not_what_it_leads_to() {
        let root = tempfile::tempdir().expect("a folder");
        let (cache, other) = (root.path().join("cache"), root.path().join("other"));
        for folder in [&cache, &other] {
            fs::create_dir(folder).expect("made");
        }
        File::create(other.join("precious")).expect("written");
        std::os::unix::fs::symlink(&other, cache.join(".pocketmuse-a.part")).expect("linked");
        sweep(&cache, SystemTime::now() + 2 * OLD);
        assert_eq!(fs::read_dir(&cache).expect("readable").count(), 0);
        assert!(other.join("precious").exists());
    }

    #[test]
    fn room_is_asked_for_before_anything_is_brought() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(check_room(root.path(), 1).is_ok());
        let error = no_room(root.path(), 128 << 20, Some(3 << 20));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.detail().contains("expected 128 MiB of free disk"), "{error}");
        assert!(error.detail().contains("found 3 MiB"), "{error}");
        if cfg!(unix) {
            assert!(check_room(root.path(), u64::MAX).is_err());
        }
    }
}
