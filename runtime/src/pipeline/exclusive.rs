//! A value that threads take in turns, first come, first served. One that waits can be told to stop
//! waiting; one that has its turn already is told so instead of waiting for itself. Knows not what
//! for.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use pocketmuse_package::{Error, ErrorKind, Result};

use crate::request::Cancel;

/// A value that threads take in turns.
#[derive(Default)]
pub(super) struct Exclusive<T> {
    value: Mutex<T>,
    line: Arc<Line>,
}

/// Those who wait.
#[derive(Default)]
struct Line {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<u64>,
    /// The thread whose turn it is.
    holder: Option<ThreadId>,
}

/// The value, until this is dropped.
pub(super) struct Held<'a, T> {
    value: MutexGuard<'a, T>, // free before the turn is over
    _turn: Turn<'a>,
}

/// Whoever holds it has the turn.
struct Turn<'a>(&'a Line);

/// A place among those who wait.
struct Waiting<'a> {
    line: &'a Line,
    number: u64,
}

impl<T> Exclusive<T> {
    /// Waits for the turns before this one; `on_wait` is called once if there are any.
    ///
    /// # Errors
    ///
    /// `BadRequest` if this thread's turn is not over: waiting for it would take for ever.
    /// `Cancelled` if `cancel` comes before the turn does.
    pub(super) fn take(&self, cancel: &Cancel, on_wait: impl FnOnce()) -> Result<Held<'_, T>> {
        cancel.check()?;
        let this = thread::current().id();
        let mut queue = self.line.lock();
        if queue.holder == Some(this) {
            let detail = "expected a call after this pipeline's job, found one from within it: \
                a callback may not run another";
            return Err(Error::new(ErrorKind::BadRequest, "pipeline", detail));
        }
        if queue.is_free() {
            return Ok(self.begin(queue));
        }
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(number);
        drop(queue);
        let _waiting = Waiting { line: &self.line, number };
        on_wait();
        let line = Arc::clone(&self.line);
        let _awake = cancel.on_cancel(move || {
            drop(line.lock()); // whoever looked before this waits now, and hears it
            line.changed.notify_all();
        });
        let mut queue = self.line.lock();
        while queue.holder.is_some() || queue.waiting.front() != Some(&number) {
            cancel.check()?;
            queue = self.line.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(self.begin(queue))
    }

    /// The value if nobody has it and nobody waits.
    pub(super) fn try_take(&self) -> Option<Held<'_, T>> {
        let queue = self.line.lock();
        queue.is_free().then(|| self.begin(queue))
    }

    fn begin(&self, mut queue: MutexGuard<'_, Queue>) -> Held<'_, T> {
        queue.holder = Some(thread::current().id());
        drop(queue);
        let turn = Turn(&self.line);
        Held { value: lock(&self.value), _turn: turn }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn is_free(&self) -> bool {
        self.holder.is_none() && self.waiting.is_empty()
    }
}

/// A panic elsewhere leaves values that are as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().holder = None;
        self.0.changed.notify_all();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.line.lock().waiting.retain(|number| *number != self.number);
        self.line.changed.notify_all();
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
    use std::sync::mpsc::{self, Sender};

    use super::*;

    fn take<T>(exclusive: &Exclusive<T>) -> Result<Held<'_, T>> {
        exclusive.take(&Cancel::new(), || ())
    }

    /// Takes a turn once others had theirs, and says when it waits.
    fn wait<T>(exclusive: &Exclusive<T>, cancel: &Cancel, waits: &Sender<()>) -> Result<T>
    where
        T: Clone,
    {
        let held = exclusive.take(cancel, || waits.send(()).expect("somebody listens"))?;
        Ok(held.clone())
    }

    #[test]
    fn a_thread_that_has_its_turn_is_told_so() {
        let exclusive = Exclusive::<u32>::default();
        let held = take(&exclusive).expect("the first");
        let error = take(&exclusive).err().expect("it would wait for itself");
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "pipeline"));
        assert!(error.detail().contains("from within it"), "{error}");
        assert!(exclusive.try_take().is_none());
        drop(held);
        assert!(take(&exclusive).is_ok() && exclusive.try_take().is_some(), "its turn is over");
    }

    #[test]
    fn who_came_first_is_served_first() {
        let exclusive = Exclusive::<Vec<usize>>::default();
        let (waits, told) = mpsc::channel();
        let held = take(&exclusive).expect("the first");
        thread::scope(|scope| {
            for place in 0..8 {
                let (exclusive, waits) = (&exclusive, waits.clone());
                scope.spawn(move || {
                    let on_wait = || waits.send(()).expect("somebody listens");
                    exclusive.take(&Cancel::new(), on_wait).expect("its turn").push(place);
                });
                told.recv().expect("it stands in the line");
            }
            drop(held);
        });
        let order = take(&exclusive).expect("the last").clone();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn who_is_cancelled_leaves_the_line() {
        let exclusive = Exclusive::<u32>::default();
        let (waits, told) = mpsc::channel();
        let mut held = take(&exclusive).expect("the first");
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let cancelled = scope.spawn(|| wait(&exclusive, &cancel, &waits));
            told.recv().expect("it waits");
            let other = scope.spawn(|| wait(&exclusive, &Cancel::new(), &waits));
            told.recv().expect("it waits, too");
            cancel.cancel();
            let error = cancelled.join().expect("no panic").expect_err("cancelled");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "while another has the turn");
            *held = 7;
            drop(held);
            assert_eq!(other.join().expect("no panic").expect("its turn"), 7);
        });
        let error = wait(&exclusive, &cancel, &waits).expect_err("cancelled before");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_panic_ends_a_turn_and_a_wait() {
        let exclusive = Exclusive::<u32>::default();
        let panicked = thread::scope(|scope| {
            scope.spawn(|| take(&exclusive).map(|_held| panic!("on purpose")).unwrap_or(())).join()
        });
        assert!(panicked.is_err());
        let held = take(&exclusive).expect("the turn is free");
        let panicked = thread::scope(|scope| {
            scope.spawn(|| exclusive.take(&Cancel::new(), || panic!("on purpose")).is_ok()).join()
        });
        assert!(panicked.is_err());
        drop(held);
        assert!(exclusive.try_take().is_some(), "nobody waits");
    }
}
