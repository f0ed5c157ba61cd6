//! Texts of a checkpoint: configs, indexes, files of a tokenizer.

use std::path::Path;

use pocketmuse_package::files;

use super::found;
use crate::error::{ErrorKind, Result, bad_checkpoint};

/// A larger one is refused before it is parsed.
const MAX_BYTES: u64 = 64 << 20;

/// The text of a file, which is no pointer to another.
pub(super) fn read(file: &Path) -> Result<String> {
    let text = files::read_text(file, MAX_BYTES, ErrorKind::BadCheckpoint)?;
    found::no_pointer(file, text.as_bytes())?;
    Ok(text)
}

/// The text of a file whose contents are `bytes`.
pub(super) fn of(file: &Path, bytes: &[u8]) -> Result<String> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let detail = format!("expected UTF-8, found: {error}");
            Err(bad_checkpoint(file.display().to_string(), detail))
        }
    }
}
