//! What was found out about a package once and holds until its files change: which of them are
//! whole, and its graphs as ONNX Runtime optimised them. Kept in a folder of the caller's choice,
//! so that the next process need not read gigabytes and rewrite graphs again. Knows files, not what
//! is in a graph.
//!
//! A record is one small JSON file for each package folder, with a small file for each graph beside
//! it; the weights stay in the package. All are written to a temporary neighbour and renamed, so
//! two processes at once leave one of two good files. A record holds its own digest and those of
//! its graphs: whatever is wrong with one, it is made again.

mod graph;

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pocketmuse_package::{
    Digest, Error, FileEntry, Result, StageEntry,
    files::{self, TemporaryFolder},
};
use serde::{Deserialize, Serialize};

/// A file that was changed less than this before it was read might be changed again without a new
/// time: the coarsest clock of a file system ticks every two seconds. It is read again in the next
/// process.
const SETTLING: Duration = Duration::from_secs(2);

/// A record larger than this is none.
const MAX_BYTES: u64 = 1 << 20;

/// What a process that was killed left is removed when it is this old.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A graph larger than this is not one of ours: its weights are elsewhere.
const MAX_GRAPH_BYTES: u64 = 64 << 20;

/// What is known of one package.
pub(crate) struct Prepared {
    root: PathBuf,
    /// Where the record lies; `None` to keep it in memory alone.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    record: Record,
    /// Whether the record holds more than the file at `path`.
    is_new: bool,
    /// Whether graphs are kept: until the first failure.
    keeps_graphs: bool,
}

/// A folder for what ONNX Runtime saves, removed when this is dropped.
pub(crate) struct Workspace(TemporaryFolder);

impl Workspace {
    /// Where the graph is to be saved; its weights go beside it, with the ending `data`.
    pub(crate) fn graph(&self) -> PathBuf {
        self.0.path().join("graph.onnx")
    }
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The package's folder.
    package: PathBuf,
    /// The digest of the package's manifest.
    digest: String,
    /// The versions of this library and of ONNX Runtime, and the processor's features.
    made_for: String,
    files: BTreeMap<String, Whole>,
    /// By the name of a graph's file: the digest of what ONNX Runtime made of it, or nothing if its
    /// weights are others than the package's.
    #[serde(default)]
    graphs: BTreeMap<String, Option<Digest>>,
}

/// A file that was whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    sha256: Digest,
    stamp: Stamp,
    /// Whether it had been left alone for [`SETTLING`] when it was read.
    settled: bool,
}

/// What changes when a file does. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified: u64,
    /// When the file or its name was last changed, which no program can set; elsewhere than on
    /// Unix, when it was made.
    changed: u64,
    inode: u64,
}

/// A record with its digest, as it is written.
#[derive(Serialize, Deserialize)]
struct Sealed {
    sha256: Digest,
    record: Record,
}

impl Prepared {
    /// The record of the package at `root` in `folder`, or an empty one if there is none that
    /// holds.
    ///
    /// `digest` is the manifest's, `runtime` says which ONNX Runtime this is.
    pub(crate) fn open(folder: Option<&Path>, root: &Path, digest: Digest, runtime: &str) -> Self {
        let package = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        // JSON cannot hold a path that is no text: such a package is prepared anew each time.
        let folder = folder.filter(|_| package.to_str().is_some());
        let path = folder.map(|folder| folder.join(format!("{}.json", name(&package))));
        let made_for =
            format!("pocketmuse {}; {runtime}; {}", env!("CARGO_PKG_VERSION"), processor());
        let empty = Record { package, digest: digest.to_string(), made_for, ..Record::default() };
        let kept = path.as_deref().and_then(read).filter(|kept| {
            (&kept.package, &kept.digest, &kept.made_for)
                == (&empty.package, &empty.digest, &empty.made_for)
        });
        let state =
            State { record: kept.unwrap_or(empty), is_new: false, keeps_graphs: path.is_some() };
        Self { root: root.to_path_buf(), path, state: Mutex::new(state) }
    }

