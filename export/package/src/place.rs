//! Putting a finished file where it belongs: a temporary neighbour, then a rename, so that a reader
//! sees the old file or the new one and never a half. Knows nothing of what is being written.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::{Error, ErrorKind, Result};

/// The folder in which `path` lies; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A temporary file beside `path`; it is removed unless [`file()`] gives it its name.
///
/// # Errors
///
/// `Io`, naming the folder, if it is missing or cannot be written to.
pub fn neighbour(path: &Path) -> Result<NamedTempFile> {
    let folder = parent(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pocketmuse-").suffix(".part");
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions); // less the process's umask, as for any other new file
    builder.tempfile_in(folder).map_err(|error| {
        let detail = if folder.is_dir() {
            error.kind().to_string()
        } else {
            "expected a folder, found none".to_owned()
        };
        Error::new(ErrorKind::Io, folder.display().to_string(), detail).with_source(error)
    })
}

/// Gives a finished temporary file its name, replacing what had it.
///
/// # Errors
///
/// `Io` if the file cannot be renamed.
pub fn file(temporary: NamedTempFile, path: &Path) -> Result<()> {
    temporary.as_file().sync_all().map_err(|error| Error::io(path, error))?;
    temporary.persist(path).map(drop).map_err(|error| Error::io(path, error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let error = neighbour(&root.path().join("nowhere/a.png")).expect_err("missing");
        assert!(error.to_string().ends_with("nowhere: expected a folder, found none"), "{error}");
    }
}
