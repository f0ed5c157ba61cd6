//! The chunks of a WebP, checked against the file's size: the decoder reserves what they claim.
//! Layout: "WebP Image Format" (RFC 9649, section 2).

use super::{Metadata, orientation};

/// `RIFF`, a size and `WEBP`.
const HEAD_BYTES: usize = 12;
/// An `ANMF` chunk's place, size and duration before the chunks inside it.
const FRAME_BYTES: usize = 16;
/// Flags of `VP8X`.
const HAS_EXIF: u8 = 0x08;
const HAS_XMP: u8 = 0x04;

pub(super) fn check(bytes: &mut [u8]) -> Result<Metadata, String> {
    let mut metadata = Metadata { scratch_per_pixel: 4, ..Metadata::default() };
    let (mut flags, mut missing) = (None, HAS_EXIF | HAS_XMP);
    let riff =
        bytes.get(4..8).and_then(|size| size.first_chunk()).map(|size| u32::from_le_bytes(*size));
    let end = bytes.len().min(8usize.saturating_add(riff.unwrap_or(0) as usize));
    let mut at = HEAD_BYTES;
    while let Some((kind, data)) = chunk(bytes, at, end)? {
        match &kind {
            b"VP8X" => flags = Some(data.start),
            b"EXIF" => {
                missing &= !HAS_EXIF;
                metadata.orientation =
                    metadata.orientation.or_else(|| orientation(&bytes[data.clone()]));
            }
            b"XMP " => missing &= !HAS_XMP,
            b"ANMF" => {
                let mut at = data.start + FRAME_BYTES;
                while let Some((_, data)) = chunk(bytes, at, data.end)? {
                    at = padded(data.end);
                }
            }
            _ => (),
        }
        at = padded(data.end);
    }
    if let Some(flags) = flags.and_then(|at| bytes.get_mut(at)) {
        *flags &= !missing;
    }
    Ok(metadata)
}

/// Chunks begin at even places.
fn padded(at: usize) -> usize {
    at + at % 2
}

/// The kind of the chunk at `at` and where its data is; `None` if nothing is left before `end`.
fn chunk(
    bytes: &[u8],
    at: usize,
    end: usize,
) -> Result<Option<([u8; 4], std::ops::Range<usize>)>, String> {
    let Some((kind, rest)) = bytes.get(at..end).and_then(|rest| rest.split_first_chunk()) else {
        return Ok(None);
    };
    let Some((size, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let size = u32::from_le_bytes(*size);
    if rest.len() < size as usize {
        let kind = String::from_utf8_lossy(kind).escape_default().to_string();
        return Err(format!(
            "expected a whole WebP, found {} of the {size} bytes of its chunk {kind}",
            rest.len()
        ));
    }
    Ok(Some((*kind, at + 8..at + 8 + size as usize)))
}
