//! Brings the pinned ONNX Runtime into the project's cache, once, through an ordinary package
//! client. Knows where the runtime looks for it; never loads it.
//!
//! The library appears there whole or not at all, whichever way a process ends, and only if its
//! SHA-256 is the pinned one. Nothing that lies in the current folder is run or read.
#![forbid(unsafe_code)]

mod child;
mod clients;
mod environment;
mod event;
mod pinned;
mod unpack;
mod work;

use std::{
    env,
    fs::{self, File, TryLockError},
    ops::ControlFlow,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clients::{Clients, Refusal};
use event::{Watch, watch};
use pocketmuse_package::{Digest, Error, ErrorKind, Result, files, library};

pub use environment::Environment;
pub use event::Event;
pub use pinned::{NPM_PACKAGE, PINNED, Pinned, Release, Source, WHEEL, for_this_machine};
pub use unpack::{from_file, from_wheel};

/// The environment variable that forbids fetching anything, unless it is empty or `0`.
pub const OFFLINE: &str = "POCKETMUSE_OFFLINE";

/// The way out where only apt can help.
const BY_APT: &str = "install pip with: sudo apt-get install python3-pip, or run: pocketmuse setup, \
                      which does that";

/// How often a process that waits for another looks whether it is done.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the environment forbids fetching anything.
pub fn is_offline() -> bool {
    env::var_os(OFFLINE).is_some_and(|value| !value.is_empty() && value != "0")
}

/// The library in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// Its version: the pinned one, or npm's newest where only npm could bring it.
    pub version: &'static str,
    /// Whether it had to be brought.
    pub is_new: bool,
}

/// Makes sure that the pinned library is in this user's cache, installing pip for all users where
/// nothing else helps: see [`Setup::ensure`].
///
/// # Errors
///
/// As for [`Setup::of_this_machine`] and [`Setup::ensure`].
pub fn ensure(force: bool, watcher: impl FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Library> {
    Setup { may_install: true, ..Setup::of_this_machine()? }.ensure(force, watcher)
}

/// What an error adds that says that no cache can be made: the way out.
pub const NO_CACHE: &str = "; set XDG_CACHE_HOME to a folder that can be written";

/// What is brought, where to, and what the clients may see of this process.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The library and how it is known.
    pub pinned: Pinned,
    /// The release that pip is asked for.
    pub release: Release,
    /// The file that it becomes.
    pub path: PathBuf,
    /// What package clients get.
    pub environment: Environment,
    /// Whether apt may install pip for all users, where neither pip nor npm is there.
    pub may_install: bool,
}

impl Setup {
    /// The library for this machine, in this user's cache, where the runtime looks for it. Nothing
    /// else is installed.
    ///
    /// # Errors
    ///
    /// `EngineMissing` if no library is pinned for this machine, or the user has no cache folder.
    pub fn of_this_machine() -> Result<Self> {
        let path = library::cached().ok_or_else(|| {
            let detail = "expected a cache folder of this user, found no home: set \
                          XDG_CACHE_HOME, or name a library of your own with ORT_DYLIB_PATH";
            Error::new(ErrorKind::EngineMissing, "setup", detail)
        })?;
        let environment = Environment::of_this_process();
        let pinned = *for_this_machine()?;
        Ok(Self { pinned, release: WHEEL, path, environment, may_install: false })
    }

    /// The library in the cache, if it is there and one of the pinned ones, byte for byte.
    pub fn find(&self) -> Option<Library> {
        if !self.path.metadata().is_ok_and(|meta| meta.is_file()) {
            return None; // a pipe would never end
        }
        let found = Digest::of_file(&self.path).ok()?;
        let wheel = (self.pinned.wheel, self.release.version);
        let npm = self.pinned.npm.map(|npm| (npm, NPM_PACKAGE.version));
        let mut known = std::iter::once(wheel).chain(npm);
        let (_, version) = known.find(|(source, _)| source.digest() == found)?;
        Some(Library { path: self.path.clone(), version, is_new: false })
    }

