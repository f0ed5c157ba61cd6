//! A thread that has weights leave memory whenever more of them is there than their window. It
//! looks every few milliseconds while a graph runs, and sleeps until the next run otherwise. Knows
//! no mapping and no graph.

use std::{
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often is looked while a graph runs. A look takes some microseconds; from one to the next a
/// graph reads one or two MB.
const INTERVAL: Duration = Duration::from_millis(2);

/// The thread. Dropping this ends it.
pub(super) struct Evictor {
    orders: Option<Sender<Event>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread wakes up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A graph begins to run.
    Run,
    /// It does not run any more.
    Rest,
    /// It is time to look.
    Tick,
    /// Nothing will run again.
    End,
}

impl Evictor {
    /// Starts to sleep. `resident` reads how many bytes of files are in memory, others than weights
    /// included; `leave` has all weights leave.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(super) fn start(
        window_bytes: u64,
        resident: impl FnMut() -> Option<u64> + Send + 'static,
        leave: impl Fn() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let next = move |interval| next(&received, interval);
        let work = move || sleep_and_look(next, window_bytes, resident, leave);
        let thread = thread::Builder::new().name("weights".to_owned()).spawn(work)?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// A graph begins to run.
    pub(super) fn watch(&self) {
        self.order(Event::Run);
    }

    /// No graph runs any more.
    pub(super) fn rest(&self) {
        self.order(Event::Rest);
    }

    fn order(&self, event: Event) {
        // It is gone only where weights may not leave, and has said so.
        let _ = self.orders.as_ref().map(|orders| orders.send(event));
    }
}

impl Drop for Evictor {
    fn drop(&mut self) {
        self.orders = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::debug!("what watched the weights ended by itself");
        }
    }
}

/// Waits for the next event; without an interval nothing but an order is one.
fn next(orders: &Receiver<Event>, interval: Option<Duration>) -> Event {
    let Some(interval) = interval else { return orders.recv().unwrap_or(Event::End) };
    match orders.recv_timeout(interval) {
        Ok(order) => order,
        Err(RecvTimeoutError::Timeout) => Event::Tick,
        Err(RecvTimeoutError::Disconnected) => Event::End,
    }
}

/// What the thread does: `next` waits for an event, at most for so long.
fn sleep_and_look(
    mut next: impl FnMut(Option<Duration>) -> Event,
    window_bytes: u64,
    mut resident: impl FnMut() -> Option<u64>,
    leave: impl Fn() -> io::Result<()>,
) {
    let mut window = None;
    loop {
        match next(window.as_ref().map(|_| INTERVAL)) {
            Event::Run => window = Some(Window::new(window_bytes)),
            Event::Rest => window = None,
            Event::Tick => {}
            Event::End => return,
        }
        let Some(window) = &mut window else { continue };
        if !resident().is_some_and(|found| window.fills(found)) {
            continue;
        }
        if let Err(error) = leave() {
            log::warn!("weights stay in memory from now on: {error}");
            return;
        }
        window.empty(resident());
    }
}

/// How much of the weights is in memory, as far as the size of all files there tells.
struct Window {
    bytes: u64,
    /// What there is of other files, as far as is known.
    others: Option<u64>,
    /// What was seen last.
    last: u64,
}

impl Window {
    fn new(bytes: u64) -> Self {
        Self { bytes, others: None, last: 0 }
    }

    /// Whether the weights would be more than the window at the next look, if they come as fast as
    /// since the last one. What is there first, and the least that is ever seen, is others'.
    fn fills(&mut self, found: u64) -> bool {
        let others = self.others.map_or(found, |others| others.min(found));
        let came = if self.others.is_some() { found.saturating_sub(self.last) } else { 0 };
        (self.others, self.last) = (Some(others), found);
        found.saturating_add(came) > others.saturating_add(self.bytes)
    }

    /// All weights left: what is there now is others'.
    fn empty(&mut self, found: Option<u64>) {
        let found = found.unwrap_or(0);
        (self.others, self.last) = (self.others.map(|_| found), found);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::mpsc::Sender, thread::ThreadId};

    use super::*;

    /// What happens, in its order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Seen {
        /// It sleeps until an order comes.
        Sleeps,
        /// It waits, and not for long.
        Waits,
        Looks,
        Evicts,
    }

    /// Plays `events`, and reads `resident` megabytes one after another.
    fn seen(events: &[Event], resident: &[u64], is_allowed: bool) -> Vec<Seen> {
        let seen = RefCell::new(Vec::new());
        let (mut events, mut resident) = (events.iter(), resident.iter());
        let note = |what| seen.borrow_mut().push(what);
        sleep_and_look(
            |interval| {
                note(if interval.is_some() { Seen::Waits } else { Seen::Sleeps });
                *events.next().unwrap_or(&Event::End)
            },
            10 << 20,
            || {
                note(Seen::Looks);
                resident.next().map(|megabytes| megabytes << 20)
            },
            || {
                note(Seen::Evicts);
                if is_allowed { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
            },
        );
        seen.into_inner()
    }

    #[test]
    fn it_sleeps_while_no_graph_runs() {
        use Seen::{Looks, Sleeps, Waits};
        let events = [Event::Rest, Event::Run, Event::Tick, Event::Rest, Event::Rest];
        let expected = [Sleeps, Sleeps, Looks, Waits, Looks, Waits, Sleeps, Sleeps];
        assert_eq!(seen(&events, &[50, 51], true), expected);
    }

    #[test]
    fn weights_leave_before_they_are_more_than_their_window() {
        use Seen::{Evicts, Looks, Sleeps, Waits};
        let events = [Event::Run, Event::Tick, Event::Tick, Event::Tick, Event::Tick];
        // 50 are others'; 4 came, and 4: 4 more would be 12. Then 52 are others'.
        let found = seen(&events, &[50, 54, 58, 52, 57, 62, 52], true);
        let expected = [
            Sleeps, Looks, Waits, Looks, Waits, Looks, Evicts, Looks, Waits, Looks, Waits, Looks,
            Evicts, Looks, Waits,
        ];
        assert_eq!(found, expected);
        // Others may leave, too: 8 of them did, and then 8 weights came unseen.
        let found = seen(&events[..3], &[50, 42, 50, 42], true);
        assert_eq!(found, [Sleeps, Looks, Waits, Looks, Waits, Looks, Evicts, Looks, Waits]);
    }

    #[test]
    fn it_ends_where_the_system_lets_no_weights_leave() {
        use Seen::{Evicts, Looks, Sleeps, Waits};
        let events = [Event::Run, Event::Tick, Event::Tick, Event::Tick];
        let found = seen(&events, &[50, 70, 90], false);
        assert_eq!(found, [Sleeps, Looks, Waits, Looks, Evicts]);
    }

    /// Tells who reads, and when nobody will any more.
    struct Reader(Sender<Option<ThreadId>>);

    impl Drop for Reader {
        fn drop(&mut self) {
            self.0.send(None).expect("the test listens");
        }
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let (tell, told) = mpsc::channel();
        let reader = Reader(tell);
        let resident = move || {
            reader.0.send(Some(thread::current().id())).expect("the test listens");
            Some(0)
        };
        let evictor = Evictor::start(1, resident, || Ok(())).expect("a thread");
        evictor.watch();
        let reads = told.recv().expect("it looks").expect("a thread");
        assert_ne!(reads, thread::current().id());
        drop(evictor);
        assert_eq!(told.try_iter().last(), Some(None), "what it read with is gone");
        assert!(told.recv().is_err(), "and it is, too");
    }
}
