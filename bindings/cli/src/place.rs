//! Putting finished folders where they belong, as [`pocketmuse_package::place`] does with files: a
//! reader sees the old one or the new one and never a half. Knows nothing of what is being written.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use pocketmuse_package::{Error, ErrorKind, Result, place::parent};
use tempfile::TempDir;

/// A new folder that is filled under a temporary name and then takes its own.
///
/// Dropped before [`NewFolder::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFolder {
    temporary: TempDir,
    path: PathBuf,
    overwrite: bool,
}

impl NewFolder {
    /// Begins a folder that will be called `path`; missing parents are made.
    ///
    /// # Errors
    ///
    /// `BadRequest` if `path` exists and `overwrite` is false; `Io` if its parent cannot be written
    /// to.
    pub fn begin(path: &Path, overwrite: bool) -> Result<Self> {
        refuse_existing(path, overwrite)?;
        let folder = parent(path);
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let prefix: OsString =
            [OsStr::new("."), name_of(path)?, OsStr::new("-")].into_iter().collect();
        let temporary = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempdir_in(folder);
        let temporary = temporary.map_err(|error| Error::io(folder, error))?;
        #[cfg(unix)]
        fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|error| Error::io(temporary.path(), error))?;
        Ok(Self { temporary, path: path.to_owned(), overwrite })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name; what had it before is removed afterwards.
    ///
    /// # Errors
    ///
    /// `BadRequest` if another process put something there meanwhile; `Io` if a rename fails.
    pub fn finish(self) -> Result<()> {
        let at = |error| Error::io(&self.path, error);
        refuse_existing(&self.path, self.overwrite)?;
        let old =
            tempfile::Builder::new().prefix(".old-").suffix(".part").tempdir_in(parent(&self.path));
        let old = old.map_err(at)?;
        match fs::rename(&self.path, old.path().join("old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        fs::rename(self.temporary.path(), &self.path).map_err(at)
    }
}

fn refuse_existing(path: &Path, overwrite: bool) -> Result<()> {
    if overwrite || path.symlink_metadata().is_err() {
        return Ok(());
    }
    let detail =
        "expected a new folder, found something there: choose another name or give --force";
    Err(Error::new(ErrorKind::BadRequest, path.display().to_string(), detail))
}

fn name_of(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| {
        Error::new(
            ErrorKind::BadRequest,
            path.display().to_string(),
            "expected a path that ends in a name",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("an entry").file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("model");
        let begun = NewFolder::begin(&path, false).expect("begun");
        fs::write(begun.path().join("a"), "1").expect("written");
        assert!(!path.exists());
        drop(begun);
        assert!(entries(root.path()).is_empty());

        let begun = NewFolder::begin(&path, false).expect("begun");
        fs::write(begun.path().join("a"), "1").expect("written");
        begun.finish().expect("finished");
        assert_eq!(
            (entries(root.path()), entries(&path)),
            (vec!["model".to_owned()], vec!["a".to_owned()])
        );
    }

    #[test]
    fn an_existing_folder_needs_force_and_is_replaced_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("model");
        fs::create_dir(&path).expect("made");
        fs::write(path.join("old"), "1").expect("written");
        let error = NewFolder::begin(&path, false).expect_err("exists");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        let begun = NewFolder::begin(&path, true).expect("begun");
        fs::write(begun.path().join("new"), "1").expect("written");
        begun.finish().expect("finished");
        assert_eq!(
            (entries(root.path()), entries(&path)),
            (vec!["model".to_owned()], vec!["new".to_owned()])
        );
    }
}
