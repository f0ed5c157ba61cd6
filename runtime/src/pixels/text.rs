//! Text in an image's file: in a PNG in any of its three kinds and any place, bounded while it is
//! unpacked; in a JPEG or WebP in its EXIF block or XMP packet. Knows no pixel.

use std::path::Path;

use pocketmuse_package::{Error, ErrorKind, Result};

use super::{
    KEYWORD, exif, limits,
    metadata::{
        self, Beside,
        png::{Chunk, Chunks, Unpacked, split_zero, unpack},
    },
    xmp,
};
use crate::Request;

/// The most bytes of a text.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Reads the request that [`write()`](super::write()) put into a PNG, JPEG or WebP.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is none of them, is damaged, or holds no
/// request that this version knows.
pub fn read_request(path: &Path) -> Result<Request> {
    let bad = |detail: String| Error::new(ErrorKind::BadInput, path.display().to_string(), detail);
    let text = read_note(path, KEYWORD)?;
    let json = text.ok_or_else(|| {
        bad("expected an image made by pocketmuse, found no request in it".to_owned())
    })?;
    serde_json::from_str(&json).map_err(|error| bad(format!("expected a request, found: {error}")))
}

/// Reads one of the notes that [`write()`](super::write()) put into a PNG, JPEG or WebP; `None` if
/// it has none under `keyword`.
///
/// In a PNG it may be text of any kind (`iTXt`, `tEXt`, `zTXt`) before or behind the pixels, as other
/// programs leave it when they save the image again.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is none of them, is damaged, or the text has
/// more than 16 MB.
pub fn read_note(path: &Path, keyword: &str) -> Result<Option<String>> {
    let bytes = limits::read_file(path, u64::MAX)?;
    note_in(&bytes, keyword).map_err(|error| error.within(path.display()))
}

/// As [`read_note`], from what a file holds.
///
/// # Errors
///
/// As for [`read_note`], but for `Io`.
pub fn note_in(bytes: &[u8], keyword: &str) -> Result<Option<String>> {
    let bad = |detail: String| Error::new(ErrorKind::BadInput, "", detail);
    if let Some(Beside { exif, xmp }) = metadata::beside(bytes).map_err(bad)? {
        let note = exif.and_then(|block| exif::note(block, keyword));
        return Ok(note.or_else(|| xmp::note(xmp?, keyword)));
    }
    let Some(mut chunks) = Chunks::of(bytes) else {
        return Err(bad("expected a PNG, JPEG or WebP, found another file".to_owned()));
    };
    for chunk in &mut chunks {
        let read = text(&chunk, keyword.as_bytes());
        match read.filter(|_| chunk.is_sound()) {
            Some(Ok(text)) => return Ok(Some(text)),
            Some(Err(Unpacked::TooLong)) => {
                let most = MAX_TEXT_BYTES / 1_000_000;
                return Err(bad(format!("expected text of at most {most} MB, found more")));
            }
            Some(Err(Unpacked::Damaged)) => {
                return Err(bad("expected text, found damaged bytes".to_owned()));
            }
            None => (),
        }
    }
    if chunks.is_whole() {
        return Ok(None);
    }
    Err(bad("expected a PNG, found one that is cut short".to_owned()))
}

/// The chunk's text, if it is text under `keyword`.
fn text(chunk: &Chunk<'_>, keyword: &[u8]) -> Option<Result<String, Unpacked>> {
    if !matches!(&chunk.kind, b"tEXt" | b"zTXt" | b"iTXt") {
        return None;
    }
    let (_, rest) = split_zero(chunk.data).filter(|(found, _)| *found == keyword)?;
    let bytes = match &chunk.kind {
        b"tEXt" => bounded(rest),
        b"zTXt" => rest.get(1..).ok_or(Unpacked::Damaged).and_then(unpacked),
        _ => international(rest),
    };
    Some(bytes.map(decoded))
}

/// Behind an `iTXt`'s keyword: whether it is packed, how, a language, a keyword in it, and the
/// text.
fn international(rest: &[u8]) -> Result<Vec<u8>, Unpacked> {
    let ([is_packed, _], rest) = rest.split_first_chunk().ok_or(Unpacked::Damaged)?;
    let text = split_zero(rest).and_then(|(_, rest)| split_zero(rest)).map(|(_, text)| text);
    let text = text.ok_or(Unpacked::Damaged)?;
    if *is_packed == 0 { bounded(text) } else { unpacked(text) }
}

fn bounded(bytes: &[u8]) -> Result<Vec<u8>, Unpacked> {
    if bytes.len() > MAX_TEXT_BYTES { Err(Unpacked::TooLong) } else { Ok(bytes.to_owned()) }
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Unpacked> {
    unpack(bytes, MAX_TEXT_BYTES)
}

/// UTF-8, or else Latin-1, which is what `tEXt` and `zTXt` are by the specification and not always
/// in the world.
fn decoded(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}
