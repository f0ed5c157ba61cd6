//! ONNX Runtime in this process: found, loaded, and told where its messages go. Knows no graph.

#[cfg(not(feature = "linked"))]
use std::error;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use ort::{
    environment::{Environment, EnvironmentBuilder},
    logging::LogLevel,
};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::engine::{
    address_space,
    library::{self, Place},
    stop,
};

/// ONNX Runtime, loaded into this process. There is at most one.
pub struct Runtime {
    path: PathBuf,
    environment: Environment,
}

impl Runtime {
    /// Finds and loads ONNX Runtime; the first call in a process decides which, later ones return
    /// the same.
    ///
    /// `explicit` is a library file; without one the [`library::places`] are tried in order. See
    /// [`library::disable_telemetry`] for the usage reports that it makes unless it is told not to.
    ///
    /// # Errors
    ///
    /// `EngineMissing` if no place has a library of version [`library::MINIMUM_VERSION`] or newer,
    /// or if this process already uses another library than `explicit`; `NotEnoughMemory` if its
    /// address space is limited to less than that takes; `EngineFailed` if it does not start.
    pub fn start(explicit: Option<&Path>) -> Result<&'static Self> {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _turn = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = match RUNTIME.get() {
            Some(runtime) => runtime,
            None => {
                library::disable_telemetry_if_alone();
                address_space::check()?;
                let started = Self::first_of(library::places(explicit))?;
                RUNTIME.get_or_init(|| started)
            }
        };
        match explicit {
            Some(wanted) if !same_file(&runtime.path, wanted) => {
                Err(library::in_use(&runtime.path, wanted))
            }
            _ => Ok(runtime),
        }
    }

    /// As [`Self::start`], with a library that is brought if there is none: unit tests are the
    /// first that a machine runs.
    #[cfg(test)]
    pub(crate) fn for_tests() -> &'static Self {
        Self::start(None).unwrap_or_else(|_| {
            let watch = |event: pocketmuse_setup::Event<'_>| {
                if let pocketmuse_setup::Event::Note(line) = event {
                    println!("{line}");
                }
                std::ops::ControlFlow::Continue(())
            };
            pocketmuse_setup::ensure(false, watch).expect("ONNX Runtime, through a package client");
            Self::start(None).expect("the library that was brought")
        })
    }

    /// The library file, or the name the system's loader resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// ONNX Runtime itself, of which a process has one.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Which build it is, for people and for keys.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    fn first_of(places: Vec<Place>) -> Result<Self> {
        let mut attempts = Vec::new();
        for place in places {
            match load_library(&place) {
                Ok(builder) => return Self::build(place.path().to_path_buf(), builder),
                Err(found) => attempts.push((place, found)),
            }
        }
        Err(library::not_found(&attempts))
    }

    fn build(path: PathBuf, builder: EnvironmentBuilder) -> Result<Self> {
        let builder =
            builder.with_name("pocketmuse").with_telemetry(false).with_logger(Arc::new(forward));
        let environment = builder
            .build()
            .map_err(|error| failed(format!("ONNX Runtime: {}", path.display()), &error))?;
        environment.set_log_level(LogLevel::Warning);
        log::debug!("using ONNX Runtime at {}: {}", path.display(), ort::info());
        Ok(Self { path, environment })
    }
}

/// Takes what was linked into the program, or says what was found instead.
#[cfg(feature = "linked")]
fn load_library(place: &Place) -> Result<EnvironmentBuilder, String> {
    match place {
        Place::Linked => super::linked::init(),
        _ => Err("a file, where ONNX Runtime is linked into this program".to_owned()),
    }
}

/// Loads the library at `place`, or says what was found there instead.
#[cfg(not(feature = "linked"))]
fn load_library(place: &Place) -> Result<EnvironmentBuilder, String> {
    if !matches!(place, Place::System(_)) {
        if !place.path().is_file() {
            return Err("no such file".to_owned());
        }
        if library::is_truncated(place.path()) {
            return Err("a library cut short".to_owned());
        }
    }
    ort::init_from(place.path()).map_err(found)
}

