//! SHA-256 digests of files.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Told of the bytes of every piece of a file that was read; its error ends the reading.
pub type OnRead<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// A SHA-256 digest; prints as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a file's contents, read in pieces of 2^20 bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::of_file_in_pieces(path, &mut |_| Ok(()))
    }

    /// As [`Self::of_file`]; `on_read` is told of the bytes of every piece that was read.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, and what `on_read` stops with.
    pub fn of_file_in_pieces(path: &Path, on_read: OnRead<'_>) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
        let mut writer = DigestWriter::new(io::sink());
        let mut piece = vec![0; 1 << 20];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(writer.finish().1),
                Ok(count) => {
                    writer.state.update(&piece[..count]);
                    on_read(count as u64)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(path, error)),
            }
        }
    }
}

/// Passes bytes on and digests them on the way.
pub struct DigestWriter<W> {
    inner: W,
    state: Sha256,
}

impl<W: io::Write> DigestWriter<W> {
    /// Digests what goes through it to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, state: Sha256::new() }
    }

    /// The inner writer, and the digest of all that was written.
    pub fn finish(self) -> (W, Digest) {
        (self.inner, Digest(self.state.finalize().into()))
    }
}

impl<W: io::Write> io::Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.state.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a SHA-256 of 64 hexadecimal digits, found {text:?}");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::ErrorKind;

    // printf abc | sha256sum
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn agrees_with_sha256sum() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        let mut writer = DigestWriter::new(Vec::new());
        writer.write_all(b"ab").expect("memory");
        writer.write_all(b"c").expect("memory");
        assert_eq!(writer.finish(), (b"abc".to_vec(), ABC.parse().expect("a digest")));
    }

    #[test]
    fn a_file_is_read_in_pieces_until_somebody_stops() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, vec![7; (5 << 20) / 2]).expect("written");
        let mut pieces = Vec::new();
        let whole = Digest::of_file_in_pieces(&path, &mut |bytes| {
            pieces.push(bytes);
            Ok(())
        });
        assert_eq!(whole.expect("read"), Digest::of_file(&path).expect("read"));
        assert_eq!(pieces, [1 << 20, 1 << 20, 1 << 19]);
        let mut left = 2;
        let stopped = Digest::of_file_in_pieces(&path, &mut |_| {
            left -= 1;
            if left > 0 { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "", "stopped")) }
        });
        assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
        assert_eq!(left, 0, "nothing is read after that");
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in ["", "ba78", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
