//! What people hand in instead of a checkpoint or its files: each is named for what it is, with
//! what to do.

use std::path::Path;

use pocketmuse_package::{MANIFEST, files};

use crate::error::{Result, bad_checkpoint};

/// How the hub's cache names a repository's folder.
const REPOSITORY: &str = "models--";

/// Refuses a link to something that is not there.
pub(super) fn no_broken_link(path: &Path) -> Result<()> {
    let Some(target) = files::broken_link(path) else { return Ok(()) };
    let detail = format!(
        "expected a file or folder, found a link to {}, which is not there: \
         fetch the checkpoint again",
        target.display()
    );
    Err(bad_checkpoint(path.display().to_string(), detail))
}

/// Refuses a file that only says which one Git LFS would fetch.
pub(super) fn no_pointer(path: &Path, contents: &[u8]) -> Result<()> {
    if !files::is_pointer(contents) {
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
    match files::snapshot_of(root) {
        Some(snapshot) => wrong(format!(
            "expected a snapshot, found a folder of the hub's cache: give {}",
            snapshot.display()
        )),
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
