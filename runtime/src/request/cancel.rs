//! The wish to stop, from any thread. Knows no job.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pocketmuse_package::{Error, ErrorKind, Result};

/// Stops a job: before it starts, while it waits for its turn, while a graph runs, at any time and
/// from any thread. All clones are one. It cannot be taken back: the next job gets another.
///
/// [`Pipeline::with_control`](crate::Pipeline::with_control) hands it to a job.
///
/// # Example
///
/// ```
/// use std::thread;
///
/// use pocketmuse::Cancel;
///
/// let cancel = Cancel::new();
/// let button = cancel.clone();
/// thread::spawn(move || button.cancel()).join().expect("no panic");
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_cancelled: AtomicBool,
    hooks: Mutex<Hooks>,
}

/// What is to be called once.
#[derive(Default)]
struct Hooks {
    next: u64,
    by_number: BTreeMap<u64, Box<dyn Fn() + Send>>,
}

/// A call that is made when the wish comes, as long as this is there.
pub(crate) struct OnCancel<'a> {
    cancel: &'a Cancel,
    number: u64,
}

impl Cancel {
    /// Nobody wants to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops whatever job has this, now or later. Returns at once; the job ends with `Cancelled`
    /// a little later. A second call does nothing.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        self.hooks().by_number.values().for_each(|hook| hook());
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// Whether to go on.
    ///
    /// # Errors
    ///
    /// `Cancelled` if not.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }

    /// Calls `hook` when the wish comes, from the thread that has it, or at once if it came before.
    /// It may be called more than once. It must not wait, and must not touch this [`Cancel`].
    pub(crate) fn on_cancel(&self, hook: impl Fn() + Send + 'static) -> OnCancel<'_> {
        let mut hooks = self.hooks();
        if self.is_cancelled() {
            hook();
        }
        let number = hooks.next;
        hooks.next += 1;
        hooks.by_number.insert(number, Box::new(hook));
        OnCancel { cancel: self, number }
    }

    /// A panic elsewhere leaves them as good as any.
    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnCancel<'_> {
    fn drop(&mut self) {
        self.cancel.hooks().by_number.remove(&self.number);
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

/// What a job that was stopped ends with.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "", "the request was cancelled")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn clones_are_one() {
        let cancel = Cancel::new();
        cancel.check().expect("nobody wants to stop");
        let other = cancel.clone();
        std::thread::spawn(move || other.cancel()).join().expect("no panic");
        assert_eq!(cancel.check().expect_err("wanted").kind(), ErrorKind::Cancelled);
        Cancel::new().check().expect("another is another");
    }

    #[test]
    fn a_hook_is_called_before_and_after_and_not_when_it_is_gone() {
        let cancel = Cancel::new();
        let (tell, told) = mpsc::channel();
        let hook = |name: &'static str| {
            let tell = tell.clone();
            move || tell.send(name).expect("somebody listens")
        };
        let _early = cancel.on_cancel(hook("early"));
        drop(cancel.on_cancel(hook("gone")));
        cancel.cancel();
        let _late = cancel.on_cancel(hook("late"));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["early", "late"]);
    }
}
