//! Jobs take turns, and what stays warm between them can be dropped at any time: at once, or by the
//! job whose turn it is. Knows no stage.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pocketmuse_package::Result;

use super::{
    exclusive::{Exclusive, Held},
    warm::Warm,
};
use crate::{memory::measured, request::Control};

/// What stays warm, which jobs have in turns.
#[derive(Default)]
pub(super) struct Turns {
    warm: Exclusive<Warm>,
    running: Mutex<Running>,
}

/// What others know of the job whose turn it is.
#[derive(Default)]
struct Running {
    /// Steers it; `None` between jobs.
    control: Option<Control>,
    /// Bytes that are held, as of the last change.
    held_bytes: u64,
    /// Whether the next job is to trim at its start: it had its turn and was not known yet.
    is_trim_due: bool,
}

/// A job's turn: what is warm is its own until this is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    /// `None` when the turn is over.
    warm: Option<Held<'a, Warm>>,
    control: Control,
    /// How often the job has trimmed.
    trims: u64,
}

impl Turns {
    /// Waits for the turns before this one; `on_wait` is called once if there are any.
    ///
    /// # Errors
    ///
    /// `BadRequest` if this thread's turn is not over; `Cancelled` if `control` says so before the
    /// turn comes.
    pub(super) fn take(&self, control: &Control, on_wait: impl FnOnce()) -> Result<Turn<'_>> {
        let warm = self.warm.take(control.canceller(), on_wait)?;
        let mut running = self.running();
        running.control = Some(control.clone());
        if std::mem::take(&mut running.is_trim_due) {
            control.trim();
        }
        Ok(Turn { turns: self, warm: Some(warm), control: control.clone(), trims: 0 })
    }

    /// Drops what is warm, or has the job drop it whose turn it is. Returns the bytes that were
    /// held.
    pub(super) fn trim(&self) -> u64 {
        let mut running = self.running();
        if let Some(control) = &running.control {
            control.trim();
            return running.held_bytes;
        }
        let Some(mut warm) = self.warm.try_take() else {
            running.is_trim_due = true;
            return running.held_bytes;
        };
        let bytes = warm.bytes();
        *warm = Warm::default();
        running.held_bytes = 0;
        measured::give_back();
        bytes
    }

    /// A panic elsewhere leaves it as good as any.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// What is warm.
    pub(super) fn warm(&mut self) -> &mut Warm {
        self.warm.as_mut().expect("the turn ends when this is dropped")
    }

    /// Says what is held besides what is warm.
    pub(super) fn tell_held(&mut self, in_use_bytes: u64) {
        let bytes = self.warm().bytes() + in_use_bytes;
        self.turns.running().held_bytes = bytes;
    }

    /// Whether trimming was wished so often and not done yet; it counts as done now.
    pub(super) fn is_trim_wished(&mut self, trims: u64) -> bool {
        std::mem::replace(&mut self.trims, trims) != trims
    }

    /// How often the job has trimmed.
    pub(super) fn trims(&self) -> u64 {
        self.trims
    }
}

impl Drop for Turn<'_> {
    /// A wish to trim that came after the job's last look is done here; whoever wishes it later
    /// does it.
    fn drop(&mut self) {
        let mut running = self.turns.running();
        running.control = None;
        if let Some(mut warm) = self.warm.take() {
            if self.control.wishes().trims != self.trims {
                *warm = Warm::default();
                measured::give_back();
            }
            running.held_bytes = warm.bytes();
        } // the turn is over before others know
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Something that is held.
    fn fill(warm: &mut Warm) {
        warm.tokens = Some((pocketmuse_package::Digest::of(b""), vec![0; 256]));
    }

    fn is_empty(turns: &Turns) -> bool {
        turns.take(&Control::new(), || ()).expect("free").warm().bytes() == 0
    }

    #[test]
    fn between_jobs_it_is_dropped_at_once() {
        let turns = Turns::default();
        assert_eq!(turns.trim(), 0, "nothing is there");
        fill(turns.take(&Control::new(), || ()).expect("free").warm());
        assert_eq!(turns.trim(), 1024);
        assert_eq!(turns.trim(), 0);
        assert!(is_empty(&turns));
    }

    #[test]
    fn a_job_hears_of_it_and_what_it_does_not_hear_is_done_at_its_end() {
        let turns = Turns::default();
        let control = Control::new();
        let mut turn = turns.take(&control, || ()).expect("free");
        fill(turn.warm());
        turn.tell_held(1000);
        let found = thread::scope(|scope| scope.spawn(|| turns.trim()).join());
        assert_eq!(found.expect("no panic"), 2024, "from another thread");
        assert!(turn.is_trim_wished(control.wishes().trims));
        assert!(!turn.is_trim_wished(control.wishes().trims), "it is done");
        drop(turn);
        assert!(!is_empty(&turns), "the job did it, or so it said");

        let turn = turns.take(&Control::new(), || ()).expect("free");
        assert_eq!(turns.trim(), 1024, "from its own thread");
        drop(turn);
        assert!(is_empty(&turns));
    }
}
