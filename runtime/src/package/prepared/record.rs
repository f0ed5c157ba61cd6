//! The record of one package: which of its files passed their digest check, and what was made of
//! its graphs. A small JSON file that holds its own digest; a damaged one counts as none.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pocketmuse_package::{Digest, Error, ErrorKind, FileEntry, Result, files};
use serde::{Deserialize, Serialize};

use super::{times::Times, verdicts::Verdicts};

/// A file that was changed less than this before it was read might be changed again without a new
/// time: the coarsest clock of a file system ticks every two seconds. It is read again in the next
/// process.
pub(super) const SETTLING: Duration = Duration::from_secs(2);

/// As [`SETTLING`], of a time that has parts of a millisecond: such a clock ticks every 10 ms at
/// least.
const FINE_SETTLING: Duration = Duration::from_millis(100);

/// The most copies of one package whose files are known.
const MOST_COPIES: usize = 8;

/// A record larger than this is none.
const MAX_BYTES: u64 = 1 << 20;

/// What is kept of one package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The digest of the package's manifest.
    pub(super) digest: String,
    /// Folders that it lies in, as far as JSON can hold their names.
    pub(super) folders: Vec<PathBuf>,
    /// By name: the files of all copies that were found whole, the last found at the end. A file is
    /// known by its stamp, not by its path: whoever moves a package's folder changes no file.
    pub(super) files: BTreeMap<String, Vec<CheckedFile>>,
    /// What graphs and times depend on: the versions of this library and of ONNX Runtime, and the
    /// processor's features.
    pub(super) made_for: String,
    /// By the name of a graph's file: the digest of what ONNX Runtime made of it, or nothing if its
    /// weights are others than the package's.
    #[serde(default)]
    pub(super) graphs: BTreeMap<String, Option<Digest>>,
    /// What jobs took.
    #[serde(default, skip_serializing_if = "Times::is_empty")]
    pub(super) times: Times,
    /// What other providers than the CPU showed.
    #[serde(default, skip_serializing_if = "Verdicts::is_empty")]
    pub(super) verdicts: Verdicts,
}

impl Record {
    /// Whether a file with this stamp was found whole.
    pub(super) fn knows(&self, file: &FileEntry, stamp: Option<Stamp>) -> bool {
        let known = self.files.get(&file.path).into_iter().flatten();
        known.into_iter().any(|known| known.sha256 == file.sha256 && Some(known.stamp) == stamp)
    }

    /// Takes note of a file that was found whole.
    pub(super) fn add(&mut self, name: &str, file: CheckedFile) {
        let known = self.files.entry(name.to_owned()).or_default();
        known.retain(|known| known.stamp != file.stamp);
        known.push(file);
        known.drain(..known.len().saturating_sub(MOST_COPIES));
    }

    /// Takes note of a folder that the package lies in. Returns whether that is new.
    pub(super) fn add_folder(&mut self, folder: &Path) -> bool {
        let is_new = folder.to_str().is_some() && !self.folders.iter().any(|known| known == folder);
        if is_new {
            self.folders.push(folder.to_owned());
            self.folders.drain(..self.folders.len().saturating_sub(MOST_COPIES));
        }
        is_new
    }

    /// With what `other`, of the same package, knows of copies and of providers; and without files
    /// that might have changed unseen, and folders that are gone.
    pub(super) fn merged(&self, other: Option<Self>) -> Self {
        let mut merged = Self { files: BTreeMap::new(), ..self.clone() };
        let other = other.filter(|other| other.digest == self.digest).unwrap_or_default();
        for folder in &other.folders {
            merged.add_folder(folder);
        }
        merged.folders.retain(|folder| folder.exists());
        for (name, files) in other.files.iter().chain(&self.files) {
            let settled = files.iter().filter(|file| file.settled);
            settled.for_each(|file| merged.add(name, file.clone()));
        }
        if other.made_for == self.made_for {
            merged.verdicts = self.verdicts.merged(other.verdicts);
        }
        merged
    }
}

/// A file that passed its digest check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckedFile {
    pub(super) sha256: Digest,
    pub(super) stamp: Stamp,
    /// Whether it had been left alone for [`SETTLING`] when it was read.
    pub(super) settled: bool,
}

/// What changes when a file does. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    bytes: u64,
    modified: u64,
    /// When the file or its name was last changed, which no program can set. On systems other than
    /// Unix: when it was made.
    changed: u64,
    inode: u64,
}

/// A record with its digest, as it is written.
#[derive(Serialize, Deserialize)]
struct Sealed {
    sha256: Digest,
    record: Record,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = nanoseconds(metadata.modified());
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt as _;
            let nanoseconds =
                i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
            (u64::try_from(nanoseconds).unwrap_or(0), metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (nanoseconds(metadata.created()), 0);
        Self { bytes: metadata.len(), modified, changed, inode }
    }

    /// Whether the file had been left alone long enough at `time`: [`SETTLING`], or less where the
    /// file system's clock is seen to be fine.
    pub(super) fn is_settled(self, time: SystemTime) -> bool {
        let is_fine = |time: u64| !time.is_multiple_of(1_000_000);
        let is_fine = is_fine(self.modified) && is_fine(self.changed);
        let settling = if is_fine { FINE_SETTLING } else { SETTLING }.as_nanos() as u64;
        let settled = self.modified.max(self.changed).saturating_add(settling);
        self.modified > 0 && settled < nanoseconds(Ok(time))
    }
}

fn nanoseconds(time: std::io::Result<SystemTime>) -> u64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// The record at `path`; `None` if there is none or anything is wrong with it.
pub(super) fn read(path: &Path) -> Option<Record> {
    let json = files::read_bounded(path, MAX_BYTES, ErrorKind::Io).ok()?;
    let Sealed { sha256, record } = serde_json::from_slice(&json).ok()?;
    (sha256 == seal(&record)).then_some(record)
}

/// The digest of a record, as it is written.
fn seal(record: &Record) -> Digest {
    Digest::of(&serde_json::to_vec(record).expect("plain data with string keys always serializes"))
}

/// Writes `record` as the file `path`, whose folder is made if need be.
pub(super) fn write(path: &Path, record: Record) -> Result<()> {
    let folder = files::parent(path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let sealed = Sealed { sha256: seal(&record), record };
    let json =
        serde_json::to_vec_pretty(&sealed).expect("plain data with string keys always serializes");
    files::write(path, |out| out.write_all(&json))
}