    /// Makes sure that the library is in the cache, bringing it if it is not there, not whole, or
    /// if `force` is set. Two at once wait for each other. `watcher` is told what is about to
    /// happen, and asked all the while whether to go on.
    ///
    /// # Errors
    ///
    /// `EngineMissing` if no client could bring it, with what each of them said; `Io` if the cache
    /// cannot be written; `NoSpace` if its disk is full; `Cancelled` if `watcher` said to stop.
    pub fn ensure(
        &self,
        force: bool,
        mut watcher: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Library> {
        let there = || if force { None } else { self.find() };
        if let Some(library) = there() {
            return Ok(library); // even where nothing can be written
        }
        let folder = files::parent(&self.path);
        fs::create_dir_all(folder)
            .map_err(|error| Error::io(folder, error).with_advice(NO_CACHE))?;
        let _lock = lock(folder, &mut watcher)?;
        if let Some(library) = there() {
            return Ok(library); // brought by another process meanwhile
        }
        files::sweep(folder);
        let version = self.bring(&mut watcher)?;
        Ok(Library { path: self.path.clone(), version, is_new: true })
    }

    fn bring(&self, watcher: Watch<'_>) -> Result<&'static str> {
        let version = self.release.version;
        let note = format!("bringing ONNX Runtime {version} (pinned) through pip, once");
        watch(watcher, Event::Note(&note))?;
        let mut refusals = match self.by_pip(watcher)? {
            Ok(()) => return Ok(self.release.version),
            Err(refusal) => vec![refusal],
        };
        if let Some(library) = &self.pinned.npm {
            let version = NPM_PACKAGE.version;
            let note = format!(
                "pip could not; bringing ONNX Runtime {version} (pinned) through npm, once"
            );
            watch(watcher, Event::Note(&note))?;
            match self.by_npm(library, watcher)? {
                Ok(()) => return Ok(version),
                Err(refusal) => refusals.push(refusal),
            }
        }
        // Only where pip itself is missing can installing it help.
        let lacks_pip = matches!(refusals[0], Refusal::NotFound(_));
        if lacks_pip && self.may_install {
            let brought = match self.clients().apt(watcher)? {
                Ok(()) => self.by_pip(watcher)?,
                Err(refusal) => Err(refusal),
            };
            match brought {
                Ok(()) => return Ok(self.release.version),
                Err(refusal) => refusals.push(refusal),
            }
        }
        let by_apt = lacks_pip && !self.may_install && self.clients().has_apt();
        Err(unbrought(self.release, &refusals, by_apt))
    }

    fn by_pip(&self, watcher: Watch<'_>) -> Result<Result<(), Refusal>> {
        let wheel = &self.pinned.wheel;
        Ok(match self.clients().pip(self.release, self.pinned.tag, watcher)? {
            Ok(brought) => brought.place(|file| {
                from_wheel(file, &wheel.member(self.release), wheel.digest(), &self.path)
            })?,
            Err(refusal) => Err(refusal),
        })
    }

    fn by_npm(&self, library: &Source, watcher: Watch<'_>) -> Result<Result<(), Refusal>> {
        Ok(match self.clients().npm(&library.member(NPM_PACKAGE), watcher)? {
            Ok(brought) => brought.place(|file| from_file(file, library.digest(), &self.path))?,
            Err(refusal) => Err(refusal),
        })
    }

    fn clients(&self) -> Clients<'_> {
        Clients { environment: &self.environment, library: &self.path }
    }
}

/// Waits until no other process brings the library into `folder`. Where a file system has no locks,
/// the worst is to bring it twice.
fn lock(folder: &Path, watcher: Watch<'_>) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| Error::io(&path, error))?;
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        watch(watcher, Event::Note("waiting for another process that brings ONNX Runtime"))?;
        while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            watch(watcher, Event::Waiting)?;
            thread::sleep(PAUSE);
        }
    }
    Ok(file)
}

/// The error that says what each client said, and what to do: `by_apt` where apt could bring pip.
fn unbrought(release: Release, refusals: &[Refusal], by_apt: bool) -> Error {
    let said: Vec<_> = refusals.iter().map(Refusal::to_string).collect();
    let detail = format!(
        "no package client could bring ONNX Runtime {}; {}; {}, or name a library of your own with \
         ORT_DYLIB_PATH",
        release.version,
        said.join("; "),
        if by_apt { BY_APT } else { "install pip or npm and run: pocketmuse setup" }
    );
    Error::new(ErrorKind::EngineMissing, "setup", detail)
}
