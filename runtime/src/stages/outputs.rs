//! The outputs of a graph, as many as the format says. Knows no stage.

use pocketmuse_package::{Error, ErrorKind, Result};

/// The only element of `items`.
pub(super) fn one<T>(stage: &str, items: Vec<T>) -> Result<T> {
    let [item] = exactly(stage, items)?;
    Ok(item)
}

/// Exactly `N` outputs, or an error: a stage's outputs are fixed by the format.
pub(super) fn exactly<T, const N: usize>(stage: &str, items: Vec<T>) -> Result<[T; N]> {
    let found = items.len();
    items.try_into().map_err(|_| {
        Error::new(ErrorKind::PackageDamaged, stage, format!("expected {N} outputs, found {found}"))
    })
}