/// What was found instead of a library that works.
#[cfg(not(feature = "linked"))]
fn found(error: ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error, .. } => match error::Error::source(&error) {
            Some(reason) => reason.to_string(),
            None => error.to_string(),
        },
        ort::LoadDynamicError::BadVersion { version_str, .. } => {
            format!("version {version_str}, older than {}", library::MINIMUM_VERSION)
        }
        ort::LoadDynamicError::MissingApi { .. } | ort::LoadDynamicError::InvalidVersionString => {
            "a library, but not ONNX Runtime".to_owned()
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    canonical(a) == canonical(b)
}

/// Passes ONNX Runtime's messages to `log`, but for those of a run that was stopped; each a level lower: what fails also becomes an error,
/// and whoever gets it decides how loud it is.
fn forward(level: LogLevel, _category: &str, _id: &str, _location: &str, message: &str) {
    if stop::is_stopped() {
        return;
    }
    let level = match level {
        LogLevel::Fatal | LogLevel::Error => log::Level::Warn,
        LogLevel::Warning => log::Level::Info,
        LogLevel::Info => log::Level::Debug,
        LogLevel::Verbose => log::Level::Trace,
    };
    log::log!(target: "onnxruntime", level, "{message}");
}

/// What ONNX Runtime fails with, as an error at `at`.
pub(super) fn failed<R>(at: impl Into<String>, error: &ort::Error<R>) -> Error {
    let message = error.message();
    Error::new(kind_of(message), at, message)
}

/// ONNX Runtime has no code of its own for memory that the system does not give.
fn kind_of(message: &str) -> ErrorKind {
    const NO_MEMORY: [&str; 2] = ["std::bad_alloc", "Failed to allocate memory"];
    match NO_MEMORY.iter().any(|said| message.contains(said)) {
        true => ErrorKind::NotEnoughMemory,
        false => ErrorKind::EngineFailed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_process_uses_one_library() {
        let used = Runtime::for_tests();
        let same = Runtime::start(Some(used.path()));
        assert!(std::ptr::eq(same.expect("the one in use"), used));
        let error =
            Runtime::start(Some("/another/libonnxruntime.so".as_ref())).err().expect("another");
        assert!(error.to_string().contains("which this process already uses"), "{error}");
    }

    #[cfg(not(feature = "linked"))]
    #[test]
    fn memory_that_the_system_does_not_give_is_no_failure_of_a_graph() {
        for (message, kind) in [
            ("Exception during initialization: std::bad_alloc", ErrorKind::NotEnoughMemory),
            (
                "bfc_arena.cc: Failed to allocate memory for requested buffer of size 9",
                ErrorKind::NotEnoughMemory,
            ),
            ("Load model from x failed: Protobuf parsing failed.", ErrorKind::EngineFailed),
        ] {
            assert_eq!(kind_of(message), kind, "{message}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_library() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().to_path_buf(), folder.path().join("none.so")] {
            assert_eq!(
                load_library(&Place::File(path.clone())).err().expect("none"),
                "no such file"
            );
            assert_eq!(
                load_library(&Place::Named { path, by: "test" }).err().expect("none"),
                "no such file"
            );
        }
        let old = ort::LoadDynamicError::BadVersion {
            version_str: "1.20.1".to_owned(),
            path: "x.so".into(),
        };
        let cut = folder.path().join("cut.so");
        let header = [b"\x7fELF\x02\x01".as_slice(), &[0; 35], &[1], &[0; 22]].concat();
        fs::write(&cut, header).expect("written");
        if cfg!(target_os = "linux") {
            assert_eq!(
                load_library(&Place::File(cut)).err().expect("no library"),
                "a library cut short"
            );
        }
        assert_eq!(found(old), "version 1.20.1, older than 1.21");
        let other = ort::LoadDynamicError::MissingApi { path: "x.so".into() };
        assert_eq!(found(other), "a library, but not ONNX Runtime");
    }
}
