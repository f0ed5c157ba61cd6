//! The errors of an export; the type is the project's own, shared through the package crate.

pub use pocketmuse_package::{Error, ErrorKind, Result};

/// A checkpoint that is damaged, contradicts itself or is not aMUSEd.
pub(crate) fn bad_checkpoint(at: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadCheckpoint, at, detail)
}
