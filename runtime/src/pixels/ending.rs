//! What a file's name ends in, and the error for an ending that stands for no format.

use std::path::Path;

use pocketmuse_package::{Error, ErrorKind};

/// The ending in lower case, without the dot; empty if there is none.
pub(super) fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// `BadRequest` for a file that should have one of the `expected` endings.
pub(super) fn other_ending(path: &Path, ending: &str, expected: &str) -> Error {
    let found = if ending.is_empty() { "none".to_owned() } else { format!(".{ending}") };
    let detail = format!("expected a file ending in {expected}, found {found}");
    Error::new(ErrorKind::BadRequest, path.display().to_string(), detail)
}
