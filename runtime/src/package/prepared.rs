//! Per-package cache: which files passed their digest check, graphs after ONNX Runtime's
//! optimisation, and what other providers than the CPU showed. The next process then reads no
//! gigabytes, optimises no graph and proves no provider again. Knows files, not what is in a graph.
//!
//! It lies in a folder of the caller's choice: a small JSON record for each package, by the digest
//! of its manifest, with a small file for each graph beside it; the weights stay in the package.
//! Wherever the package is moved, its record is found, and copies share it. All are written to a
//! temporary neighbour and renamed, so two processes at once leave one of two good files. A record
//! holds its own digest and those of its graphs: whatever is wrong with one, it is made again.

mod folder;
mod marker;
mod record;
mod times;
mod verdicts;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use pocketmuse_package::{
    Digest, Error, ErrorKind, FileEntry, Manifest, OnRead, Result, StageEntry,
    files::{self, TemporaryFolder},
};

use self::record::{CheckedFile, Record, Stamp};
use crate::engine::{locations::moved, operators, processor};

pub use self::folder::{Entry, clean, list};
pub use self::verdicts::{Need, Speed, Verdict};
pub(crate) use self::{
    marker::Marker,
    times::{StageTime, StageTimes},
};

/// A graph larger than this is not one of ours: its weights are elsewhere.
const MAX_GRAPH_BYTES: u64 = 64 << 20;

/// By how much an optimised graph may be larger than the exported one: by constants that ONNX
/// Runtime changed. More would be a second copy of a network.
const MAX_NEW_BYTES: u64 = 4 << 20;

/// What is known of one package.
pub(crate) struct Prepared {
    root: PathBuf,
    /// Where the record lies; `None` to keep it in memory alone.
    path: Option<PathBuf>,
    state: Mutex<State>,
    /// What time it is.
    clock: fn() -> SystemTime,
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
    /// Where the graph is to be saved.
    pub(crate) fn graph(&self) -> PathBuf {
        self.0.path().join("graph.onnx")
    }
}

impl Prepared {
    /// The record of the package at `root` in `folder`, or an empty one if there is none that
    /// holds.
    ///
    /// `digest` is the manifest's, `runtime` says which ONNX Runtime this is.
    pub(crate) fn open(folder: Option<&Path>, root: &Path, digest: Digest, runtime: &str) -> Self {
        let path = folder.map(|folder| record_path(folder, digest));
        let kept = path.as_deref().and_then(|path| kept(path, digest));
        if kept.is_some() {
            path.iter().for_each(|path| folder::touch(path, SystemTime::now()));
        }
        let (mut record, made_for) = (kept.unwrap_or_else(|| empty(digest)), made_for(runtime));
        if record.made_for != made_for {
            record = Record {
                made_for,
                graphs: Default::default(),
                times: Default::default(),
                verdicts: Default::default(),
                ..record
            };
        }
        let is_new = record.add_folder(&real(root)) && !record.files.is_empty();
        let state = State { record, is_new, keeps_graphs: path.is_some() };
        Self { root: root.to_path_buf(), path, state: Mutex::new(state), clock: SystemTime::now }
    }

