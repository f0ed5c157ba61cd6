//! The chunks of a PNG, in any order: orientation, colours and text. Layout: "Portable Network
//! Graphics Specification, Third Edition", sections 5 and 11.

use std::io::Read;

use flate2::{Crc, read::ZlibDecoder};
use image::metadata::Orientation;

use super::found::{MAX_PROFILE_BYTES, Metadata, orientation};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// A chunk's length and kind before its data, and the checksum behind it.
const AROUND_BYTES: usize = 12;
/// What deflate packs best, 1032 bytes of eight pixels each in one, rounded up.
const PIXELS_PER_BYTE: u64 = 1032 * 8;
/// `gAMA` of sRGB is 45455, in 100,000ths; what is as near is as good.
const SRGB_GAMMA: std::ops::RangeInclusive<u32> = 45_000..=46_000;
/// `cHRM` of sRGB: white, red, green and blue, each x and y.
const SRGB_CHROMATICITIES: [u32; 8] =
    [31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000];
/// The most bytes of EXIF that is text.
const MAX_EXIF_BYTES: usize = 1 << 20;

/// A chunk whose length is right.
#[derive(Clone, Copy)]
pub(in crate::pixels) struct Chunk<'a> {
    pub(in crate::pixels) kind: [u8; 4],
    pub(in crate::pixels) data: &'a [u8],
    checksum: [u8; 4],
}

impl Chunk<'_> {
    /// Whether its checksum is right.
    pub(in crate::pixels) fn is_sound(&self) -> bool {
        let mut crc = Crc::new();
        crc.update(&self.kind);
        crc.update(self.data);
        crc.sum().to_be_bytes() == self.checksum
    }

    /// Whether the pixels need it. Animations begin with the pixels that other readers see.
    fn is_needed(&self) -> bool {
        self.kind[0].is_ascii_uppercase() || &self.kind == b"tRNS"
    }
}

/// The chunks, up to the last or the first that the file ends in.
pub(in crate::pixels) struct Chunks<'a> {
    rest: &'a [u8],
    is_at_end: bool,
}

impl<'a> Chunks<'a> {
    /// `None` if it is no PNG.
    pub(in crate::pixels) fn of(bytes: &'a [u8]) -> Option<Self> {
        Some(Self { rest: bytes.strip_prefix(SIGNATURE)?, is_at_end: false })
    }

    /// Whether the last chunk was reached.
    pub(in crate::pixels) fn is_whole(&self) -> bool {
        self.is_at_end
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        if self.is_at_end {
            return None;
        }
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (data, rest) = rest.split_at_checked(length)?;
        let (checksum, rest) = rest.split_first_chunk()?;
        self.rest = rest;
        self.is_at_end = kind == b"IEND";
        Some(Chunk { kind: *kind, data, checksum: *checksum })
    }
}

/// Why packed bytes could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pixels) enum Unpacked {
    TooLong,
    Damaged,
}

/// What `packed` unpacks to, if that is at most `most` bytes.
pub(in crate::pixels) fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, Unpacked> {
    let mut bytes = Vec::new();
    let read = ZlibDecoder::new(packed).take(most as u64 + 1).read_to_end(&mut bytes);
    match read {
        _ if bytes.len() > most => Err(Unpacked::TooLong),
        Ok(_) => Ok(bytes),
        Err(_) => Err(Unpacked::Damaged),
    }
}

/// The text of a keyword, and what is before and behind the zero that ends it.
pub(in crate::pixels) fn split_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..zero], &bytes[zero + 1..]))
}

/// Reads what is beside the pixels, and drops every chunk that the pixels do not need.
pub(super) fn take(bytes: &mut Vec<u8>) -> Metadata {
    let Some(mut chunks) = Chunks::of(bytes) else { return Metadata::default() };
    let mut found = Found::default();
    let (mut needed, mut at) = (Vec::new(), SIGNATURE.len());
    for chunk in &mut chunks {
        let end = at + AROUND_BYTES + chunk.data.len();
        if chunk.is_needed() {
            needed.push(at..end);
        } else if chunk.is_sound() {
            found.note(&chunk);
        }
        at = end;
    }
    needed.push(at..bytes.len()); // a damaged rest is the decoder's to judge
    let mut to = SIGNATURE.len();
    for part in needed {
        bytes.copy_within(part.clone(), to);
        to += part.len();
    }
    bytes.truncate(to);
    found.metadata()
}