    /// Checks a file's contents, unless that was done before and the file is as it was.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file is missing or not the one that was exported.
    pub(crate) fn check(&self, file: &FileEntry) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = (Instant::now(), SystemTime::now());
        let path = file.locate(&self.root);
        let stamp = fs::metadata(&path).ok().map(|metadata| Stamp::of(&metadata));
        let known = state.record.files.get(&file.path);
        if known.is_some_and(|whole| whole.sha256 == file.sha256 && Some(whole.stamp) == stamp) {
            return Ok(());
        }
        file.check(&self.root)?;
        log::debug!("{}: {} bytes checked in {:.1?}", file.path, file.bytes, started.0.elapsed());
        let stamp =
            stamp.filter(|stamp| fs::metadata(&path).is_ok_and(|now| Stamp::of(&now) == *stamp));
        if let Some(stamp) = stamp {
            let whole = Whole { sha256: file.sha256, stamp, settled: stamp.is_settled(started.1) };
            state.is_new |= whole.settled;
            state.record.files.insert(file.path.clone(), whole);
        }
        Ok(())
    }

    /// Writes the record if there is anything new in it. Where that fails the package works as
    /// well, and loads slower the next time: a warning says so, once.
    pub(crate) fn save(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = self.path.as_deref().filter(|_| state.is_new) else { return };
        state.is_new = false;
        let files = state.record.files.iter().filter(|(_, whole)| whole.settled);
        let files = files.map(|(name, whole)| (name.clone(), whole.clone())).collect();
        if let Err(error) = write(path, Record { files, ..state.record.clone() }) {
            log::warn!(
                "the package is checked again the next time, since that it is whole cannot be kept: {error}"
            );
        }
    }

    /// The graph of `stage` as ONNX Runtime optimised it before, its weights in the package.
    pub(crate) fn graph(&self, stage: &StageEntry) -> Option<Vec<u8>> {
        let path = graph_path(self.path.as_deref()?, stage);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sha256 = (*state.record.graphs.get(&stage.graph.path)?)?;
        drop(state);
        if fs::metadata(&path).ok()?.len() > MAX_GRAPH_BYTES {
            return None;
        }
        fs::read(path).ok().filter(|bytes| Digest::of(bytes) == sha256)
    }

    /// Where ONNX Runtime is to save what it makes of the graph of `stage`; `None` if nothing of it
    /// is kept.
    pub(crate) fn workspace(&self, stage: &StageEntry) -> Option<Workspace> {
        let path = self.path.as_deref()?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.keeps_graphs || state.record.graphs.get(&stage.graph.path) == Some(&None) {
            return None;
        }
        drop(state);
        workspace(path).map_err(|error| self.keep_no_graphs(&error)).ok()
    }

    /// Keeps the graph of `stage` that ONNX Runtime saved, or not: then a warning says, once, that
    /// graphs are optimised whenever they are loaded.
    pub(crate) fn keep(&self, stage: &StageEntry, saved: Result<Workspace, &Error>) {
        let Some(path) = &self.path else { return };
        let kept = saved.map(|saved| self.write_graph(&graph_path(path, stage), stage, &saved));
        match kept {
            Ok(Ok(sha256)) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.record.graphs.insert(stage.graph.path.clone(), sha256);
                state.is_new = true;
            }
            Ok(Err(error)) => self.keep_no_graphs(&error),
            Err(error) => self.keep_no_graphs(error),
        }
    }

    fn keep_no_graphs(&self, error: &Error) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.keeps_graphs) {
            log::warn!(
                "graphs are optimised again the next time, since what was made of them cannot be kept: {error}"
            );
        }
    }

    fn write_graph(
        &self,
        path: &Path,
        stage: &StageEntry,
        saved: &Workspace,
    ) -> Result<Option<Digest>> {
        let read = |path: &Path| fs::read(path).map_err(|error| Error::io(path, error));
        let exported = graph::Model {
            graph: read(&stage.graph.locate(&self.root))?,
            weights: stage.weights.as_ref().map(|weights| weights.locate(&self.root)),
        };
        let weights = saved.graph().with_extension("data");
        let saved = graph::Model {
            graph: read(&saved.graph())?,
            weights: weights.exists().then_some(weights),
        };
        let Some(bytes) = graph::with_weights_of(&exported, &saved)? else { return Ok(None) };
        files::write(path, |out| out.write_all(&bytes))?;
        Ok(Some(Digest::of(&bytes)))
    }
}

