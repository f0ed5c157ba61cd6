//! Whether this process may take the address space that ONNX Runtime needs. Without it allocations
//! fail in places where nothing is left but to end the process, so it is asked for first.
//!
//! A thread takes far more of it than memory: glibc gives each a heap of its own to grow in.

use std::sync::OnceLock;

use pocketmuse_package::{Amounts, Error, ErrorKind, Result};

/// What the library takes beside its memory, and what libraries that are loaded later take.
const LIBRARY: u64 = 96 << 20;
/// What a thread takes: its heap, 64 * 2^20 bytes, and its stack.
pub(crate) const THREAD: u64 = 72 << 20;
/// Threads beside those that run graphs: the caller's, and one that listens to signals or watches.
const OTHER_THREADS: u64 = 2;
/// The least that any job takes: the library, the thread that runs graphs and one beside it.
const LEAST: u64 = LIBRARY + OTHER_THREADS * THREAD;

/// What was left before ONNX Runtime was loaded; `None` if it is not limited.
static AT_START: OnceLock<Option<u64>> = OnceLock::new();

/// Checks that there is address space to load ONNX Runtime and run anything.
///
/// # Errors
///
/// `NotEnoughMemory` if it is limited, and less is left.
pub(super) fn check() -> Result<()> {
    check_left(*AT_START.get_or_init(left), LEAST, "ONNX Runtime")
}

/// Checks that there was address space, before ONNX Runtime was loaded, for a job that takes so many
/// bytes of it at most for its stages and runs graphs with so many threads.
///
/// # Errors
///
/// `NotEnoughMemory` if it is limited, and less was left.
pub(crate) fn check_job(peak_bytes: u64, threads: usize) -> Result<()> {
    let all = (threads as u64).saturating_add(OTHER_THREADS);
    let needed = peak_bytes.saturating_add(LIBRARY).saturating_add(all.saturating_mul(THREAD));
    let what = format!("this job on {threads} threads");
    check_left(AT_START.get().copied().flatten(), needed, &what)
}

fn check_left(left: Option<u64>, needed: u64, what: &str) -> Result<()> {
    match left {
        Some(available) if available < needed => {
            let detail = format!(
                "expected {} MB of address space for {what}, found {}: raise the limit of this \
                 process (ulimit -v)",
                needed.div_ceil(1_000_000),
                available / 1_000_000
            );
            Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail)
                .with_amounts(Amounts { needed, available }))
        }
        _ => Ok(()),
    }
}

/// What this process may still take; `None` if it is not limited, or the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn left() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let taken: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(taken.saturating_mul(1024)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn left() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_is_said_in_numbers() {
        for left in [None, Some(LEAST), Some(u64::MAX)] {
            check_left(left, LEAST, "ONNX Runtime").expect("enough");
        }
        let error = check_left(Some(3_000_000), LEAST, "ONNX Runtime").expect_err("too little");
        assert_eq!(error.kind(), ErrorKind::NotEnoughMemory);
        assert_eq!(error.amounts(), Some(Amounts { needed: LEAST, available: 3_000_000 }));
        assert!(error.detail().contains("ONNX Runtime, found 3: raise the limit"), "{error}");
        check().expect("these tests run");
        check_job(u64::MAX, usize::MAX).expect("they are not limited");
    }
}
