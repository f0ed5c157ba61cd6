//! Bounded reading of regular files.

use std::{
    fs::{self, File, FileType, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
};

use crate::{Error, ErrorKind, Result};

/// Opens a file of at most `most_bytes`.
///
/// Only regular files are opened, and links to them: a folder, a pipe or a device is refused at
/// once.
///
/// # Errors
///
/// `Io` if the file cannot be opened; one of the kind `wrong` if it is too large or no regular
/// file.
pub fn open_bounded(path: &Path, most_bytes: u64, wrong: ErrorKind) -> Result<File> {
    open_checked(path, wrong, |metadata| {
        if metadata.is_file() && metadata.len() <= most_bytes {
            return None;
        }
        Some(unexpected(most_bytes, &found(metadata)))
    })
}

/// Opens a file of any size. As [`open_bounded`], takes regular files only.
///
/// # Errors
///
/// `Io` if the file cannot be opened; one of the kind `wrong` if it is no regular file.
pub fn open(path: &Path, wrong: ErrorKind) -> Result<File> {
    open_checked(path, wrong, |metadata| {
        (!metadata.is_file()).then(|| format!("expected a file, found {}", found(metadata)))
    })
}

/// Opens a file unless `fault` finds one.
fn open_checked(
    path: &Path,
    wrong: ErrorKind,
    fault: impl Fn(&Metadata) -> Option<String>,
) -> Result<File> {
    let failed = |error| Error::io(path, error);
    let check = |metadata: Metadata| match fault(&metadata) {
        Some(detail) => Err(Error::new(wrong, path.display().to_string(), detail)),
        None => Ok(()),
    };
    // Opening a device can do something to it, so look first; and look again at what was opened.
    check(fs::metadata(path).map_err(failed)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(), // a pipe would wait for a writer
    );
    let file = options.open(path).map_err(failed)?;
    check(file.metadata().map_err(failed)?)?;
    Ok(file)
}

/// Reads a whole file of at most `most_bytes`.
///
/// # Errors
///
/// As for [`open_bounded`], also for a file that grows meanwhile.
///
/// # Example
///
/// ```
/// use pocketmuse_package::{ErrorKind, files};
///
/// let error = files::read_bounded("src".as_ref(), 10, ErrorKind::BadInput).expect_err("a folder");
/// assert_eq!(error.to_string(), "src: expected a file of at most 10 bytes, found a folder");
/// ```
pub fn read_bounded(path: &Path, most_bytes: u64, wrong: ErrorKind) -> Result<Vec<u8>> {
    let file = open_bounded(path, most_bytes, wrong)?;
    read_stream(file, &path.display().to_string(), most_bytes, wrong)
}

/// Reads a whole text file of at most `most_bytes`.
///
/// # Errors
///
/// As for [`read_bounded`]; one of the kind `wrong` if it is not UTF-8.
pub fn read_text(path: &Path, most_bytes: u64, wrong: ErrorKind) -> Result<String> {
    String::from_utf8(read_bounded(path, most_bytes, wrong)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let detail = format!("expected UTF-8 text, found none from byte {valid} on");
        Error::new(wrong, path.display().to_string(), detail)
    })
}

/// Reads what is no file to its end: standard input, a pipe. `at` names it in errors.
///
/// # Errors
///
/// `Io` if it cannot be read; one of the kind `wrong` if more than `most_bytes` come.
pub fn read_stream(
    stream: impl Read,
    at: &str,
    most_bytes: u64,
    wrong: ErrorKind,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = stream.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error: io::Error| Error::io(at, error))?;
    if bytes.len() as u64 > most_bytes {
        return Err(Error::new(wrong, at, unexpected(most_bytes, "more")));
    }
    Ok(bytes)
}

fn unexpected(most_bytes: u64, found: &str) -> String {
    format!("expected a file of at most {most_bytes} bytes, found {found}")
}

fn found(metadata: &Metadata) -> String {
    if metadata.is_file() {
        format!("{} bytes", metadata.len())
    } else {
        kind_of(metadata.file_type()).to_owned()
    }
}

/// What is no regular file, in words.
pub(super) fn kind_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "no file" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &Path, most_bytes: u64) -> String {
        let error = read_bounded(path, most_bytes, ErrorKind::BadInput).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        error.detail().to_owned()
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a");
        fs::write(&path, "abc").expect("written");
        assert_eq!(read_bounded(&path, 3, ErrorKind::BadInput).expect("read"), b"abc");
        assert_eq!(error(&path, 2), "expected a file of at most 2 bytes, found 3 bytes");
        assert_eq!(error(root.path(), 2), "expected a file of at most 2 bytes, found a folder");
        let missing = read_bounded(&root.path().join("b"), 2, ErrorKind::BadInput);
        assert_eq!(missing.expect_err("missing").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_text_says_where_it_is_none() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a");
        fs::write(&path, b"ab\xff").expect("written");
        let error = read_text(&path, 9, ErrorKind::BadInput).expect_err("no text");
        assert_eq!(error.detail(), "expected UTF-8 text, found none from byte 2 on");
        fs::write(&path, "äb").expect("written");
        assert_eq!(read_text(&path, 9, ErrorKind::BadInput).expect("text"), "äb");
    }

    #[test]
    fn a_stream_is_bounded() {
        let read = |bytes: &[u8]| read_stream(bytes, "-", 3, ErrorKind::BadInput);
        assert_eq!(read(b"abc").expect("read"), b"abc");
        let error = read(b"abcd").expect_err("too long").to_string();
        assert_eq!(error, "-: expected a file of at most 3 bytes, found more");
    }

    #[cfg(unix)]
    #[test]
    fn what_would_never_end_is_refused_at_once() {
        let root = tempfile::tempdir().expect("a folder");
        let pipe = root.path().join("pipe");
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
            assert_eq!(error(&pipe, 9), "expected a file of at most 9 bytes, found a pipe");
        }
        let zero = root.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).expect("a link");
        assert_eq!(error(&zero, 9), "expected a file of at most 9 bytes, found a device");
        let error_of_open = open(&zero, ErrorKind::BadInput).expect_err("refused");
        assert_eq!(error_of_open.detail(), "expected a file, found a device");
        let _socket = std::os::unix::net::UnixListener::bind(pipe.with_extension("socket"))
            .expect("a socket");
        let socket = error(&pipe.with_extension("socket"), 9);
        assert_eq!(socket, "expected a file of at most 9 bytes, found a socket");
    }
}