/// A new folder beside the record at `path`.
fn workspace(path: &Path) -> Result<Workspace> {
    let folder = files::parent(path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    TemporaryFolder::beside(path).map(Workspace)
}

/// Where what was made of a graph is kept: beside the record at `path`.
fn graph_path(path: &Path, stage: &StageEntry) -> PathBuf {
    let record = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{record}-{}", stage.graph.path.replace(['/', '\\'], "-")))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
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

    /// Whether the file had been left alone for [`SETTLING`] at `time`.
    fn is_settled(self, time: SystemTime) -> bool {
        let settled = self.modified.max(self.changed).saturating_add(SETTLING.as_nanos() as u64);
        self.modified > 0 && settled < nanoseconds(Ok(time))
    }
}

fn nanoseconds(time: std::io::Result<SystemTime>) -> u64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// A record's name: of the package's folder, so that there is one for each.
fn name(package: &Path) -> Digest {
    Digest::of(package.as_os_str().as_encoded_bytes())
}

/// The processor, as far as it decides which kernels run.
fn processor() -> String {
    let mut features = vec![std::env::consts::ARCH];
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    for (name, is_there) in [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
    ] {
        features.extend(is_there.then_some(name));
    }
    #[cfg(target_arch = "aarch64")]
    for (name, is_there) in [
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ] {
        features.extend(is_there.then_some(name));
    }
    features.join(" ")
}

/// The record at `path`; `None` if there is none or anything is wrong with it.
fn read(path: &Path) -> Option<Record> {
    if fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let Sealed { sha256, record } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (sha256 == seal(&record)).then_some(record)
}

fn seal(record: &Record) -> Digest {
    Digest::of(&serde_json::to_vec(record).expect("plain data with string keys always serializes"))
}

fn write(path: &Path, record: Record) -> Result<()> {
    let folder = files::parent(path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let sealed = Sealed { sha256: seal(&record), record };
    let json =
        serde_json::to_vec_pretty(&sealed).expect("plain data with string keys always serializes");
    files::write(path, |out| out.write_all(&json))?;
    forget_the_gone(folder)
}

/// Removes what is kept of packages that are there no more, and what killed processes left long
/// ago.
fn forget_the_gone(folder: &Path) -> Result<()> {
    for entry in list(folder)? {
        let is_gone = match &entry.package {
            Some(package) => !package.exists(),
            None => files::is_temporary(&entry.path) && is_abandoned(&entry.path),
        };
        if is_gone {
            entry.remove()?;
        }
    }
    Ok(())
}

fn is_abandoned(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > ABANDONED)
}

/// What is kept of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's file.
    pub path: PathBuf,
    /// The package it is about; `None` if the record is damaged or missing, or this is what a
    /// process that was killed left.
    pub package: Option<PathBuf>,
    /// Files of the package that were found whole.
    pub files: usize,
    /// Its optimised graphs.
    pub graphs: Vec<PathBuf>,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Entry {
    fn of(path: PathBuf) -> Self {
        let record = read(&path);
        let files = record.as_ref().map_or(0, |record| record.files.len());
        let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self {
            path,
            package: record.map(|record| record.package),
            files,
            graphs: Vec::new(),
            bytes,
        }
    }

    /// Removes all of it; another process may have done so meanwhile.
    fn remove(&self) -> Result<()> {
        for path in std::iter::once(&self.path).chain(&self.graphs) {
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is kept in `folder`, by name; nothing if there is no such folder.
///
/// # Errors
///
/// `Io` if it cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Entry>> {
    let at = |error| Error::io(folder, error);
    let paths = match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry.map_err(at)?.path())).collect::<Result<Vec<_>>>()?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(error)),
    };
    let mut found = BTreeMap::new();
    for path in &paths {
        if files::is_temporary(path) {
            found.insert(path.clone(), Entry::of(path.clone()));
        } else if let Some(record) = record_of(path) {
            let entry = found.entry(record).or_insert_with_key(|record| Entry::of(record.clone()));
            if *path != entry.path {
                entry.bytes += fs::metadata(path).map_or(0, |metadata| metadata.len());
                entry.graphs.push(path.clone());
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Removes all that is kept in `folder`, leftovers of killed processes too, and nothing else.
/// Returns of how many packages.
///
/// # Errors
///
/// `Io` if a file cannot be removed.
pub fn clean(folder: &Path) -> Result<usize> {
    let entries = list(folder)?;
    entries.iter().try_for_each(Entry::remove)?;
    Ok(entries.len())
}

/// The record that a file belongs to: itself, or that of a graph; `None` for what is not ours.
fn record_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let digest =
        name.strip_suffix(".json").or_else(|| name.strip_suffix(".onnx")?.split('-').next())?;
    digest.parse::<Digest>().is_ok().then(|| path.with_file_name(format!("{digest}.json")))
}

#[cfg(test)]
mod tests;
