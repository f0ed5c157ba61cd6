//! Bytes of files on their way: checked, and their errors told apart.

use std::io::{self, Read, Seek, SeekFrom, Write as _};

use super::progress::Meter;
use crate::{DigestWriter, Error, ErrorKind, FileEntry, Result};

/// Bytes in one piece: between two the caller is asked whether to go on. Unit tests import hundreds
/// of archives of a few pieces: there they are small, so that little is written.
pub(super) const PIECE: usize = if cfg!(test) { 16 << 10 } else { 256 << 10 };

/// The contents of a file of the package, from `inner`: fails at the end if they are not as the
/// manifest says, so what was read from it must not be used before [`Checked::finish`].
///
/// Its errors are [`Error`]s inside of [`io::Error`]s; [`unwrap`] tells them from those of whatever
/// it is written to.
pub(super) struct Checked<'a, 'm, R> {
    inner: R,
    file: &'a FileEntry,
    at: String,
    left: u64,
    digest: DigestWriter<io::Sink>,
    meter: &'a mut Meter<'m>,
}

impl<'a, 'm, R: Read> Checked<'a, 'm, R> {
    pub(super) fn new(
        file: &'a FileEntry,
        (inner, at): (R, String),
        meter: &'a mut Meter<'m>,
    ) -> Self {
        Self { inner, file, at, left: file.bytes, digest: DigestWriter::new(io::sink()), meter }
    }

    /// Ends the file.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the contents are not the file's.
    pub(super) fn finish(self) -> Result<()> {
        let (_, found) = self.digest.finish();
        if self.left == 0 && found == self.file.sha256 {
            return Ok(());
        }
        let detail =
            format!("expected SHA-256 {}, found {found}: the file was changed", self.file.sha256);
        Err(Error::new(ErrorKind::PackageDamaged, self.at, detail))
    }

    fn step(&mut self, into: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len()).min(PIECE);
        if most == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.inner.read(&mut into[..most]) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unwrap(&self.at, error)),
            }
        };
        if count == 0 {
            let (bytes, found) = (self.file.bytes, self.file.bytes - self.left);
            let detail = format!("expected {bytes} bytes, found the end after {found}");
            return Err(Error::new(ErrorKind::PackageDamaged, self.at.as_str(), detail));
        }
        self.left -= count as u64;
        self.digest.write_all(&into[..count]).expect("a sink takes everything");
        self.meter.add(count as u64)?;
        Ok(count)
    }
}

impl<R: Read> Read for Checked<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.step(into).map_err(io::Error::other)
    }
}

/// A reader whose own errors are [`Error`]s inside of [`io::Error`]s: [`unwrap`] tells them from
/// what an archive's format does not allow.
pub(super) struct Marked<R> {
    inner: R,
    at: String,
}

impl<R> Marked<R> {
    pub(super) fn new(inner: R, at: &str) -> Self {
        Self { inner, at: at.to_owned() }
    }

    fn mark(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Error::io(&self.at, error))
    }
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).map_err(|error| self.mark(error))
    }
}

impl<R: Seek> Seek for Marked<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to).map_err(|error| self.mark(error))
    }
}

/// The error of a [`Checked`] or a [`Marked`] as it was, or another at `at`.
pub(super) fn unwrap(at: &str, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io(at, error),
    }
}
