//! Ctrl-C: the first asks to stop at the next good place, the second ends the
//! process. The one thing in this crate that is global, because a signal is.

use std::{
    ops::ControlFlow,
    process,
    sync::atomic::{AtomicBool, Ordering},
};

use pocketmuse_package::{Error, ErrorKind, Result};

/// The exit code of a command stopped by Ctrl-C: 128 and the signal's number.
pub(crate) const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C from now on. Without permission to, Ctrl-C ends the process as usual.
pub(crate) fn listen() {
    let listening = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            process::exit(i32::from(EXIT_CODE));
        }
    });
    if let Err(error) = listening {
        log::debug!("Ctrl-C: {error}");
    }
}

/// Whether to go on, for callbacks.
pub(crate) fn flow() -> ControlFlow<()> {
    if ASKED.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Whether to go on, for everything else.
///
/// # Errors
///
/// `Cancelled` once Ctrl-C was pressed.
pub(crate) fn check() -> Result<()> {
    if flow().is_break() { Err(Error::new(ErrorKind::Cancelled, "", "stopped")) } else { Ok(()) }
}
