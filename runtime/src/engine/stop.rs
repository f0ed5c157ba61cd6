//! Stops a graph that runs, and keeps quiet about it: ONNX Runtime tells a run that was stopped as
//! it tells any that failed, by an error and by a message.

use std::{cell::RefCell, sync::Arc};

use crate::request::{Cancel, cancel::OnCancel};
use ort::session::RunOptions;

thread_local! {
    /// What stops the graph that this thread runs.
    static RUNNING: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

/// A run that a [`Cancel`] stops, from the time this is made until it is dropped.
pub(super) struct Stoppable<'a> {
    options: Arc<RunOptions>,
    _on_cancel: OnCancel<'a>,
    outer: Option<Cancel>,
}

impl<'a> Stoppable<'a> {
    /// A run that stops at once if `cancel` came before.
    ///
    /// # Errors
    ///
    /// If ONNX Runtime has no memory.
    pub(super) fn new(cancel: &'a Cancel) -> ort::Result<Self> {
        let options = Arc::new(RunOptions::new()?);
        let running = Arc::clone(&options);
        let terminate = move || {
            if let Err(error) = running.terminate() {
                log::debug!("a graph runs on: {}", error.message());
            }
        };
        let outer = RUNNING.replace(Some(cancel.clone()));
        Ok(Self { options, _on_cancel: cancel.on_cancel(terminate), outer })
    }

    /// What the run is started with.
    pub(super) fn options(&self) -> &RunOptions {
        &self.options
    }
}

impl Drop for Stoppable<'_> {
    fn drop(&mut self) {
        RUNNING.set(self.outer.take());
    }
}

/// Whether this thread runs a graph that was stopped: then its messages are about that.
pub(super) fn is_stopped() -> bool {
    RUNNING.with_borrow(|running| running.as_ref().is_some_and(Cancel::is_cancelled))
}
