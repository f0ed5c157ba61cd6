//! Starting ONNX Runtime, bringing it first where there is none.

use std::{
    env,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse::{ErrorKind, Options, Runtime, library};
use pocketmuse_package::{Amounts, Error, Measured, Result};
use pocketmuse_setup::{self as setup, Event};

use crate::{stop, terminal};

/// What brings the library, for messages.
const SETUP: &str = "\nrun: pocketmuse setup";

/// Where what is found out about packages is kept: `prepared` in the project's cache; `None` where
/// a user has no home.
pub fn prepared_folder() -> Option<PathBuf> {
    Some(library::cache_folder()?.join("prepared"))
}

/// The least address space that ONNX Runtime and the buffers of a small job take.
const LEAST_ADDRESS_SPACE: u64 = 64 << 20;

/// Starts ONNX Runtime. Where none is found it is brought through a package client, unless
/// `offline`, or the environment says so, or names a library of its own.
///
/// # Errors
///
/// `EngineMissing` if it is not there and cannot or may not be brought, or is too old;
/// `NotEnoughMemory` if the process' address space is limited to less than it takes.
pub fn start(offline: bool) -> Result<&'static Runtime> {
    check_address_space(address_space_left())?;
    let missing = match Runtime::start(None) {
        Ok(runtime) => return Ok(runtime),
        Err(error) if error.kind() == ErrorKind::EngineMissing => error.with_advice(SETUP),
        Err(error) => return Err(error),
    };
    let named = env::var_os(library::VARIABLE).is_some_and(|path| !path.is_empty());
    if offline || named || setup::is_offline() {
        return Err(missing);
    }
    setup::ensure(false, watch_setup)?;
    Runtime::start(None)
}

/// Checks that there is address space for ONNX Runtime: without it, allocations fail in places where
/// nothing but the end of the process is left.
fn check_address_space(left: Option<u64>) -> Result<()> {
    match left {
        Some(left) if left < LEAST_ADDRESS_SPACE => {
            let detail = format!(
                "expected {} MiB of address space for ONNX Runtime, found {}: raise the limit \
                 (ulimit -v)",
                LEAST_ADDRESS_SPACE >> 20,
                left >> 20
            );
            let amounts = Amounts { needed: LEAST_ADDRESS_SPACE, available: left };
            Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail).with_amounts(amounts))
        }
        _ => Ok(()),
    }
}

/// The address space that this process may still take; `None` if it is not limited, or the system
/// does not tell.
#[cfg(target_os = "linux")]
fn address_space_left() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let taken: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(taken.saturating_mul(1024)))
}

#[cfg(not(target_os = "linux"))]
fn address_space_left() -> Option<u64> {
    None
}

/// Prints what the set-up says, and stops it at Ctrl-C.
pub(crate) fn watch_setup(event: Event<'_>) -> ControlFlow<()> {
    if let (Event::Note(line), ControlFlow::Continue(())) = (event, stop::flow()) {
        terminal::note(line);
    }
    stop::flow()
}

/// Measures the ranges of a draft's inner values and what its tokens look like, bringing ONNX
/// Runtime first where there is none.
///
/// # Errors
///
/// As for [`start`] and [`pocketmuse_measure::calibrate()`].
pub fn calibrate(draft: &Path) -> Result<Measured> {
    start(false)?;
    let bar = terminal::step_bar("measuring", false);
    let measured = pocketmuse_measure::calibrate(draft, &Options::default(), |sample| {
        bar.set_length(sample.images as u64);
        bar.set_position(sample.image as u64);
        stop::flow()
    });
    bar.finish_and_clear();
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_address_space_is_said() {
        for left in [None, Some(LEAST_ADDRESS_SPACE), Some(u64::MAX)] {
            check_address_space(left).expect("enough");
        }
        let error = check_address_space(Some(3 << 20)).expect_err("too little");
        assert_eq!(error.kind(), ErrorKind::NotEnoughMemory);
        assert!(error.detail().contains("found 3: raise the limit (ulimit -v)"), "{error}");
        check_address_space(address_space_left()).expect("these tests run");
    }
}
