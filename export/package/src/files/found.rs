//! What lies where a file should be, as people have it: links that lead nowhere, and pointers of Git
//! LFS.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::ErrorKind;

/// How a pointer of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Where a link leads that leads to nothing; `None` for anything else.
pub fn broken_link(path: &Path) -> Option<PathBuf> {
    fs::read_link(path).ok().filter(|_| !path.exists())
}

/// Whether these bytes, or the beginning of a file, only say which file Git LFS would fetch.
pub fn is_pointer(contents: &[u8]) -> bool {
    contents.starts_with(POINTER)
}

/// Whether a pointer of Git LFS lies where the file itself should.
pub fn is_pointer_file(path: &Path) -> bool {
    let mut beginning = Vec::new();
    let file = super::open(path, ErrorKind::Io);
    let read = file.map(|file| file.take(POINTER.len() as u64).read_to_end(&mut beginning));
    read.is_ok() && is_pointer(&beginning)
}

/// The folders in a folder, by name.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The snapshot that was meant where `root` is a part of the cache of a hub's client: the folder of
/// a repository, or one that holds several. `None` if it is neither.
pub fn snapshot_of(root: &Path) -> Option<PathBuf> {
    let of_repository = |repository: &Path| {
        let snapshots = folders(&repository.join("snapshots"));
        let main = fs::read_to_string(repository.join("refs/main")).unwrap_or_default();
        let is_main = |path: &&PathBuf| path.file_name().is_some_and(|name| name == main.trim());
        snapshots.iter().find(is_main).or(snapshots.first()).cloned()
    };
    let is_repository = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"))
    };
    of_repository(root).or_else(|| {
        let hubs = [root.to_owned(), root.join("hub")];
        let mut repositories = hubs.iter().flat_map(|hub| folders(hub)).filter(is_repository);
        repositories.find_map(|repository| of_repository(&repository))
    })
}
