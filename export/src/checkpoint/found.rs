//! What people hand in instead of a checkpoint or its files: each is named for what it is, with
//! what to do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pocketmuse_package::MANIFEST;

use crate::error::{Result, bad_checkpoint};

/// How a pointer of Git LFS begins, which lies where the file itself should.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// How the hub's cache names a repository's folder.
const REPOSITORY: &str = "models--";

/// Refuses a link to something that is not there.
pub(super) fn no_broken_link(path: &Path) -> Result<()> {
    match fs::read_link(path) {
        Ok(target) if !path.exists() => {
            let detail = format!(
                "expected a file or folder, found a link to {}, which is not there: \
                 fetch the checkpoint again",
                target.display()
            );
            Err(bad_checkpoint(path.display().to_string(), detail))
        }
        _ => Ok(()),
    }
}

/// Refuses a file that only says which one Git LFS would fetch.
pub(super) fn no_pointer(path: &Path, contents: &[u8]) -> Result<()> {
    if !contents.starts_with(POINTER) {
        return Ok(());
    }
    let detail = "expected the file itself, found a pointer of Git LFS: \
                  run git lfs pull in the repository";
    Err(bad_checkpoint(path.display().to_string(), detail))
}

/// Refuses folders that are something else: a package, or a part of the hub's cache.
pub(super) fn no_other_folder(root: &Path) -> Result<()> {
    let wrong = |detail: String| Err(bad_checkpoint(root.display().to_string(), detail));
    if root.join(MANIFEST).is_file() {
        return wrong("expected a checkpoint, found a package: it is exported already".to_owned());
    }
    let snapshots = folders(&root.join("snapshots"));
    if let Some(snapshot) = snapshots.first() {
        return wrong(format!(
            "expected a snapshot, found the hub's folder of a repository: give {}",
            snapshot.display()
        ));
    }
    let is_repository = |path: &PathBuf| name_of(path).is_some_and(|n| n.starts_with(REPOSITORY));
    let hubs = [root.to_owned(), root.join("hub")];
    let mut repositories = hubs.iter().flat_map(|hub| folders(hub)).filter(is_repository);
    match repositories.next() {
        Some(repository) => {
            let snapshots = folders(&repository.join("snapshots"));
            wrong(format!(
                "expected a snapshot, found the hub's cache: give for instance {}",
                snapshots.first().unwrap_or(&repository).display()
            ))
        }
        None => Ok(()),
    }
}

/// The name of the repository of which `snapshot` is one in the hub's cache: `amused-512` of
/// `models--amused--amused-512/snapshots/0123abcd`.
pub(crate) fn repository_of(snapshot: &Path) -> Option<&str> {
    let snapshots = snapshot.parent()?;
    let repository = name_of(snapshots.parent()?)?.strip_prefix(REPOSITORY)?;
    (name_of(snapshots)? == "snapshots")
        .then(|| repository.rsplit("--").next().unwrap_or(repository))
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The folders in a folder, by name.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_called_after_its_repository() {
        let cases = [
            ("a/models--amused--amused-512/snapshots/12ab", Some("amused-512")),
            ("a/models--tiny/snapshots/12ab", Some("tiny")),
            ("a/models--amused--amused-512/refs/main", None),
            ("snapshots/12ab", None),
        ];
        for (path, expected) in cases {
            assert_eq!(repository_of(Path::new(path)), expected, "{path}");
        }
    }
}
