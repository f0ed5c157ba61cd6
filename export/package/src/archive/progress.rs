//! How far it is: counted, told to the caller, who says whether to go on.

use std::ops::ControlFlow;

use crate::{Error, ErrorKind, Result};

/// How far a copy or an import has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files that are in place. It begins above 0 where an earlier import left some.
    pub done_bytes: u64,
    /// Bytes of all files that are wanted.
    pub total_bytes: u64,
}

/// What is told of progress, and says whether to go on.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Counts what is done and asks the caller whether to go on.
pub(super) struct Meter<'a> {
    progress: Progress,
    on_progress: OnProgress<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(total_bytes: u64, on_progress: OnProgress<'a>) -> Self {
        Self { progress: Progress { done_bytes: 0, total_bytes }, on_progress }
    }

    /// Counts `bytes` more.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the caller says so.
    pub(super) fn add(&mut self, bytes: u64) -> Result<()> {
        self.progress.done_bytes += bytes;
        match (self.on_progress)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "", "stopped")),
        }
    }

    /// Bytes of files that are not in place yet.
    pub(super) fn left(&self) -> u64 {
        self.progress.total_bytes.saturating_sub(self.progress.done_bytes)
    }

    /// Begins at `bytes` again.
    pub(super) fn restart(&mut self, bytes: u64) -> Result<()> {
        self.progress.done_bytes = 0;
        self.add(bytes)
    }
}
