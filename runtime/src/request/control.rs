//! The handle of a running job: cancel, pause, threads, trim. Knows no pipeline: it keeps what is
//! wished, and whoever runs the job asks for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pocketmuse_package::Result;

use super::cancel::Cancel;

/// The most threads that a package is opened with.
pub(crate) const MAX_THREADS: usize = 1024;

/// Steers a running job from any thread. All clones are one.
///
/// [`Pipeline::with_control`](crate::Pipeline::with_control) hands it to a job. What is wished before
/// the job starts counts, too. Stopping acts at once; the rest between steps, images and frames, and
/// none of it changes a bit of the images.
///
/// # Example
///
/// ```no_run
/// use std::{ops::ControlFlow, thread};
///
/// use pocketmuse::{Control, Pipeline, Request};
///
/// let pipeline = Pipeline::open("tiny-world-package")?;
/// let control = Control::new();
/// let steered = pipeline.with_control(&control);
/// let made = thread::scope(|scope| {
///     let made = scope.spawn(|| steered.generate(&Request::default(), |_| ControlFlow::Continue(())));
///     control.set_threads(1);
///     control.pause();
///     control.go_on();
///     made.join().expect("no panic")
/// })?;
/// # Ok::<(), pocketmuse::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Control {
    cancel: Cancel,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

/// What is wished of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) is_paused: bool,
    /// Threads to compute with; `None` as the package was opened.
    pub(crate) threads: Option<usize>,
    /// How often trimming was wished.
    pub(crate) trims: u64,
}

impl Control {
    /// Nothing is wished yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the job: [`Cancel::cancel`].
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// What stops the job and can do nothing else.
    pub fn canceller(&self) -> &Cancel {
        &self.cancel
    }

    /// Halts the job before its next step, image or frame. It computes nothing then and keeps its
    /// turn and, unless [`Self::trim`] is called, its memory.
    pub fn pause(&self) {
        self.wish(|wishes| wishes.is_paused = true);
    }

    /// Lets a job that was halted go on.
    pub fn go_on(&self) {
        self.wish(|wishes| wishes.is_paused = false);
    }

    /// Whether the job halts, or will.
    pub fn is_paused(&self) -> bool {
        self.wishes().is_paused
    }

    /// Computes with so many threads, 1 to 1024, from the next step, image or frame on; a number
    /// outside becomes the nearest inside. It counts for this job alone. If the budget does not
    /// allow so many, the job goes on with those that it has.
    pub fn set_threads(&self, threads: usize) {
        self.wish(|wishes| wishes.threads = Some(threads.clamp(1, MAX_THREADS)));
    }

    /// Drops what the job keeps loaded, as soon as it has finished its step or image, and at once
    /// if it halts. The rest of the job loads every stage alone.
    pub fn trim(&self) {
        self.wish(|wishes| wishes.trims += 1);
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.lock());
        self.shared.changed.notify_all();
    }

    /// What is wished now.
    pub(crate) fn wishes(&self) -> Wishes {
        *self.lock()
    }

    /// What is wished, as soon as there is anything to do: while the job halts this waits for
    /// another wish to trim than the `trims` that were heard of.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the job is to stop.
    pub(crate) fn next(&self, trims: u64) -> Result<Wishes> {
        self.cancel.check()?;
        let wishes = self.wishes();
        if !wishes.is_paused {
            return Ok(wishes);
        }
        let shared = Arc::clone(&self.shared);
        let _awake = self.cancel.on_cancel(move || {
            drop(shared.wishes.lock()); // whoever looked before this waits now, and hears it
            shared.changed.notify_all();
        });
        let mut wishes = self.lock();
        while wishes.is_paused && wishes.trims == trims && !self.cancel.is_cancelled() {
            wishes = self.shared.changed.wait(wishes).unwrap_or_else(PoisonError::into_inner);
        }
        self.cancel.check().map(|()| *wishes)
    }

    /// A panic elsewhere leaves it as good as any.
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Cancel> for Control {
    /// One that `cancel` stops, too.
    fn from(cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..Self::default() }
    }
}

impl From<&Control> for Control {
    fn from(control: &Control) -> Self {
        control.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use pocketmuse_package::ErrorKind;

    use super::*;

    #[test]
    fn clones_are_one_and_numbers_of_threads_are_kept_in_range() {
        let control = Control::new();
        let other = control.clone();
        other.pause();
        assert!(control.is_paused());
        for (wished, expected) in [(0, 1), (3, 3), (usize::MAX, MAX_THREADS)] {
            other.set_threads(wished);
            assert_eq!(control.wishes().threads, Some(expected));
        }
        let cancel = Cancel::new();
        let control = Control::from(&cancel);
        cancel.cancel();
        assert_eq!(control.next(0).expect_err("cancelled").kind(), ErrorKind::Cancelled);
        assert!(control.canceller().is_cancelled());
    }

    #[test]
    fn who_halts_hears_of_every_wish() {
        type Wish = fn(&Control);
        let cases: [(Wish, Option<Wishes>); 3] = [
            (Control::go_on, Some(Wishes::default())),
            (Control::trim, Some(Wishes { is_paused: true, trims: 1, ..Wishes::default() })),
            (Control::cancel, None),
        ];
        for (wish, expected) in cases {
            let control = Control::new();
            control.pause();
            let (tell, told) = mpsc::channel();
            let halted = thread::spawn({
                let control = control.clone();
                move || {
                    tell.send(()).expect("somebody listens");
                    control.next(0)
                }
            });
            told.recv().expect("it halts now or soon");
            wish(&control);
            assert_eq!(halted.join().expect("no panic").ok(), expected);
        }
    }
}
