//! The process' memory: the most it holds, and giving freed memory back. Knows not what for.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::system;

/// How often the anonymous memory is looked at: reading it takes about 20 us.
const INTERVAL: Duration = Duration::from_millis(5);

/// The most memory that the process held while it was watched; `None` where the system does not
/// tell, or nobody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    /// Resident: anonymous memory and the pages of files that are mapped.
    pub(crate) rss_bytes: Option<u64>,
    /// Anonymous: what the system cannot take back. Sampled, so a peak shorter than [`INTERVAL`]
    /// may be missed.
    pub(crate) anonymous_bytes: Option<u64>,
}

/// Watches the process' memory from its start to its end.
pub(crate) struct Watch {
    resets: bool,
    stop: Sender<()>,
    /// Samples the anonymous memory; `None` if no thread could be started.
    sampler: Option<JoinHandle<Option<u64>>>,
}

impl Watch {
    /// Starts watching: the system's own peak starts again from the memory held now.
    pub(crate) fn start() -> Self {
        let resets = system::reset_peak();
        Self { resets, ..Self::with_reader(system::anonymous) }
    }

    /// Watches what `anonymous` reads, and that alone.
    fn with_reader(mut anonymous: impl FnMut() -> Option<u64> + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        let sample = move || {
            let mut most = None;
            loop {
                most = most.max(anonymous());
                if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return most.max(anonymous());
                }
            }
        };
        let sampler =
            system::IS_TOLD.then(|| thread::Builder::new().name("memory".to_owned()).spawn(sample));
        Self { resets: false, stop, sampler: sampler.and_then(Result::ok) }
    }

    /// What was seen.
    pub(crate) fn stop(self) -> Peak {
        drop(self.stop);
        let anonymous_bytes = self.sampler.and_then(|sampler| sampler.join().ok().flatten());
        Peak { rss_bytes: if self.resets { peak_rss() } else { None }, anonymous_bytes }
    }
}

/// By how much the process' memory grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// When what made it grow was done, in bytes.
    pub(crate) held_bytes: u64,
    /// At most.
    pub(crate) peak_bytes: u64,
}

/// Does `work` and says by how much the process' memory grew, whatever counts towards a budget here;
/// `None` where the system does not tell. Whatever else the process does counts, too.
pub(crate) fn growth_of<T>(work: impl FnOnce() -> T) -> (T, Option<Growth>) {
    growth_read(system::held, work)
}

/// The same of what `held` reads.
fn growth_read<T>(
    held: impl Fn() -> Option<u64> + Clone + Send + 'static,
    work: impl FnOnce() -> T,
) -> (T, Option<Growth>) {
    let before = held();
    let watch = Watch::with_reader(held.clone());
    let done = work();
    let (after, most) = (held(), watch.stop().anonymous_bytes);
    let growth = before.zip(after).map(|(before, after)| Growth {
        held_bytes: after.saturating_sub(before),
        peak_bytes: most.max(Some(after)).unwrap_or(after).saturating_sub(before),
    });
    (done, growth)
}

/// The most that the process held since it started or since the last [`Watch`] did: resident, or
/// on Apple's systems its footprint.
pub(crate) fn peak_rss() -> Option<u64> {
    system::peak()
}

/// Asks the allocator to return the pages it keeps of freed memory.
pub fn give_back() {
    system::give_back();
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    };

    use super::*;

    /// Memory that the tests alone change: the process' own is everybody's.
    struct Memory {
        held: Arc<AtomicU64>,
        /// What was read.
        read: Receiver<u64>,
    }

    impl Memory {
        /// It and its reader.
        fn of(bytes: u64) -> (Self, impl Fn() -> Option<u64> + Clone + Send + 'static) {
            let (tell, read) = mpsc::channel();
            let held = Arc::new(AtomicU64::new(bytes));
            let of_reader = Arc::clone(&held);
            let reader = move || {
                let found = of_reader.load(Ordering::SeqCst);
                let _ = tell.send(found); // nobody listens once it was seen
                Some(found)
            };
            (Self { held, read }, reader)
        }

        /// Holds so many bytes until that was read, and then others.
        fn rise_and_fall(&self, most: u64, then: u64) {
            self.held.store(most, Ordering::SeqCst);
            self.read.iter().find(|read| *read == most).expect("it is read in the end");
            self.held.store(then, Ordering::SeqCst);
        }
    }

    #[test]
    fn memory_that_grew_is_told_at_its_most_and_at_the_end() {
        let (memory, reader) = Memory::of(100);
        let (done, growth) = growth_read(reader, || {
            memory.rise_and_fall(350, 200);
            "done"
        });
        let expected = Growth { held_bytes: 100, peak_bytes: 250 };
        assert_eq!((done, growth), ("done", Some(expected)));
    }

    #[test]
    fn memory_that_shrank_grew_by_nothing() {
        let (memory, reader) = Memory::of(100);
        let ((), growth) = growth_read(reader, || memory.held.store(50, Ordering::SeqCst));
        assert_eq!(growth, Some(Growth { held_bytes: 0, peak_bytes: 0 }));
    }

    #[test]
    fn a_watch_sees_memory_that_was_given_back_before_it_stopped() {
        let (memory, reader) = Memory::of(100);
        let watch = Watch::with_reader(reader);
        memory.rise_and_fall(350, 100);
        assert_eq!(watch.stop().anonymous_bytes, Some(350));
    }
}
