//! A note that a proof runs: a file that is locked as long as its process lives. What is left of it
//! without a lock is of a proof that did not end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use pocketmuse_package::{
    Error, Result,
    files::{self, TemporaryFolder},
};

/// What such a file's name ends with.
pub(super) const ENDING: &str = ".proving";

/// A proof that runs; the note is removed when this is dropped.
pub(crate) struct Marker {
    path: PathBuf,
    _locked: File,
}

impl Marker {
    /// Writes the note at `path`, in place of one that was left.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be written or locked.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        let at = |error| Error::io(&path, error);
        fs::create_dir_all(files::parent(&path)).map_err(at)?;
        let workspace = TemporaryFolder::beside(&path)?;
        let temporary = workspace.path().join("note");
        let locked = File::create(&temporary).map_err(at)?;
        locked.lock().map_err(at)?; // before anybody sees it
        fs::rename(&temporary, &path).map_err(at)?;
        Ok(Self { path, _locked: locked })
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // else it is taken for one that was left
    }
}

/// Whether the proof that the note at `path` is of did not end.
pub(super) fn is_left(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_nobody_holds_is_of_a_proof_that_did_not_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prepared").join("a.proving");
        assert!(!is_left(&path), "there is none");
        let marker = Marker::new(path.clone()).expect("written");
        assert!(path.exists() && !is_left(&path), "its process lives");
        drop(marker);
        assert!(!path.exists());
        fs::write(&path, "").expect("written");
        assert!(is_left(&path));
        let marker = Marker::new(path.clone()).expect("tried again");
        assert!(!is_left(&path));
        drop(marker);
        let files = fs::read_dir(folder.path().join("prepared")).expect("readable").count();
        assert_eq!(files, 0);
    }
}
