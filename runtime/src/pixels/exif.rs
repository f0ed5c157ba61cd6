//! Notes beside the pixels of a JPEG or WebP, as an EXIF block: what others read, and our own.
//! Layout: CIPA DC-008, "Exif 2.32", sections 4.6.3 and 4.6.5. Knows no image format.

use std::{collections::BTreeMap, iter};

use super::metadata::Fields;

/// The note that other programs read: the request as A1111 writes it. In an EXIF block it is the
/// user's comment.
pub const PARAMETERS: &str = "parameters";

/// The most bytes of a block in a JPEG: a segment has 65,535, and its size and name are two of them
/// and six.
pub(super) const MAX_JPEG_BYTES: usize = 65_527;

/// What a block in a WebP may have at most.
pub(super) const MAX_WEBP_BYTES: usize = u32::MAX as usize;

/// The name of its byte order and format, and where its first directory is.
const HEAD: [u8; 8] = *b"MM\0\x2a\0\0\0\x08";
const SOFTWARE: u16 = 0x0131;
const EXIF: u16 = 0x8769;
const EXIF_VERSION: u16 = 0x9000;
/// What the maker of an image says of it, which is ours: this name, and the notes as JSON.
const MAKER_NOTE: u16 = 0x927c;
const MAKER: &[u8] = b"pocketmuse\0";
/// What its user says of it: the name of an encoding, and text.
const USER_COMMENT: u16 = 0x9286;
/// UTF-16, the higher byte first, whatever the byte order of the block: as A1111 writes it.
const UTF_16: &[u8] = b"UNICODE\0";
/// Types of fields.
const ASCII: u16 = 2;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// The block that holds `notes`, of at most `most` bytes: if it is longer, the note for others is
/// left out, and then all. `None` without notes.
pub(super) fn block(notes: &[(&str, &str)], most: usize) -> Option<Vec<u8>> {
    let ours = ours(notes).map(|json| [MAKER, json.as_bytes()].concat());
    let others = notes.iter().find(|(keyword, _)| *keyword == PARAMETERS).map(|(_, text)| {
        let utf_16 = text.encode_utf16().flat_map(u16::to_be_bytes);
        UTF_16.iter().copied().chain(utf_16).collect::<Vec<_>>()
    });
    let fields = [(MAKER_NOTE, ours), (USER_COMMENT, others)];
    [&fields[..], &fields[..1]].into_iter().find_map(|fields| {
        let there = fields.iter().filter_map(|(tag, value)| Some((*tag, value.as_deref()?)));
        let there: Vec<_> = there.collect();
        let block = (!there.is_empty()).then(|| encode(&there))?;
        (block.len() <= most).then_some(block)
    })
}

/// All notes but the one for others, as JSON; `None` if there are none.
pub(super) fn ours(notes: &[(&str, &str)]) -> Option<String> {
    let ours: BTreeMap<_, _> =
        notes.iter().copied().filter(|(keyword, _)| *keyword != PARAMETERS).collect();
    (!ours.is_empty()).then(|| serde_json::to_string(&ours).expect("text always serializes"))
}

/// The note under `keyword` of what [`ours`] wrote.
pub(super) fn in_json(json: &[u8], keyword: &str) -> Option<String> {
    serde_json::from_slice::<BTreeMap<String, String>>(json).ok()?.remove(keyword)
}

/// A block whose directory of EXIF has these fields of bytes. Numbers begin with the higher byte, as
/// the text does: some programs read both in the block's order.
fn encode(fields: &[(u16, &[u8])]) -> Vec<u8> {
    let exif = iter::once((EXIF_VERSION, &b"0232"[..])).chain(fields.iter().copied());
    let exif: Vec<_> = exif.map(|(tag, value)| (tag, UNDEFINED, value)).collect();
    let exif_at = HEAD.len() + directory_bytes(2);
    let values_at = exif_at + directory_bytes(exif.len());
    let place = (exif_at as u32).to_be_bytes();
    let first = [(SOFTWARE, ASCII, &b"pocketmuse\0"[..]), (EXIF, LONG, &place[..])];
    let (mut bytes, mut values) = (HEAD.to_vec(), Vec::new());
    for directory in [&first[..], &exif] {
        bytes.extend((directory.len() as u16).to_be_bytes());
        for (tag, kind, value) in directory {
            let count = if *kind == LONG { 1 } else { value.len() as u32 };
            bytes.extend([tag.to_be_bytes(), kind.to_be_bytes()].concat());
            bytes.extend(count.to_be_bytes());
            let mut four = [0; 4];
            if let Some(short) = four.get_mut(..value.len()) {
                short.copy_from_slice(value);
            } else {
                four = ((values_at + values.len()) as u32).to_be_bytes();
                values.extend_from_slice(value);
                values.resize(values.len().next_multiple_of(2), 0); // values begin at even places
            }
            bytes.extend(four);
        }
        bytes.extend([0; 4]); // no directory behind it
    }
    bytes.extend(values);
    bytes
}

/// Bytes of a directory: how many fields, they, and where the next one is.
fn directory_bytes(fields: usize) -> usize {
    2 + 12 * fields + 4
}

/// The note under `keyword` that a block holds.
pub(super) fn note(block: &[u8], keyword: &str) -> Option<String> {
    let fields = Fields::of_exif(block)?;
    if keyword == PARAMETERS {
        let text = fields.find(USER_COMMENT)?.strip_prefix(UTF_16)?;
        let units = text.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair));
        return Some(char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')).collect());
    }
    in_json(fields.find(MAKER_NOTE)?.strip_prefix(MAKER)?, keyword)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [(&str, &str); 3] =
        [("a", "{\"x\": 1}"), (PARAMETERS, "ein Haus \u{1F680}\nSteps: 1"), ("b", "")];

    #[test]
    fn notes_are_read_back() {
        let whole = block(&NOTES, usize::MAX).expect("notes");
        for (keyword, text) in NOTES {
            assert_eq!(note(&whole, keyword).as_deref(), Some(text));
            let alone = block(&[(keyword, text)], usize::MAX).expect("a note");
            assert_eq!(note(&alone, keyword).as_deref(), Some(text));
        }
        assert_eq!((note(&whole, "c"), block(&[], usize::MAX)), (None, None));
    }

    #[test]
    fn what_is_too_long_is_left_out_and_ours_last() {
        let whole = block(&NOTES, usize::MAX).expect("notes").len();
        assert_eq!(block(&NOTES, whole).map(|block| block.len()), Some(whole));
        let ours = block(&NOTES, whole - 1).expect("ours fits");
        assert_eq!(
            (note(&ours, "a").as_deref(), note(&ours, PARAMETERS)),
            (Some("{\"x\": 1}"), None)
        );
        assert_eq!(block(&NOTES, ours.len() - 1), None);
    }

    #[test]
    fn no_changed_byte_makes_it_panic() {
        let whole = block(&NOTES, usize::MAX).expect("notes");
        for at in 0..whole.len() {
            for byte in [0, 1, 0x55, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                NOTES.iter().for_each(|(keyword, _)| drop(note(&bytes, keyword)));
            }
            let _ = note(&whole[..at], "a");
        }
    }
}
