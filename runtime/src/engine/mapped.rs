//! The files that a loaded graph computes from. ONNX Runtime maps them, so what is written into one
//! later changes the results: such a change is noticed before a result is used. A file that is
//! replaced by another with its name is none, since the old one stays as it was.

use std::{
    fs::{self, File, Metadata},
    path::{Path, PathBuf},
    time::SystemTime,
};

use pocketmuse_package::{Error, ErrorKind, Result, StageEntry, files};

/// The files of one stage, open.
#[derive(Default)]
pub(crate) struct MappedFiles(Vec<MappedFile>);

struct MappedFile {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// What changes when a file is written to: its size and the time of that.
type Stamp = (u64, Option<SystemTime>);

impl MappedFiles {
    /// Opens the files of `entry` in the package at `root`: before their contents are checked, so
    /// that no change afterwards is missed.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if one is missing or of another size; `Io` if it cannot be opened.
    pub(crate) fn open(root: &Path, entry: &StageEntry) -> Result<Self> {
        let files = std::iter::once(&entry.graph).chain(&entry.weights);
        let open = |path: PathBuf| {
            let file = files::open(&path, ErrorKind::PackageDamaged)?;
            let stamp = stamp(&file.metadata().map_err(|error| Error::io(&path, error))?);
            Ok(MappedFile { path, file, stamp })
        };
        let files = files.map(|file| file.check_size(root).and_then(|()| open(file.locate(root))));
        files.collect::<Result<_>>().map(Self)
    }

    /// Checks that these are the files that were just loaded by their names.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if one was replaced or changed since it was opened.
    pub(crate) fn check_loaded(&self) -> Result<()> {
        self.check()?;
        let replaced =
            |mapped: &&MappedFile| match (mapped.file.metadata(), fs::metadata(&mapped.path)) {
                (Ok(ours), Ok(found)) => !is_same(&ours, &found),
                _ => true,
            };
        match self.0.iter().find(replaced) {
            Some(mapped) => Err(mapped.changed("another file, put there while it was loaded")),
            None => Ok(()),
        }
    }

    /// Checks that nobody wrote into the files since they were opened.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if somebody did.
    pub(crate) fn check(&self) -> Result<()> {
        let is_as_before = |mapped: &MappedFile| {
            mapped.file.metadata().is_ok_and(|metadata| stamp(&metadata) == mapped.stamp)
        };
        match self.0.iter().find(|mapped| !is_as_before(mapped)) {
            Some(mapped) => Err(mapped.changed("it changed")),
            None => Ok(()),
        }
    }
}

impl MappedFile {
    fn changed(&self, found: &str) -> Error {
        let detail = format!(
            "expected the file that was checked, found {found}: nothing that was computed from it \
             is used; a package in use may be replaced by a rename and never rewritten in place"
        );
        Error::new(ErrorKind::PackageDamaged, self.path.display().to_string(), detail)
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.modified().ok())
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.len(), a.created().ok()) == (b.len(), b.created().ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use pocketmuse_package::FileEntry;

    use super::*;

    fn stage() -> (tempfile::TempDir, StageEntry) {
        let root = tempfile::tempdir().expect("a folder");
        let file = |name: &str| {
            fs::write(root.path().join(name), "1234").expect("written");
            let past = SystemTime::UNIX_EPOCH;
            let file = File::options().append(true).open(root.path().join(name)).expect("opened");
            file.set_modified(past).expect("a time");
            FileEntry::describe(root.path(), name).expect("described")
        };
        let entry = StageEntry {
            graph: file("a.onnx"),
            weights: Some(file("a.data")),
            held: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            taps: Default::default(),
            contexts: Vec::new(),
            without_graph: false,
        };
        (root, entry)
    }

    #[test]
    fn what_is_written_into_a_file_is_noticed() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("rewritten", |path| fs::write(path, "1235").expect("written")),
            ("longer", |path| {
                let mut file = File::options().append(true).open(path).expect("opened");
                file.write_all(b"5").expect("written");
            }),
            ("cut", |path| {
                File::options()
                    .write(true)
                    .open(path)
                    .and_then(|file| file.set_len(2))
                    .expect("cut")
            }),
            ("cut and written again", |path| {
                fs::write(path, "").expect("cut");
                fs::write(path, "1234").expect("written");
            }),
            ("older", |path| {
                let file = File::options().write(true).open(path).expect("opened");
                let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_000);
                file.set_modified(time).expect("a time");
            }),
        ];
        for (name, change) in changes {
            for file in ["a.onnx", "a.data"] {
                let (root, entry) = stage();
                let mapped = MappedFiles::open(root.path(), &entry).expect("there");
                mapped.check_loaded().expect("as it was");
                change(&root.path().join(file));
                let error = mapped.check().expect_err(name);
                assert_eq!(error.kind(), ErrorKind::PackageDamaged);
                assert!(error.at().ends_with(file), "{error}");
            }
        }
    }

    #[test]
    fn a_file_that_is_replaced_stays_as_it_was() {
        let (root, entry) = stage();
        let mapped = MappedFiles::open(root.path(), &entry).expect("there");
        fs::write(root.path().join("new"), "5678").expect("written");
        fs::rename(root.path().join("new"), root.path().join("a.data")).expect("renamed");
        mapped.check().expect("the old one is as it was");
        // While it was loaded nobody knows which of the two was.
        assert_eq!(mapped.check_loaded().expect_err("another").kind(), ErrorKind::PackageDamaged);
        fs::remove_file(root.path().join("a.onnx")).expect("removed");
        mapped.check().expect("the old one is as it was");
    }
}
