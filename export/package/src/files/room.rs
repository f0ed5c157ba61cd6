//! Whether a disk has room, asked before anything is written.

use std::path::Path;

use super::parent;
use crate::{Amounts, Error, ErrorKind, Result};

/// Checks that the disk of `folder` has room for `bytes` more. Where the system does not tell, the
/// write will.
///
/// # Errors
///
/// `NoSpace` with both numbers if it has less.
pub fn check_room(folder: &Path, bytes: u64) -> Result<()> {
    match available_bytes(folder) {
        Some(available) if available < bytes => {
            let detail = format!("expected room for {bytes} bytes, found {available}");
            Err(Error::new(ErrorKind::NoSpace, folder.display().to_string(), detail)
                .with_amounts(Amounts { needed: bytes, available }))
        }
        _ => Ok(()),
    }
}

/// The bytes that this process may still write to the disk of `folder`, or where that would be if
/// it is not there yet; `None` if the system does not tell.
pub fn available_bytes(folder: &Path) -> Option<u64> {
    let mut there = folder;
    while !there.exists() && parent(there) != there {
        there = parent(there);
    }
    available(there)
}

#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_some_room_and_not_all() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in [root.path().to_owned(), root.path().join("not/yet")] {
            check_room(&folder, 1).expect("room for a byte");
            if cfg!(unix) {
                let error = check_room(&folder, u64::MAX).expect_err("too much");
                assert_eq!(error.kind(), ErrorKind::NoSpace);
                let expected = "expected room for 18446744073709551615 bytes, found ";
                assert!(error.detail().starts_with(expected), "{error}");
            }
        }
    }
}
