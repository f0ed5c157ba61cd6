//! A thread of the library's own, on which callbacks come. Where Java runs it is attached once for
//! its whole life, and each callback's references are freed.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::error::PocketMuseError;
#[cfg(not(target_vendor = "apple"))]
use crate::jni::{attached, in_frame};

/// A panic elsewhere leaves values that are as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` on a thread of its own.
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) -> Result<(), PocketMuseError> {
    let started =
        thread::Builder::new().name("pocketmuse".to_owned()).spawn(move || attached(body));
    started.map(drop).map_err(|error| PocketMuseError::Internal {
        reason: format!("the system gave no thread: {error}"),
    })
}

/// Makes a callback on such a thread.
pub(crate) fn call<T>(callback: impl FnOnce() -> T) -> T {
    in_frame(callback)
}

/// Makes the last callback of such a thread, which tells that `what` has ended. Nobody is left to be
/// told that this failed.
pub(crate) fn call_last(what: &str, callback: impl FnOnce() -> Result<(), PocketMuseError>) {
    let told = panic::catch_unwind(AssertUnwindSafe(|| call(callback)));
    if !matches!(told, Ok(Ok(()))) {
        log::warn!("a listener failed when it was told that its {what} had ended");
    }
}

/// Where there is no Java, a thread needs nothing.
#[cfg(target_vendor = "apple")]
fn attached(run: impl FnOnce()) {
    run();
}

/// Where there is no Java, a callback leaves nothing.
#[cfg(target_vendor = "apple")]
fn in_frame<T>(call: impl FnOnce() -> T) -> T {
    call()
}
