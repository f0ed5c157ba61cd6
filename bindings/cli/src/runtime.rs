//! Starting ONNX Runtime, bringing it first where there is none.

use std::{
    env,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse::{ErrorKind, Options, Runtime, library};
use pocketmuse_package::{Measured, Result};
use pocketmuse_setup::{self as setup, Event, Setup};

use crate::{stop, terminal};

/// What brings the library, for messages.
const SETUP: &str = "\nrun: pocketmuse setup";

/// Where what is found out about packages is kept: `prepared` in the project's cache; `None` where
/// a user has no home.
pub fn prepared_folder() -> Option<PathBuf> {
    Some(library::cache_folder()?.join("prepared"))
}

/// Starts ONNX Runtime. Where none is found it is brought through a package client that is there,
/// unless `offline`, or the environment says so, or names a library of its own. Nothing else is
/// installed.
///
/// # Errors
///
/// `EngineMissing` if it is not there and cannot or may not be brought, or is too old;
/// `NotEnoughMemory` if the process' address space is limited to less than it takes.
pub fn start(offline: bool) -> Result<&'static Runtime> {
    let missing = match Runtime::start(None) {
        Ok(runtime) => return Ok(runtime),
        Err(error) if error.kind() == ErrorKind::EngineMissing => error.with_advice(SETUP),
        Err(error) => return Err(error),
    };
    let named = env::var_os(library::VARIABLE).is_some_and(|path| !path.is_empty());
    if offline || named || setup::is_offline() {
        return Err(missing);
    }
    Setup::of_this_machine()?.ensure(false, watch_setup)?;
    Runtime::start(None)
}

/// Prints what the set-up says, and stops it at Ctrl-C.
pub(crate) fn watch_setup(event: Event<'_>) -> ControlFlow<()> {
    if let (Event::Note(line), ControlFlow::Continue(())) = (event, stop::flow()) {
        terminal::note(line);
    }
    stop::flow()
}

/// Measures the ranges of a draft's inner values and what its tokens look like, bringing ONNX
/// Runtime first where there is none. Images show `prompts`; without any, what the checkpoint wants or what is
/// good for most.
///
/// # Errors
///
/// As for [`start`] and [`pocketmuse_measure::calibrate()`].
pub fn calibrate(draft: &Path, prompts: &[String]) -> Result<Measured> {
    start(false)?;
    let bar = terminal::step_bar("measuring", false);
    let measured = pocketmuse_measure::calibrate(draft, &Options::default(), prompts, |sample| {
        bar.set_length(sample.images as u64);
        bar.set_position(sample.image as u64);
        stop::flow()
    });
    bar.finish_and_clear();
    measured
}
