//! Temporary names, and folders that are told to be ours by a marker inside.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::{parent, read_bounded};
use crate::{Error, ErrorKind, Result};

/// In every temporary name, before what makes it unique.
const MARK: &str = "pocketmuse-";

/// How every temporary name ends.
const ENDING: &str = ".part";

/// The marker inside a temporary folder: holds the name of what the folder is for, and is locked
/// while its process lives.
pub(super) const MARKER: &str = ".pocketmuse";

/// In a temporary folder: what was there before, where the system cannot swap.
pub(super) const OLD: &str = "old";

/// So much of a name goes into a temporary one, which has to fit into 255 bytes with the rest.
const MOST_NAME_BYTES: usize = 160;

/// The longest marker.
const MOST_MARKER_BYTES: u64 = 4096;

/// Whether a path is named as this project names temporary files and folders.
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.contains(MARK) && name.ends_with(ENDING)
}

/// `.NAME-pocketmuse-`
fn prefix(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    format!(".{}-{MARK}", &name[..name.floor_char_boundary(MOST_NAME_BYTES)])
}

/// A temporary file beside `path`, locked while it is open.
pub(super) fn file(path: &Path) -> Result<NamedTempFile> {
    let folder = parent(path);
    let prefix = prefix(path.file_name().unwrap_or_default());
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(ENDING);
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions); // less the process's umask, as for any other new file
    let file = builder.tempfile_in(folder).map_err(|error| unwritable(folder, error))?;
    let _ = file.as_file().lock(); // where a file system has no locks, its age alone protects it
    Ok(file)
}

fn unwritable(folder: &Path, error: std::io::Error) -> Error {
    let detail = if folder.is_dir() {
        error.kind().to_string()
    } else {
        "expected a folder, found none".to_owned()
    };
    Error::new(error.kind().into(), folder.display().to_string(), detail).with_source(error)
}

/// A temporary folder beside `path`. Dropped, it is removed.
#[derive(Debug)]
pub struct TemporaryFolder {
    marker: File, // closed before the folder is removed
    folder: TempDir,
}

impl TemporaryFolder {
    /// Makes a temporary folder beside `path`, after which it is named.
    ///
    /// # Errors
    ///
    /// `Io`, naming the folder around it, if that is missing or cannot be written to.
    pub fn beside(path: &Path) -> Result<Self> {
        let around = parent(path);
        let name = path.file_name().unwrap_or_default();
        let folder = Builder::new().prefix(&prefix(name)).suffix(ENDING).tempdir_in(around);
        let folder = folder.map_err(|error| unwritable(around, error))?;
        let marker = folder.path().join(MARKER);
        let failed = |error| Error::io(&marker, error);
        let mut file = File::create_new(&marker).map_err(failed)?;
        let _ = file.lock(); // where a file system has no locks, its age alone protects it
        file.write_all(name.as_encoded_bytes()).map_err(failed)?;
        Ok(Self { marker: file, folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the folder.
    pub(super) fn remove(self) -> std::io::Result<()> {
        drop(self.marker);
        self.folder.close()
    }

    /// Leaves the folder where it is.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// A temporary folder that another process made, locked if that process is gone.
pub(super) struct Leftover {
    /// What the folder was for.
    pub(super) name: OsString,
    _marker: File,
}

/// Opens a temporary folder's marker; `None` if it has none of ours, or its process lives.
pub(super) fn leftover(folder: &Path) -> Option<Leftover> {
    let path = folder.join(MARKER);
    fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let marker = File::open(&path).ok()?;
    if matches!(marker.try_lock(), Err(fs::TryLockError::WouldBlock)) {
        return None;
    }
    let name = read_bounded(&path, MOST_MARKER_BYTES, ErrorKind::Io).ok()?;
    Some(Leftover { name: os_string(name)?, _marker: marker })
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule_and_fit() {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["a.png", &"ä".repeat(127)] {
            let path = root.path().join(name);
            let (file, folder) =
                (file(&path).expect("a file"), TemporaryFolder::beside(&path).expect("a folder"));
            for temporary in [file.path(), folder.path()] {
                assert!(is_temporary(temporary), "{}", temporary.display());
                let start = format!(".{}", &name[..name.floor_char_boundary(9)]);
                let found = temporary.file_name().expect("a name").to_string_lossy();
                assert!(found.starts_with(&start), "{found}");
            }
            assert!(!is_temporary(&path));
        }
        assert!(is_temporary(Path::new(".pocketmuse-abc.part")), "as older versions named them");
        assert!(!is_temporary(Path::new(".other-abc.part")));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("nowhere/a.png");
        for error in [file(&path).map(drop), TemporaryFolder::beside(&path).map(drop)] {
            let error = error.expect_err("missing").to_string();
            assert!(error.ends_with("nowhere: expected a folder, found none"), "{error}");
        }
    }
}
