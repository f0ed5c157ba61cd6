//! The chunks of a WebP, checked against the file's size: the decoder reserves what they claim.
//! Layout: "WebP Image Format" (RFC 9649, section 2).

use super::found::{Beside, MAX_PROFILE_BYTES, Metadata, orientation};

/// `RIFF`, a size and `WEBP`.
const HEAD_BYTES: usize = 12;
/// An `ANMF` chunk's place, size and duration before the chunks inside it.
const FRAME_BYTES: usize = 16;
/// Flags of `VP8X`.
const HAS_EXIF: u8 = 0x08;
const HAS_XMP: u8 = 0x04;

/// Drops what is behind the end of the file's chunks, where the decoder would find others.
pub(super) fn check(bytes: &mut Vec<u8>) -> Result<Metadata, String> {
    let mut metadata = Metadata { scratch_per_pixel: 4, ..Metadata::default() };
    let (mut flags, mut missing) = (None, HAS_EXIF | HAS_XMP);
    let mut canvas = None;
    let end = end(bytes);
    bytes.truncate(end);
    let mut at = HEAD_BYTES;
    while let Some((kind, data)) = chunk(bytes, at, end)? {
        match &kind {
            b"VP8X" => {
                flags = Some(data.start);
                canvas = canvas_size(&bytes[data.clone()]);
            }
            b"VP8 " | b"VP8L" => check_frame(&kind, &bytes[data.clone()], canvas)?,
            b"EXIF" => {
                missing &= !HAS_EXIF;
                metadata.orientation =
                    metadata.orientation.or_else(|| orientation(&bytes[data.clone()]));
            }
            b"ICCP" if metadata.profile.is_none() && data.len() <= MAX_PROFILE_BYTES => {
                metadata.profile = Some(bytes[data.clone()].to_owned());
            }
            b"XMP " => missing &= !HAS_XMP,
            b"ANMF" => {
                let mut at = data.start + FRAME_BYTES;
                while let Some((kind, data)) = chunk(bytes, at, data.end)? {
                    check_frame(&kind, &bytes[data.clone()], canvas)?;
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

/// The first EXIF block and the first XMP packet.
///
/// # Errors
///
/// A sentence, for a chunk that claims more bytes than there are.
pub(super) fn beside(bytes: &[u8]) -> Result<Beside<'_>, String> {
    let (mut beside, mut at) = (Beside::default(), HEAD_BYTES);
    while let Some((kind, data)) = chunk(bytes, at, end(bytes))? {
        at = padded(data.end);
        let data = &bytes[data];
        match &kind {
            b"EXIF" if beside.exif.is_none() => {
                beside.exif = Some(data.strip_prefix(b"Exif\0\0").unwrap_or(data));
            }
            b"XMP " if beside.xmp.is_none() => beside.xmp = Some(data),
            _ => (),
        }
    }
    Ok(beside)
}

/// Where the file's chunks end.
fn end(bytes: &[u8]) -> usize {
    let riff = bytes.get(4..8).and_then(|size| size.first_chunk());
    let riff = riff.map_or(0, |size| u32::from_le_bytes(*size));
    bytes.len().min(8usize.saturating_add(riff as usize))
}

/// Width and height that a `VP8X` chunk claims.
fn canvas_size(data: &[u8]) -> Option<[u32; 2]> {
    let side = |at: usize| {
        let [a, b, c] = *data.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes([a, b, c, 0]) + 1)
    };
    Some([side(4)?, side(7)?])
}

/// Checks that a frame is not larger than the canvas it is for: the decoder reserves the frame.
fn check_frame(kind: &[u8; 4], data: &[u8], canvas: Option<[u32; 2]>) -> Result<(), String> {
    let (Some([width, height]), Some(most)) = (frame_size(kind, data), canvas) else {
        return Ok(());
    };
    if width <= most[0] && height <= most[1] {
        return Ok(());
    }
    let [most_width, most_height] = most;
    Err(format!(
        "expected frames of at most {most_width} x {most_height} pixels, found one of {width} x \
        {height}"
    ))
}

/// Width and height that a frame's own head claims: RFC 6386, section 9.1, and RFC 9649, section
/// 3.4.
fn frame_size(kind: &[u8; 4], data: &[u8]) -> Option<[u32; 2]> {
    match kind {
        b"VP8 " => {
            let [_, _, _, 0x9d, 0x01, 0x2a, sides @ ..] = data.first_chunk::<10>()? else {
                return None;
            };
            let [a, b, c, d] = *sides.first_chunk()?;
            Some([[a, b], [c, d]].map(|side| u32::from(u16::from_le_bytes(side) & 0x3fff)))
        }
        b"VP8L" => {
            let [0x2f, sides @ ..] = data.first_chunk::<5>()? else { return None };
            let bits = u32::from_le_bytes(*sides.first_chunk()?);
            Some([bits, bits >> 14].map(|side| (side & 0x3fff) + 1))
        }
        _ => None,
    }
}

/// A chunk's kind and where its data is.
type Chunk = ([u8; 4], std::ops::Range<usize>);

/// Chunks begin at even places.
fn padded(at: usize) -> usize {
    at + at % 2
}

/// The chunk at `at`; `None` if nothing is left before `end`.
fn chunk(bytes: &[u8], at: usize, end: usize) -> Result<Option<Chunk>, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let padding = vec![0; data.len() % 2];
        [&kind[..], &(data.len() as u32).to_le_bytes(), data, &padding].concat()
    }

    fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = chunks.concat();
        [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
    }

    #[test]
    fn metadata_is_found_and_what_is_missing_is_not_mentioned() {
        let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let head = |flags: u8| chunk(b"VP8X", &[flags, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        let parts =
            [head(0x2c), chunk(b"ICCP", b"abc"), chunk(b"VP8L", b"12345"), chunk(b"EXIF", exif)];
        let mut bytes = webp(&parts);
        let found = check(&mut bytes).expect("whole");
        assert_eq!(found.profile.as_deref(), Some(&b"abc"[..]));
        assert_eq!(found.orientation, Some(image::metadata::Orientation::Rotate90));
        assert_eq!(bytes[20], 0x28, "there is no XMP");
        let found = Beside { exif: exif.strip_prefix(b"Exif\0\0"), xmp: None };
        assert_eq!(beside(&bytes), Ok(found));
        assert_eq!(beside(&webp(&parts[..3])), Ok(Beside::default()));
        let packets = [chunk(b"XMP ", b"first"), chunk(b"XMP ", b"second")];
        let both = webp(&[&packets[..], &parts].concat());
        assert_eq!(beside(&both), Ok(Beside { xmp: Some(b"first"), ..found }));
        beside(&bytes[..bytes.len() - 1]).expect_err("cut short");
        let whole = webp(&parts[..3]);
        let mut behind = [&whole[..], b"EXIF\xff\xff\xff\xff"].concat();
        check(&mut behind).expect("what is behind the end is no part of it");
        assert_eq!(behind.len(), whole.len(), "and no decoder sees it");
    }

    #[test]
    fn chunks_that_claim_too_much_are_refused_wherever_they_are() {
        let head = chunk(b"VP8X", &[0x02, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        let inner = |size: u32| [&[0; 16][..], b"VP8L", &size.to_le_bytes(), b"1234"].concat();
        for (chunks, is_whole) in [
            (vec![head.clone(), chunk(b"ANMF", &inner(4))], true),
            (vec![head.clone(), chunk(b"ANMF", &inner(5))], false),
            (vec![head.clone(), chunk(b"ANMF", &inner(u32::MAX))], false),
            (vec![head.clone(), b"EXIF\xff\xff\xff\xffab".to_vec()], false),
            (vec![b"VP8L\xff\xff\xff\x7f12".to_vec()], false),
            (vec![head, b"EXI".to_vec()], true),
        ] {
            assert_eq!(check(&mut webp(&chunks)).is_ok(), is_whole, "{chunks:?}");
        }
    }
    #[test]
    fn a_frame_is_no_larger_than_its_canvas() {
        let head = |side: u8| chunk(b"VP8X", &[0, 0, 0, 0, side - 1, 0, 0, side - 1, 0, 0]);
        let lossy = |[width, height]: [u8; 2]| {
            chunk(b"VP8 ", &[0, 0, 0, 0x9d, 0x01, 0x2a, width, 0x40, height, 0x40])
        };
        let lossless = |[width, height]: [u32; 2]| {
            let bits = (width - 1) | ((height - 1) << 14);
            chunk(b"VP8L", &[&[0x2f][..], &bits.to_le_bytes()].concat())
        };
        let animated = |frame: Vec<u8>| chunk(b"ANMF", &[vec![0; FRAME_BYTES], frame].concat());
        for (frame, fits) in [
            (lossy([9, 9]), true), // the upper bits scale what is shown
            (lossy([10, 9]), false),
            (lossless([9, 9]), true),
            (lossless([9, 16384]), false),
            (chunk(b"VP8 ", b"short"), true), // the decoder refuses it
        ] {
            for chunks in [vec![head(9), frame.clone()], vec![head(9), animated(frame.clone())]] {
                assert_eq!(check(&mut webp(&chunks)).is_ok(), fits, "{chunks:?}");
            }
            check(&mut webp(&[frame])).expect("without a canvas it is its own");
        }
    }
}
