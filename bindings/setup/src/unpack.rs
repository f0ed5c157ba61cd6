//! Taking one file out of a wheel, or out of a folder, and placing it only if it is the one
//! expected. Names inside the archive are compared, never used as paths, so an archive cannot write
//! anywhere else.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use pocketmuse_package::{Digest, DigestWriter, Error, ErrorKind, Result, files};

/// A library larger than this is not one.
const MAX_BYTES: u64 = 512 << 20;

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// Takes `member` out of the zip file `wheel` and places it at `path` if its SHA-256 is `expected`.
///
/// # Errors
///
/// `BadInput` if the wheel is damaged, has no such member or one of another digest; `Io` if `path`
/// cannot be written.
pub fn from_wheel(wheel: &Path, member: &str, expected: Digest, path: &Path) -> Result<()> {
    let bad = |detail: String| Error::new(ErrorKind::BadInput, wheel.display().to_string(), detail);
    let file = File::open(wheel).map_err(|error| Error::io(wheel, error))?;
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|error| bad(format!("expected a wheel, found: {error}")))?;
    let entry = archive
        .by_name(member)
        .map_err(|error| bad(format!("expected {member} inside, found: {error}")))?;
    copy(entry, &format!("{}: {member}", wheel.display()), expected, path)
}

/// Copies the file `source` to `path` if its SHA-256 is `expected`.
///
/// # Errors
///
/// `BadInput` if it has another digest or cannot be read; `Io` if `path` cannot be written.
pub fn from_file(source: &Path, expected: Digest, path: &Path) -> Result<()> {
    // Whatever keeps it from being read, it is not the library.
    let bad = |error: Error| Error::new(ErrorKind::BadInput, error.at(), error.detail());
    let file = files::open_bounded(source, MAX_BYTES, ErrorKind::BadInput).map_err(bad)?;
    copy(file, &source.display().to_string(), expected, path)
}

fn copy(source: impl Read, at: &str, expected: Digest, path: &Path) -> Result<()> {
    let bad = |detail: String| Error::new(ErrorKind::BadInput, at, detail);
    let mut out = DigestWriter::new(files::NewFile::create(path)?);
    let mut source = source.take(MAX_BYTES);
    let (mut count, mut piece) = (0, vec![0; PIECE_BYTES]);
    loop {
        // Two steps, since a damaged archive and a full disk are different errors.
        let length = source.read(&mut piece).map_err(|error| bad(error.to_string()))?;
        if length == 0 {
            break;
        }
        out.write_all(&piece[..length]).map_err(|error| Error::io(path, error))?;
        count += length;
    }
    out.flush().map_err(|error| Error::io(path, error))?;
    let (file, found) = out.finish();
    if found != expected {
        return Err(bad(format!("expected SHA-256 {expected}, found {found} over {count} bytes")));
    }
    file.finish()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;

    use super::*;

    const MEMBER: &str = "onnxruntime/capi/libonnxruntime.so";

    /// A folder with a wheel of these members, and where the library is to go.
    fn wheel(members: &[(&str, &[u8])]) -> (TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let (path, cache) = (root.path().join("a.whl"), root.path().join("cache"));
        fs::create_dir(&cache).expect("made");
        let mut zip = zip::ZipWriter::new(File::create(&path).expect("a file"));
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default()).expect("started");
            zip.write_all(bytes).expect("written");
        }
        zip.finish().expect("finished");
        (root, path, cache.join("libonnxruntime.so"))
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).expect("readable").count()
    }

    #[test]
    fn places_the_library() {
        let (_root, wheel, path) =
            wheel(&[("onnxruntime/__init__.py", b"1"), (MEMBER, &[7; 100_000])]);
        from_wheel(&wheel, MEMBER, Digest::of(&[7; 100_000]), &path).expect("placed");
        assert_eq!(fs::read(&path).expect("read"), [7; 100_000]);
        from_wheel(&wheel, MEMBER, Digest::of(&[7; 100_000]), &path).expect("placed again");
        assert_eq!(names(files::parent(&path)), 1);
    }

    #[test]
    fn refuses_another_library_and_leaves_nothing() {
        let (_root, wheel, path) = wheel(&[(MEMBER, b"abd")]);
        let error = from_wheel(&wheel, MEMBER, Digest::of(b"abc"), &path).expect_err("another");
        assert!(error.to_string().contains("expected SHA-256 ba7816bf"), "{error}");
        assert_eq!((error.kind(), names(files::parent(&path))), (ErrorKind::BadInput, 0));
    }

    #[test]
    fn refuses_a_wheel_without_it() {
        let (_root, wheel, path) = wheel(&[("onnxruntime/capi/other.so", b"abc")]);
        let error = from_wheel(&wheel, MEMBER, Digest::of(b"abc"), &path).expect_err("missing");
        assert!(
            error.detail().starts_with("expected onnxruntime/capi/libonnxruntime.so inside"),
            "{error}"
        );
    }

    #[test]
    fn a_member_that_climbs_out_is_never_written() {
        let evil = "onnxruntime/capi/../../../evil";
        let (root, wheel, path) = wheel(&[(evil, b"abc"), ("../evil", b"abc"), (MEMBER, b"abc")]);
        from_wheel(&wheel, MEMBER, Digest::of(b"abc"), &path).expect("placed");
        assert_eq!((names(root.path()), names(files::parent(&path))), (2, 1));
        assert!(!root.path().with_file_name("evil").exists());
    }

    #[test]
    fn copies_a_regular_file_and_nothing_else() {
        let (root, _, path) = wheel(&[]);
        let at = |name: &str| root.path().join(name);
        fs::write(at("library"), b"abc").expect("written");
        from_file(&at("library"), Digest::of(b"abc"), &path).expect("placed");
        let mut others = vec![at("none"), root.path().to_path_buf()];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/dev/zero", at("zeros")).expect("linked");
            others.push(at("zeros"));
        }
        for other in others {
            let error = from_file(&other, Digest::of(b"abc"), &path).expect_err("no regular file");
            assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
        }
        assert_eq!(names(files::parent(&path)), 1);
    }

    #[test]
    fn refuses_what_is_no_wheel() {
        let (root, _, path) = wheel(&[]);
        let text = root.path().join("text.whl");
        for bytes in [&b""[..], b"PK\x05\x06", b"<html>404</html>"] {
            fs::write(&text, bytes).expect("written");
            assert_eq!(
                from_wheel(&text, MEMBER, Digest::of(b""), &path).expect_err("text").kind(),
                ErrorKind::BadInput
            );
        }
    }
}
