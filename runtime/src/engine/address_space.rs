//! Whether this process may take the address space that ONNX Runtime needs. Without it allocations
//! fail in places where nothing is left but to end the process, so it is asked for first.

use pocketmuse_package::{Amounts, Error, ErrorKind, Result};

/// The least that the library and the buffers of a small job take.
const NEEDED: u64 = 64 << 20;

/// Checks that there is address space to load ONNX Runtime.
///
/// # Errors
///
/// `NotEnoughMemory` if it is limited, and less is left.
pub(super) fn check() -> Result<()> {
    check_left(left())
}

fn check_left(left: Option<u64>) -> Result<()> {
    match left {
        Some(available) if available < NEEDED => {
            let detail = format!(
                "expected {} MiB of address space for ONNX Runtime, found {}: raise the limit of \
                 this process (ulimit -v)",
                NEEDED >> 20,
                available >> 20
            );
            Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail)
                .with_amounts(Amounts { needed: NEEDED, available }))
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
        for left in [None, Some(NEEDED), Some(u64::MAX)] {
            check_left(left).expect("enough");
        }
        let error = check_left(Some(3 << 20)).expect_err("too little");
        assert_eq!(error.kind(), ErrorKind::NotEnoughMemory);
        assert_eq!(error.amounts(), Some(Amounts { needed: NEEDED, available: 3 << 20 }));
        assert!(error.detail().contains("found 3: raise the limit"), "{error}");
        check().expect("these tests run");
    }
}
