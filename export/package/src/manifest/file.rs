//! A file of a package: where it lies, and whether it is the one that was exported.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, ErrorKind, OnRead, Result, files};

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
        let damaged = |found: String| {
            let detail = format!("expected a file of {} bytes, found {found}", self.bytes);
            Err(Error::new(ErrorKind::PackageDamaged, file.display().to_string(), detail))
        };
        let metadata = match fs::metadata(&file) {
            Ok(metadata) => metadata,
            Err(error) => {
                return damaged(match files::broken_link(&file) {
                    Some(target) => format!(
                        "a link to {}, which is not there: fetch the package again",
                        target.display()
                    ),
                    None => format!("none: {error}"),
                });
            }
        };
        if !metadata.is_file() {
            return damaged("no file".to_owned());
        }
        if metadata.len() != self.bytes {
            return damaged(if files::is_pointer_file(&file) {
                "a pointer of Git LFS: run git lfs pull in the repository".to_owned()
            } else {
                format!("{} bytes", metadata.len())
            });
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

    /// As [`Self::check`]; `on_read` is told of the bytes of every piece that was read, 1 MB at
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
    #[test]
    fn what_lies_in_a_files_place_is_named() {
        type Place = fn(&Path);
        let cases: [(&str, Place); 4] = [
            ("found none: ", |path| fs::remove_file(path).expect("removed")),
            ("found a pointer of Git LFS: run git lfs pull in the repository", |path| {
                let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
                fs::write(path, text).expect("written");
            }),
            ("found no file", |path| {
                fs::remove_file(path).and_then(|()| fs::create_dir(path)).expect("made");
            }),
            ("found 4 bytes", |path| fs::write(path, "abcd").expect("written")),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let place = |put: &dyn Fn(&Path)| {
            let _ = fs::remove_dir(&path);
            fs::write(&path, "abc").expect("written");
            let entry = FileEntry::describe(folder.path(), "a").expect("described");
            put(&path);
            let error = entry.check_size(folder.path()).expect_err("something else");
            assert_eq!(error.kind(), ErrorKind::PackageDamaged);
            error.to_string()
        };
        for (expected, put) in cases {
            let error = place(&put);
            assert!(error.contains(&format!("expected a file of 3 bytes, {expected}")), "{error}");
        }
        #[cfg(unix)]
        {
            let error = place(&|path| {
                fs::remove_file(path).expect("removed");
                std::os::unix::fs::symlink("../blobs/gone", path).expect("a link");
            });
            assert!(error.contains("found a link to ../blobs/gone, which is not there"), "{error}");
        }
    }
}
