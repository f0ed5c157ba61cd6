//! A file of a package: where it lies, and whether it is the one that was exported.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, ErrorKind, OnRead, Result};

/// A file of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the package, parts separated by `/`, staying inside.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl FileEntry {
    /// Where the file lies when the package lies at `root`.
    pub fn locate(&self, root: &Path) -> PathBuf {
        root.join(&self.path)
    }

    /// Describes an existing file of the package at `root`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn describe(root: &Path, path: &str) -> Result<Self> {
        let file = root.join(path);
        let bytes = fs::metadata(&file).map_err(|error| Error::io(&file, error))?.len();
        Ok(Self { path: path.to_owned(), bytes, sha256: Digest::of_file(&file)? })
    }

    /// Checks that the file is there with its size. Cheap: reads no contents.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if it is missing, no file or of another size.
    pub fn check_size(&self, root: &Path) -> Result<()> {
        let file = self.locate(root);
        let damaged =
            |detail| Error::new(ErrorKind::PackageDamaged, file.display().to_string(), detail);
        let metadata = match fs::metadata(&file) {
            Ok(metadata) => metadata,
            Err(error) => {
                return Err(damaged(format!(
                    "expected a file of {} bytes, found: {error}",
                    self.bytes
                )));
            }
        };
        if !metadata.is_file() || metadata.len() != self.bytes {
            return Err(damaged(format!(
                "expected a file of {} bytes, found {} bytes",
                self.bytes,
                metadata.len()
            )));
        }
        Ok(())
    }

    /// Checks size and contents. Reads the whole file.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file is missing or not the one that was exported.
    pub fn check(&self, root: &Path) -> Result<()> {
        self.check_in_pieces(root, &mut |_| Ok(()))
    }

    /// As [`Self::check`]; `on_read` is told of the bytes of every piece that was read, 1 MiB at
    /// most.
    ///
    /// # Errors
    ///
    /// As for [`Self::check`], and what `on_read` stops with.
    pub fn check_in_pieces(&self, root: &Path, on_read: OnRead<'_>) -> Result<()> {
        self.check_size(root)?;
        let found = Digest::of_file_in_pieces(&self.locate(root), on_read)?;
        if found != self.sha256 {
            let detail =
                format!("expected SHA-256 {}, found {found}: the file was changed", self.sha256);
            return Err(Error::new(
                ErrorKind::PackageDamaged,
                self.locate(root).display().to_string(),
                detail,
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_checked_by_size_and_by_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::write(root.join("a"), "abc").expect("written");
        let entry = FileEntry::describe(root, "a").expect("described");
        entry.check(root).expect("unchanged");
        fs::write(root.join("a"), "abd").expect("written");
        entry.check_size(root).expect("same size");
        assert!(
            entry.check(root).expect_err("changed").to_string().contains("the file was changed")
        );
        fs::remove_file(root.join("a")).expect("removed");
        assert_eq!(entry.check_size(root).expect_err("gone").kind(), ErrorKind::PackageDamaged);
    }
}