/// The first chunk of each kind.
#[derive(Default)]
struct Found {
    metadata: Metadata,
    raw_exif: Option<Orientation>,
    is_srgb: bool,
    gamma: Option<u32>,
    chromaticities: Option<[u32; 8]>,
}

impl Found {
    fn note(&mut self, chunk: &Chunk<'_>) {
        let metadata = &mut self.metadata;
        match &chunk.kind {
            b"eXIf" if metadata.orientation.is_none() => {
                metadata.orientation = orientation(chunk.data);
            }
            b"zTXt" | b"tEXt" | b"iTXt" if self.raw_exif.is_none() => {
                self.raw_exif = raw_exif(chunk).and_then(|exif| orientation(&exif));
            }
            b"iCCP" if metadata.profile.is_none() => {
                let packed = split_zero(chunk.data).and_then(|(_, rest)| rest.get(1..));
                match unpack(packed.unwrap_or_default(), MAX_PROFILE_BYTES) {
                    Ok(profile) => metadata.profile = Some(profile),
                    Err(_) => metadata.warnings.push(
                        "the image's colour profile is damaged: it is shown without".to_owned(),
                    ),
                }
            }
            b"cICP" if metadata.cicp.is_none() => metadata.cicp = chunk.data.try_into().ok(),
            b"sRGB" => self.is_srgb = true,
            b"gAMA" => self.gamma = numbers::<1>(chunk.data).map(|[gamma]| gamma),
            b"cHRM" => self.chromaticities = numbers(chunk.data),
            _ => (),
        }
    }

    fn metadata(self) -> Metadata {
        let Self { mut metadata, raw_exif, is_srgb, gamma, chromaticities } = self;
        metadata.orientation = metadata.orientation.or(raw_exif);
        metadata.pixels_per_byte = Some(PIXELS_PER_BYTE);
        let is_told = is_srgb || metadata.cicp.is_some() || metadata.profile.is_some();
        let is_other = gamma.is_some_and(|gamma| !SRGB_GAMMA.contains(&gamma))
            || chromaticities.is_some_and(|found| {
                found.iter().zip(SRGB_CHROMATICITIES).any(|(a, b)| a.abs_diff(b) > 500)
            });
        if is_other && !is_told {
            metadata.warnings.push(
                "the image's gAMA and cHRM are ignored: its colours are taken for sRGB".to_owned(),
            );
        }
        metadata
    }
}

/// EXIF in hexadecimal digits, as some programs write it: `Raw profile type exif`, a line break,
/// `exif`, the number of bytes, and the bytes.
fn raw_exif(chunk: &Chunk<'_>) -> Option<Vec<u8>> {
    let (keyword, rest) = split_zero(chunk.data)?;
    if !matches!(keyword, b"Raw profile type exif" | b"Raw profile type APP1") {
        return None;
    }
    let text = match &chunk.kind {
        b"zTXt" => unpack(rest.get(1..)?, 2 * MAX_EXIF_BYTES).ok()?,
        b"iTXt" => return None,
        _ => rest.to_owned(),
    };
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let digits: Vec<u8> = words
        .skip(2)
        .flatten()
        .map(|digit| char::from(*digit).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let (pairs, _) = digits.as_chunks::<2>();
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn numbers<const N: usize>(data: &[u8]) -> Option<[u32; N]> {
    let (numbers, rest) = data.as_chunks::<4>();
    let numbers: Vec<_> = numbers.iter().map(|number| u32::from_be_bytes(*number)).collect();
    numbers.try_into().ok().filter(|_| rest.is_empty())
}
