//! Whoever watches a set-up is told what happens, and may stop it.

use std::ops::ControlFlow;

use pocketmuse_package::{Error, ErrorKind, Result};

/// What whoever watches is told; the answer says whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A line for people: what is about to happen.
    Note(&'a str),
    /// Nothing new: a client is at work, or another process. Comes many times a second.
    Waiting,
}

/// Whoever watches.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Tells `watcher` of an event.
///
/// # Errors
///
/// `Cancelled` if it says to stop.
pub(crate) fn watch(watcher: Watch<'_>, event: Event<'_>) -> Result<()> {
    match watcher(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "setup", "stopped")),
    }
}
