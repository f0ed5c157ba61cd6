//! How many threads to compute with where nobody says, and how they share work. Knows no session.
//!
//! The default is a thread for each fast core: the threads of an operator wait for the slowest of
//! them, so a phone's small cores cost more than they add. Linux says how fast each core is,
//! Apple's systems how many are fast; elsewhere, and where all cores are alike, every core counts.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod cpus;

use std::thread;

#[cfg(any(target_os = "linux", target_os = "android"))]
use self::cpus::fast_cores;
use crate::request::Options;

/// The most threads on a phone or a tablet until more were measured there.
const MOST_ON_PHONES: usize = 4;

impl Options {
    /// The threads to compute with.
    pub(crate) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(default_threads)
    }
}

/// The threads to compute with on this machine, at least 1.
fn default_threads() -> usize {
    let usable = thread::available_parallelism().map_or(1, Into::into); // knows quotas, too
    let most = if cfg!(any(target_os = "android", target_os = "ios")) {
        usable.min(MOST_ON_PHONES)
    } else {
        usable
    };
    fast_cores().map_or(most, |fast| fast.clamp(1, most))
}

#[cfg(target_vendor = "apple")]
#[expect(unsafe_code, reason = "the system's call takes pointers")]
fn fast_cores() -> Option<usize> {
    let (mut count, mut bytes) = (0_i32, size_of::<i32>());
    // SAFETY: the name ends with a zero; `count` has room for the `bytes` that are written.
    let status = unsafe {
        libc::sysctlbyname(
            c"hw.perflevel0.physicalcpu".as_ptr(),
            (&raw mut count).cast(),
            &raw mut bytes,
            std::ptr::null_mut(),
            0,
        )
    };
    usize::try_from(count).ok().filter(|&count| status == 0 && count > 0)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn fast_cores() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_thread_at_least() {
        let usable = thread::available_parallelism().map_or(1, Into::into);
        assert!((1..=usable).contains(&default_threads()));
    }
}
