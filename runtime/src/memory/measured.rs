//! The process' memory: the most it holds, and giving freed memory back. Knows not what for.

use std::{
    fs,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the anonymous memory is looked at: reading it takes about 20 us.
const INTERVAL: Duration = Duration::from_millis(5);

/// The most memory that the process held while it was watched; `None` where the system does not
/// tell.
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
        Self::with_reader(|| status("RssAnon:"))
    }

    /// Watches what `anonymous` reads.
    fn with_reader(mut anonymous: impl FnMut() -> Option<u64> + Send + 'static) -> Self {
        let resets = is_told() && fs::write("/proc/self/clear_refs", "5").is_ok();
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
            is_told().then(|| thread::Builder::new().name("memory".to_owned()).spawn(sample));
        Self { resets, stop, sampler: sampler.and_then(Result::ok) }
    }

    /// What was seen.
    pub(crate) fn stop(self) -> Peak {
        drop(self.stop);
        let anonymous_bytes = self.sampler.and_then(|sampler| sampler.join().ok().flatten());
        Peak { rss_bytes: if self.resets { peak_rss() } else { None }, anonymous_bytes }
    }
}

/// The process' resident peak since it started or since the last [`Watch`] did.
pub(crate) fn peak_rss() -> Option<u64> {
    status("VmHWM:")
}

/// What the process holds now, resident.
pub(crate) fn rss() -> Option<u64> {
    status("VmRSS:")
}

fn is_told() -> bool {
    cfg!(any(target_os = "linux", target_os = "android"))
}

fn status(name: &str) -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The bytes that a line such as `VmHWM:   123456 kB` tells.
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Asks the allocator to return the pages it keeps of freed memory.
///
/// glibc keeps freed blocks of up to 32 MiB, which is what most weights are: without this the peak
/// of a stage is its own memory and most of its predecessor's. Other systems' allocators return
/// such pages by themselves.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn trim() {
    // SAFETY: malloc_trim may be called at any time from any thread and changes no block that is in
    // use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_tells() {
        let text = "VmPeak:\t  99 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(kib(text, "VmHWM:"), Some(1234 * 1024));
        for text in ["", "VmHWM:", "VmHWM: x kB", "VmHWM: 18446744073709551615 kB"] {
            assert_eq!(kib(text, "VmHWM:"), None, "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_watch_sees_memory_that_was_given_back_before_it_stopped() {
        const BLOCK: usize = 64 << 20;
        let before = status("RssAnon:").expect("Linux tells");
        let (tell, told) = mpsc::channel();
        let watch = Watch::with_reader(move || {
            let read = status("RssAnon:");
            let _ = tell.send(read); // nobody listens once it was seen
            read
        });
        let block = std::hint::black_box(vec![1u8; BLOCK]);
        let enough = before + BLOCK as u64 / 2;
        told.iter().find(|read| *read >= Some(enough)).expect("the block is read in the end");
        drop(block);
        let seen = watch.stop().anonymous_bytes.expect("Linux tells");
        assert!(seen >= enough, "{before} before, {seen} seen");
    }
}
