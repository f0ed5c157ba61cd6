//! Folders in which clients work: beside the library, hidden, removed afterwards. Knows no client.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pocketmuse_package::{
    Amounts, Error, ErrorKind, Result,
    files::{self, TemporaryFolder},
};

/// A folder of one client: where it runs, where it puts temporary files, and what it brings.
pub(crate) struct WorkFolder {
    root: TemporaryFolder,
}

impl WorkFolder {
    /// A new one beside `library`.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be made.
    pub(crate) fn beside(library: &Path) -> Result<Self> {
        let work = Self { root: TemporaryFolder::beside(library)? };
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

/// Checks that there is room for `bytes` beside `library`, where the system tells.
///
/// # Errors
///
/// `NoSpace` if it has less.
pub(crate) fn check_room(library: &Path, bytes: u64) -> Result<()> {
    match files::available_bytes(files::parent(library)) {
        Some(free) if free < bytes => Err(no_room(library, bytes, Some(free))),
        _ => Ok(()),
    }
}

/// The error of a disk that is full.
pub(crate) fn no_room(library: &Path, needed: u64, free: Option<u64>) -> Error {
    let found = free.map_or("a full disk".to_owned(), |free| format!("{} MB", free / 1_000_000));
    let detail = format!(
        "expected {} MB of free disk for bringing ONNX Runtime, found {found}: make room, or set \
         XDG_CACHE_HOME to a folder on another disk",
        needed.div_ceil(1_000_000)
    );
    let error =
        Error::new(ErrorKind::NoSpace, files::parent(library).display().to_string(), detail);
    match free {
        Some(available) => error.with_amounts(Amounts { needed, available }),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_folder_is_hidden_and_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let work = WorkFolder::beside(&root.path().join("library.so")).expect("made");
        assert_eq!(fs::read_dir(work.empty()).expect("there").count(), 0);
        let entry = fs::read_dir(root.path()).expect("readable").next().expect("one");
        assert!(files::is_temporary(&entry.expect("an entry").path()));
        drop(work);
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
    }

    #[test]
    fn room_is_asked_for_before_anything_is_brought() {
        let root = tempfile::tempdir().expect("a folder");
        let library = root.path().join("library.so");
        assert!(check_room(&library, 1).is_ok());
        let error = no_room(&library, 128_000_000, Some(3_000_000));
        let amounts = Amounts { needed: 128_000_000, available: 3_000_000 };
        assert_eq!((error.kind(), error.amounts()), (ErrorKind::NoSpace, Some(amounts)));
        assert_eq!(error.at(), &*root.path().to_string_lossy());
        assert!(error.detail().contains("expected 128 MB of free disk"), "{error}");
        assert!(error.detail().contains("found 3 MB"), "{error}");
        if cfg!(unix) {
            assert!(check_room(&library, u64::MAX).is_err());
        }
    }
}