    /// Takes note in `folder` that the package at `root` was just imported, so that all its files
    /// were checked: the first process that opens it reads none of them for that, but those that
    /// came last before `now`, which might be changed unseen.
    ///
    /// # Errors
    ///
    /// `Io` if the record cannot be written.
    pub(crate) fn keep_imported(
        folder: &Path,
        root: &Path,
        manifest: &Manifest,
        now: SystemTime,
    ) -> Result<()> {
        let digest = manifest.digest();
        let path = record_path(folder, digest);
        let mut record = kept(&path, digest).unwrap_or_else(|| empty(digest));
        record.add_folder(&real(root));
        for file in manifest.files() {
            let path = file.locate(root);
            let metadata = fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
            let stamp = Stamp::of(&metadata);
            let settled = stamp.is_settled(now);
            record.add(&file.path, CheckedFile { sha256: file.sha256, stamp, settled });
        }
        record::write(&path, record.merged(None))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a file's contents, unless that was done before and the file is as it was.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file is missing or not the one that was exported, and what `on_read`
    /// stops with.
    pub(crate) fn check(&self, file: &FileEntry, on_read: OnRead<'_>) -> Result<()> {
        let started = (Instant::now(), (self.clock)());
        let path = file.locate(&self.root);
        let stamp = self.stamp(file);
        if self.is_known(file, stamp) {
            return Ok(());
        }
        file.check_in_pieces(&self.root, on_read)?; // others may read other files meanwhile
        log::debug!("{}: {} bytes checked in {:.1?}", file.path, file.bytes, started.0.elapsed());
        let stamp =
            stamp.filter(|stamp| fs::metadata(&path).is_ok_and(|now| Stamp::of(&now) == *stamp));
        if let Some(stamp) = stamp {
            let settled = stamp.is_settled(started.1);
            let mut state = self.state();
            state.is_new |= settled;
            let checked = CheckedFile { sha256: file.sha256, stamp, settled };
            state.record.add(&file.path, checked);
        }
        Ok(())
    }

    /// Whether a file was checked before and is as it was.
    pub(crate) fn is_checked(&self, file: &FileEntry) -> bool {
        self.is_known(file, self.stamp(file))
    }

    fn is_known(&self, file: &FileEntry, stamp: Option<Stamp>) -> bool {
        self.state().record.knows(file, stamp)
    }

    fn stamp(&self, file: &FileEntry) -> Option<Stamp> {
        fs::metadata(file.locate(&self.root)).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// What jobs called `kind` took before.
    pub(crate) fn times(&self, kind: &str) -> StageTimes {
        self.state().record.times.of(kind)
    }

    /// Takes note of what a job called `kind` took.
    pub(crate) fn add_times(&self, kind: &str, times: &StageTimes) {
        let mut state = self.state();
        let is_worth_it = state.record.times.add(kind, times);
        state.is_new |= is_worth_it;
        drop(state);
        self.save();
    }

    /// What was found out about `key`: a provider, a stage, and all that it depends on besides this
    /// library, ONNX Runtime and the processor.
    pub(crate) fn verdict(&self, key: &str) -> Option<Verdict> {
        self.state().record.verdicts.of(key).cloned()
    }

    /// Takes note of what was found out about `key`.
    pub(crate) fn add_verdict(&self, key: &str, verdict: Verdict) {
        let mut state = self.state();
        state.record.verdicts.add(key, verdict);
        state.is_new = true;
        drop(state);
        self.save();
    }

    /// Forgets what was found out about `key`, and that a proof of it did not end.
    pub(crate) fn forget_verdict(&self, key: &str) {
        let mut state = self.state();
        state.record.verdicts.remove(key);
        let Some(path) = self.path.as_deref() else { return };
        let _ = fs::remove_file(marker_path(path, key)); // which need not be there
        let mut kept = record::read(path);
        kept.iter_mut().for_each(|kept| kept.verdicts.remove(key));
        if let Err(error) = record::write(path, state.record.merged(kept)) {
            log::warn!("what was found out about a provider cannot be forgotten: {error}");
        }
    }

    /// Takes note that a proof about `key` runs, until what is returned is dropped. `None` where
    /// nothing can be kept.
    pub(crate) fn mark(&self, key: &str) -> Option<Marker> {
        let marker = Marker::new(marker_path(self.path.as_deref()?, key));
        marker.inspect_err(|error| log::debug!("a proof runs unmarked: {error}")).ok()
    }

    /// Whether a proof about `key` did not end, in a process that is gone.
    pub(crate) fn is_unfinished(&self, key: &str) -> bool {
        self.path.as_deref().is_some_and(|path| marker::is_left(&marker_path(path, key)))
    }

    /// Writes the record if there is anything new in it. Where that fails the package works as
    /// well, and loads slower the next time: a warning says so, once.
    pub(crate) fn save(&self) {
        let mut state = self.state();
        let Some(path) = self.path.as_deref().filter(|_| state.is_new) else { return };
        state.is_new = false;
        let written = record::write(path, state.record.merged(record::read(path)));
        let forget = |()| folder::forget_the_gone(files::parent(path), (self.clock)());
        if let Err(error) = written.and_then(forget) {
            log::warn!(
                "the package is checked again the next time, since that it is whole cannot be \
                kept: {error}"
            );
        }
    }

    /// The graph of `stage` as ONNX Runtime optimised it before, its weights in the package.
    pub(crate) fn graph(&self, stage: &StageEntry) -> Option<Vec<u8>> {
        let path = graph_path(self.path.as_deref()?, stage);
        let state = self.state();
        let sha256 = (*state.record.graphs.get(&stage.graph.path)?)?;
        drop(state);
        let graph = files::read_bounded(&path, MAX_GRAPH_BYTES, ErrorKind::Io);
        graph.ok().filter(|bytes| Digest::of(bytes) == sha256)
    }

    /// Where ONNX Runtime is to save what it makes of the graph of `stage`; `None` if nothing of it
    /// is kept.
    pub(crate) fn workspace(&self, stage: &StageEntry) -> Option<Workspace> {
        let path = self.path.as_deref()?;
        let state = self.state();
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
        match saved.map(|saved| write_graph(path, stage, &saved.graph())) {
            Ok(Ok(sha256)) => {
                let mut state = self.state();
                state.record.graphs.insert(stage.graph.path.clone(), sha256);
                state.is_new = true;
            }
            Ok(Err(error)) => self.keep_no_graphs(&error),
            Err(error) => self.keep_no_graphs(error),
        }
    }

    fn keep_no_graphs(&self, error: &Error) {
        let mut state = self.state();
        if std::mem::take(&mut state.keeps_graphs) {
            log::warn!(
                "graphs are optimised again the next time, since what was made of them cannot be \
                kept: {error}"
            );
        }
    }
}

/// Writes the graph that ONNX Runtime saved in the file `saved` beside `record`; `None` if it holds
/// too many constants of its own.
fn write_graph(record: &Path, stage: &StageEntry, saved: &Path) -> Result<Option<Digest>> {
    let failed = |error| Error::io(saved, error);
    if fs::metadata(saved).map_err(failed)?.len() > stage.graph.bytes + MAX_NEW_BYTES {
        return Ok(None);
    }
    let mut graph = fs::read(saved).map_err(failed)?;
    if let Some(name) = stage.weights_name()? {
        // The next package with this digest may lie elsewhere, and be no links.
        graph = moved(&graph, &name).ok_or_else(|| {
            let detail = "expected an ONNX graph of ONNX Runtime, found something else";
            Error::new(ErrorKind::EngineFailed, stage.graph.path.clone(), detail)
        })?;
    }
    files::write(&graph_path(record, stage), |out| out.write_all(&graph))?;
    Ok(Some(Digest::of(&graph)))
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

/// Where it is noted that a proof about `key` runs: beside the record at `path`.
fn marker_path(path: &Path, key: &str) -> PathBuf {
    let record = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{record}-{key}{}", marker::ENDING))
}

/// Where the record of the package with this digest lies.
fn record_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{digest}.json"))
}

/// The record at `path`, if there is one of this package.
fn kept(path: &Path, digest: Digest) -> Option<Record> {
    record::read(path).filter(|kept| kept.digest == digest.to_string())
}

/// A record that knows nothing yet.
fn empty(digest: Digest) -> Record {
    Record { digest: digest.to_string(), ..Record::default() }
}

fn real(root: &Path) -> PathBuf {
    root.canonicalize().unwrap_or_else(|_| root.to_path_buf())
}

/// What graphs, times and verdicts depend on besides the package: the versions of this library, of
/// its operators and of ONNX Runtime, and what the processor can do.
fn made_for(runtime: &str) -> String {
    let mut processor = vec![std::env::consts::ARCH];
    processor.extend(processor::instruction_sets());
    let (own, operators) = (env!("CARGO_PKG_VERSION"), operators::VERSION);
    format!("pocketmuse {own}, operators {operators}; {runtime}; {}", processor.join(" "))
}

#[cfg(test)]
mod tests;
