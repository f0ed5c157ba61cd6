//! Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, which a job does at once and everything else
//! at the next good place; a second that comes later ends the process. The one thing in this crate
//! that is global, because a signal is.

use std::{
    ops::ControlFlow,
    process,
    sync::OnceLock,
    time::{Duration, Instant},
};

use pocketmuse::Control;
use pocketmuse_package::{Error, ErrorKind, Result};

/// The exit code of a command that was asked to stop: 128 and the number of Ctrl-C's signal.
pub(crate) const EXIT_CODE: u8 = 130;

/// Signals so close together are one wish: a shell that ends and `timeout` send theirs to the
/// process and to its group.
const ONE_WISH: Duration = Duration::from_millis(500);

static ASKED: OnceLock<Instant> = OnceLock::new();

/// Listens for signals from now on. Without permission to, they end the process as usual.
pub(crate) fn listen() {
    let listening = hangup::but_ignored(|| {
        ctrlc::set_handler(|| {
            let now = Instant::now();
            control().cancel();
            if is_second(*ASKED.get_or_init(|| now), now) {
                process::exit(i32::from(EXIT_CODE));
            }
        })
    });
    if let Err(error) = listening {
        log::debug!("signals: {error}");
    }
}

#[cfg(unix)]
mod hangup {
    //! Who starts a command with `nohup` has SIGHUP ignored, and wants it to stay so.

    use nix::sys::signal::{SigHandler, Signal, signal};

    /// Lets `listen` listen to signals, but not to SIGHUP if that is ignored.
    pub(super) fn but_ignored<E>(listen: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let before = set(SigHandler::SigIgn);
        let listening = listen();
        if let Some(before) = before
            && (listening.is_err() || matches!(before, SigHandler::SigIgn))
        {
            set(before);
        }
        listening
    }

    /// What was done with SIGHUP until now.
    fn set(handler: SigHandler) -> Option<SigHandler> {
        #[expect(unsafe_code, reason = "a handler of signals cannot be proved safe")]
        // SAFETY: no code of ours runs in it: it is to be ignored, or as it was found.
        unsafe { signal(Signal::SIGHUP, handler) }.ok()
    }
}

#[cfg(not(unix))]
mod hangup {
    //! Where there is no SIGHUP.

    pub(super) fn but_ignored<E>(listen: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        listen()
    }
}

/// What a signal stops, for the jobs that this process runs.
pub(crate) fn control() -> &'static Control {
    static CONTROL: OnceLock<Control> = OnceLock::new();
    CONTROL.get_or_init(Control::new)
}

/// Whether a signal is a second wish after the one that came first.
fn is_second(first: Instant, now: Instant) -> bool {
    now.duration_since(first) > ONE_WISH
}

/// Whether to go on, for callbacks.
pub(crate) fn flow() -> ControlFlow<()> {
    if control().canceller().is_cancelled() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// Whether to go on, for everything else.
///
/// # Errors
///
/// `Cancelled` once a signal came.
pub(crate) fn check() -> Result<()> {
    if flow().is_break() { Err(Error::new(ErrorKind::Cancelled, "", "stopped")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signals_at_once_are_one_wish() {
        let first = Instant::now();
        assert!(!is_second(first, first));
        assert!(!is_second(first, first + ONE_WISH));
        assert!(is_second(first, first + 2 * ONE_WISH));
    }
}
