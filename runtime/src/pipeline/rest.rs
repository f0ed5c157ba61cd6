//! Bytes of a job that are read from their beginning to their end. Knows not what they mean.

use pocketmuse_package::{Error, ErrorKind, Result};

/// Bytes that were not read yet.
pub(super) struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next `count`.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = left;
        Ok(taken)
    }

    /// The next one.
    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A number of 4 bytes, little-endian.
    pub(super) fn number(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    /// As [`Self::number`], of something that is in memory.
    pub(super) fn length(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| cut())
    }
}

/// The error of bytes that end too early.
pub(super) fn cut() -> Error {
    bad("expected more bytes, found the end")
}

/// The error of bytes that are no job's.
pub(super) fn bad(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadInput, "job", detail)
}
