//! The folder beside a target in which an import is made: one for each package, so that the next
//! import finds it, and one process at a time is in it. Knows no archive.
//!
//! ```text
//! .NAME-DIGEST.import/lock        locked by the process at work
//! .NAME-DIGEST.import/incoming    a file that is not whole yet
//! .NAME-DIGEST.import/package/    files that are whole and were checked, by their names
//! ```
//!
//! A file gets its name in `package` only when it is on the disk and its SHA-256 is right. The name
//! is the record of it, and DIGEST, the manifest's, says which files they are.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::{Amounts, Digest, Error, ErrorKind, Result, files};

/// How the folder's name ends.
const ENDING: &str = ".import";

/// So many digits of the digest are in its name.
const DIGITS: usize = 16;

/// So much of the target's name is, too: names have at most 255 bytes.
const MOST_NAME_BYTES: usize = 160;

/// The folder of one import, locked.
pub(super) struct Part {
    root: PathBuf,
    _lock: File,
    /// Whether it stays when this is dropped.
    kept: bool,
}

impl Part {
    /// Takes the folder for importing to `target` what has the digest `digest`, made if need be;
    /// `None` if a process is at work in it.
    pub(super) fn take(target: &Path, digest: Digest) -> Result<Option<Self>> {
        let digest = digest.to_string();
        let name = format!("{}{}{ENDING}", prefix(target)?, &digest[..DIGITS]);
        let root = files::parent(target).join(name);
        let path = root.join("lock");
        let package = root.join("package");
        let lock = fs::create_dir_all(&package)
            .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path));
        let lock = match lock {
            Ok(lock) => lock,
            // It was just removed with its folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It was there when it was to be made, and gone when it was looked at.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && [&root, &package].iter().all(|made| made.is_dir() || !made.exists()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Error::io(&path, error)),
        };
        if !try_lock(&lock).map_err(|error| Error::io(&path, error))? || !is_at(&lock, &path) {
            return Ok(None);
        }
        Ok(Some(Self { root, _lock: lock, kept: true }))
    }

    /// Where whole files are.
    pub(super) fn package(&self) -> PathBuf {
        self.root.join("package")
    }

    /// Where a file is until it is whole.
    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Says whether the folder is still needed when this is dropped.
    pub(super) fn keep(&mut self, kept: bool) {
        self.kept = kept;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What cannot be removed now is found by the next import, or by `discard`.
        let _ = if self.kept {
            fs::remove_file(self.incoming())
        } else {
            fs::remove_dir_all(&self.root)
        };
    }
}

/// Removes what is left of imports to `target`, of which no process is at work.
pub(super) fn discard(target: &Path) -> Result<()> {
    let prefix = prefix(target)?;
    let folder = files::parent(target);
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let digits = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(ENDING));
        let is_ours = digits.is_some_and(|digits| {
            digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if !is_ours {
            continue;
        }
        let lock = File::open(path.join("lock"));
        if lock.is_ok_and(|lock| try_lock(&lock).is_ok_and(|locked| !locked)) {
            continue;
        }
        fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
    }
    Ok(())
}

/// `error`; of a disk that became full, with what the `needed` bytes of its `folder` lack.
pub(super) fn with_room(error: Error, folder: &Path, needed: u64) -> Error {
    match (error.kind(), error.amounts(), files::available_bytes(folder)) {
        (ErrorKind::NoSpace, None, Some(available)) => {
            error.with_amounts(Amounts { needed, available })
        }
        _ => error,
    }
}

/// `.NAME-`
fn prefix(target: &Path) -> Result<String> {
    let name = target.file_name().ok_or_else(|| {
        let detail = "expected a path that ends in a name";
        Error::new(ErrorKind::BadRequest, target.display().to_string(), detail)
    })?;
    let name = name.to_string_lossy();
    Ok(format!(".{}-", &name[..name.floor_char_boundary(MOST_NAME_BYTES)]))
}

/// Whether the lock could be taken. Where a file system has no locks, it always can.
fn try_lock(lock: &File) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the open file is still the one at `path`: a process that finished removes its folder,
/// lock and all.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (ours, found) = (file.metadata().map(id), fs::metadata(path).map(id));
    matches!((ours, found), (Ok(ours), Ok(found)) if ours == found)
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists() // an open file cannot be removed there
}
