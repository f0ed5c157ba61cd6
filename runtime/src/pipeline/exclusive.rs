//! A value that one thread at a time has: others wait, and one that has it already is told so
//! instead of waiting for itself. Knows not what for.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use pocketmuse_package::{Error, ErrorKind, Result};

/// A value that threads take in turns.
#[derive(Default)]
pub(super) struct Exclusive<T> {
    value: Mutex<T>,
    /// The thread whose turn it is.
    holder: Mutex<Option<ThreadId>>,
}

/// The value, until this is dropped.
pub(super) struct Held<'a, T> {
    value: MutexGuard<'a, T>,
    holder: &'a Mutex<Option<ThreadId>>,
}

impl<T> Exclusive<T> {
    /// Waits for the turns before this one.
    ///
    /// # Errors
    ///
    /// `BadRequest` if this thread's turn is not over: waiting for it would take for ever.
    pub(super) fn take(&self) -> Result<Held<'_, T>> {
        let this = thread::current().id();
        if *lock(&self.holder) == Some(this) {
            let detail = "expected a call after this pipeline's job, found one from within it: \
                a callback may not run another";
            return Err(Error::new(ErrorKind::BadRequest, "pipeline", detail));
        }
        let value = lock(&self.value);
        *lock(&self.holder) = Some(this);
        Ok(Held { value, holder: &self.holder })
    }
}

/// A panic elsewhere leaves values that are as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        *lock(self.holder) = None; // before the value is free
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_has_its_turn_is_told_so() {
        let exclusive = Exclusive::<u32>::default();
        let held = exclusive.take().expect("the first");
        let error = exclusive.take().err().expect("it would wait for itself");
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "pipeline"));
        assert!(error.detail().contains("from within it"), "{error}");
        drop(held);
        assert!(exclusive.take().is_ok(), "its turn is over");
    }

    #[test]
    fn another_thread_waits() {
        let exclusive = Exclusive::<u32>::default();
        let (tell, told) = mpsc::channel();
        let mut held = exclusive.take().expect("the first");
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                tell.send(()).expect("somebody listens");
                exclusive.take().map(|held| *held)
            });
            told.recv().expect("it runs");
            *held = 7;
            drop(held);
            assert_eq!(second.join().expect("no panic").expect("its turn"), 7);
        });
    }

    #[test]
    fn a_panic_ends_a_turn() {
        let exclusive = Exclusive::<u32>::default();
        let panicked = thread::scope(|scope| {
            scope.spawn(|| exclusive.take().map(|_held| panic!("on purpose")).unwrap_or(())).join()
        });
        assert!(panicked.is_err() && exclusive.take().is_ok());
    }
}
