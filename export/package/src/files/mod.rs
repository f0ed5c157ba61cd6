//! Files as this project reads and writes them. Knows nothing of what is in them.
//!
//! Reading is bounded and takes regular files only: [`read_bounded`], [`read_text`],
//! [`open_bounded`]. Writing goes to a temporary neighbour that takes its name when it is complete,
//! so that a reader sees the old file or folder or the new one and never a half: [`write()`],
//! [`NewFile`], [`NewFolder`]. Whoever writes much asks for room first: [`check_room`].
//!
//! Temporary names follow one rule, `.NAME-pocketmuse-XXXXXX.part`. What a killed process leaves is
//! told by that name, and a folder by a marker inside, too; [`sweep`] removes it when it is old.

mod found;
mod new_file;
mod new_folder;
mod read;
mod room;
mod sweep;
mod temporary;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

pub use self::{
    found::{broken_link, is_pointer, is_pointer_file, snapshot_of},
    new_file::{NewFile, WholeFile, check_writable, write},
    new_folder::NewFolder,
    read::{open, open_bounded, read_bounded, read_stream, read_text},
    room::{available_bytes, check_room},
    sweep::sweep,
    temporary::{TemporaryFolder, is_temporary},
};

use crate::{Error, ErrorKind, Result};

/// As many links in a row as systems follow.
const MOST_LINKS: usize = 40;

/// The folder in which `path` lies; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Where `path` leads if it is a link, also to something that does not exist yet: what is written
/// to a link goes to its target.
fn follow_links(path: &Path) -> Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = parent(&target).join(next),
            Err(_) => return Ok(target), // no link, or nothing there
        }
    }
    let detail = "expected a file, found a link that leads to itself";
    Err(Error::new(ErrorKind::Io, path.display().to_string(), detail))
}

/// Brings a folder's entries to the disk, where the system can: not every file system and not
/// every permission lets a folder be opened for it.
fn sync_folder(folder: &Path) -> io::Result<()> {
    let Ok(opened) = File::open(folder) else { return Ok(()) };
    match opened.sync_all() {
        Err(error) if cannot_sync(&error) => Ok(()),
        synced => synced,
    }
}

fn cannot_sync(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}
