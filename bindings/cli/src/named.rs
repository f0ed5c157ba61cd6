//! Packages that go by a name: folders in the user's data.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use pocketmuse_package::{Error, ErrorKind, MANIFEST, Manifest, Result};

/// The folder that they lie in; `None` if this user has none.
pub(crate) fn folder() -> Option<PathBuf> {
    let data = etcetera::choose_base_strategy().ok()?.data_dir();
    data.is_absolute().then(|| data.join("pocketmuse"))
}

/// What `text` says: a path as it is, or the package of that name. What is there as a path is none.
pub(crate) fn locate(text: &Path) -> PathBuf {
    let mut parts = text.components();
    let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    let named = folder().map(|folder| folder.join(text)).filter(|named| named.is_dir());
    match named {
        Some(named) if is_name && !text.exists() => named,
        _ => text.to_owned(),
    }
}

/// The packages in `folder` by their names, in their order, and what each says of itself.
///
/// # Errors
///
/// `Io` if the folder is there and cannot be read.
pub(crate) fn list(folder: &Path) -> Result<Vec<(PathBuf, Result<Manifest>)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let error = Error::io(folder, error);
            return if error.kind() == ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) };
        }
    };
    let mut found: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join(MANIFEST).exists())
        .collect();
    found.sort();
    Ok(found.into_iter().map(|path| (path.clone(), Manifest::read(&path))).collect())
}
