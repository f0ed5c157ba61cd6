//! Texts of a checkpoint: configs, indexes, files of a tokenizer.

use std::path::Path;

use pocketmuse_package::files;

use super::found;
use crate::error::{ErrorKind, Result};

/// A larger one is refused before it is parsed.
const MAX_BYTES: u64 = 64 << 20;

/// The text of a file, which is no pointer to another.
pub(super) fn read(file: &Path) -> Result<String> {
    let text = files::read_text(file, MAX_BYTES, ErrorKind::BadCheckpoint)?;
    found::no_pointer(file, text.as_bytes())?;
    Ok(text)
}
