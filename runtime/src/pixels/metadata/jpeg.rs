//! The segments of a JPEG up to the end of its image, and its colour profile. What comes behind is
//! no part of it: a film, a second image, anything. Layout: ITU-T T.81, annex B; profiles: ICC.1,
//! annex B.4.

use super::found::{Beside, End, MAX_PROFILE_BYTES, Metadata};

const PROFILE: &[u8] = b"ICC_PROFILE\0";
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// A marker's two bytes and a size.
const HEAD_BYTES: usize = 4;
/// One bit for each block of 8 x 8 pixels, as the first scan of a progressive image has at least.
const PIXELS_PER_BYTE: u64 = 512;

/// A walk over the segments.
#[derive(Default)]
struct Walk {
    scans: usize,
    is_progressive: bool,
    /// Profile segments: number, count and bytes.
    profile: Vec<(u8, u8, Vec<u8>)>,
}

pub(super) fn read(bytes: &[u8]) -> Metadata {
    let mut walk = Walk::default();
    let end = walk.end(bytes);
    let mut metadata = Metadata {
        end: Some(end),
        pixels_per_byte: Some(PIXELS_PER_BYTE),
        // Coefficients of all pixels are kept where scans refine one another.
        scratch_per_pixel: if walk.is_progressive || walk.scans > 1 { 8 } else { 1 },
        ..Metadata::default()
    };
    match walk.profile() {
        Ok(profile) => metadata.profile = profile,
        Err(()) => metadata
            .warnings
            .push("the image's colour profile is damaged: it is shown without".to_owned()),
    }
    metadata
}

impl Walk {
    fn end(&mut self, bytes: &[u8]) -> End {
        let mut at = 2; // the marker that begins an image
        while let Some(marker) = next_marker(bytes, &mut at) {
            match marker {
                0xd9 if self.scans > 0 => return End::Marked,
                0xd8 => return End::TooEarly,
                0x00 | 0x01 | 0xd0..=0xd7 | 0xd9 => continue,
                _ => (),
            }
            let Some(segment) = segment(bytes, &mut at) else { return End::TooEarly };
            match marker {
                0xc2 => self.is_progressive = true,
                0xe2 => self.profile.extend(profile_part(segment)),
                0xda => {
                    self.scans += 1;
                    let Some(length) = scan_bytes(&bytes[at..]) else {
                        let is_only = self.scans == 1 && !self.is_progressive;
                        return if is_only { End::WithFile } else { End::TooEarly };
                    };
                    at += length;
                }
                _ => (),
            }
        }
        End::TooEarly
    }

    /// The parts in their order, if there are any.
    fn profile(mut self) -> Result<Option<Vec<u8>>, ()> {
        let Some((_, count, _)) = self.profile.first() else { return Ok(None) };
        let count = *count;
        self.profile.sort_by_key(|(number, ..)| *number);
        self.profile.dedup_by_key(|(number, ..)| *number);
        let numbers = self.profile.iter().map(|(number, of, _)| (*number, *of));
        let is_whole = numbers.eq((1..=count).map(|number| (number, count)));
        let profile = self.profile.into_iter().flat_map(|(_, _, part)| part).collect::<Vec<_>>();
        let is_sound = is_whole && count > 0 && profile.len() <= MAX_PROFILE_BYTES;
        if is_sound { Ok(Some(profile)) } else { Err(()) }
    }
}

/// The first EXIF block and the first XMP packet before the pixels.
pub(super) fn beside(bytes: &[u8]) -> Beside<'_> {
    let (mut beside, mut at) = (Beside::default(), 2); // behind the marker that begins an image
    while let Some(marker) = next_marker(bytes, &mut at) {
        let segment = match marker {
            0xd8..=0xda => break, // an image, its end, its pixels
            0x00 | 0x01 | 0xd0..=0xd7 => continue,
            _ => segment(bytes, &mut at),
        };
        let Some(segment) = segment else { break };
        if marker == 0xe1 {
            beside.exif = beside.exif.or_else(|| segment.strip_prefix(EXIF));
            beside.xmp = beside.xmp.or_else(|| segment.strip_prefix(XMP));
        }
    }
    beside
}

/// Puts an XMP packet into a JPEG, behind the segments that stand before what the image needs.
pub(in crate::pixels) fn put_xmp(jpeg: &mut Vec<u8>, packet: &str) {
    let mut at = 2; // behind the marker that begins an image
    while let Some([0xff, 0xe0..=0xef, size @ ..]) = jpeg.get(at..at + HEAD_BYTES) {
        at += 2 + size.iter().fold(0, |size, byte| 256 * size + usize::from(*byte));
    }
    let size = 2 + XMP.len() + packet.len();
    let size = u16::try_from(size).expect("a packet is as long as a segment at most");
    let segment = [&[0xff, 0xe1], &size.to_be_bytes()[..], XMP, packet.as_bytes()].concat();
    jpeg.splice(at..at, segment);
}

/// What a segment holds, whose size is at `at`; goes behind it.
fn segment<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let size = usize::from(u16::from_be_bytes(*bytes.get(*at..)?.first_chunk()?));
    let segment = bytes.get(*at..)?.get(2..size)?;
    *at += size;
    Some(segment)
}

/// Goes behind the next marker, over whatever is before it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    let rest = bytes.get(*at..)?;
    let first = rest.iter().position(|byte| *byte == 0xff)?;
    let fill = rest[first..].iter().position(|byte| *byte != 0xff)?;
    *at += first + fill + 1;
    Some(rest[first + fill])
}

fn profile_part(segment: &[u8]) -> Option<(u8, u8, Vec<u8>)> {
    let (number, rest) = segment.strip_prefix(PROFILE)?.split_first()?;
    let (count, part) = rest.split_first()?;
    Some((*number, *count, part.to_owned()))
}

/// The length of a scan's data: up to a marker that may stand behind it. `None` if there is none.
fn scan_bytes(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let before = at;
        let marker = next_marker(data, &mut at)?;
        let is_behind = matches!(marker, 0xc4 | 0xd8..=0xdd | 0xe0..=0xef | 0xfe);
        if is_behind {
            let first = data[before..at].iter().position(|byte| *byte == 0xff);
            return Some(before + first.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    #[test]
    fn exif_and_xmp_are_found_before_the_pixels() {
        let block = segment(0xe1, b"Exif\0\0block");
        let packet = segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0packet");
        let other = segment(0xe2, b"Exif\0\0other");
        let whole = jpeg();
        let found = with_segments(&whole, &[other, block.clone(), packet, block.clone()]);
        let both = Beside { exif: Some(b"block"), xmp: Some(b"packet") };
        assert_eq!(beside(&found), both);
        for without in [whole.clone(), [whole, block].concat(), found[..20].to_vec(), Vec::new()] {
            assert_eq!(beside(&without), Beside::default());
        }
        let mut put = with_segments(&jpeg(), &[segment(0xe1, b"Exif\0\0block")]);
        put_xmp(&mut put, "packet");
        assert_eq!(beside(&put), both);
        image::load_from_memory(&put).expect("an image");
    }

    fn jpeg() -> Vec<u8> {
        let image = RgbImage::from_fn(40, 24, |x, y| Rgb([(6 * x) as u8, (9 * y) as u8, 77]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Jpeg).expect("encoded");
        bytes.into_inner()
    }

    /// `bytes` with segments behind the first marker.
    fn with_segments(bytes: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
        [&bytes[..2], &segments.concat(), &bytes[2..]].concat()
    }

    fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
        let size = (data.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &size[..], data].concat()
    }

    #[test]
    fn whatever_is_behind_the_image_is_no_part_of_it() {
        let whole = jpeg();
        for trailer in [
            &b""[..],
            b"\0",
            b"\xff",
            b"\xff\xda",
            b"\xff\xda\0\x08 and no end",
            b"\xff\xd8\xff\xe0",
            b"\xff\xd9\xff\xd9",
            b"\0\0\0\x18ftypmp42\xff\xda\xff\xc0\xff",
            &whole,
            &whole[..300],
        ] {
            assert_eq!(read(&[&whole, trailer].concat()).end, Some(End::Marked), "{trailer:?}");
        }
    }

    #[test]
    fn an_image_that_ends_early_is_known_by_its_scan() {
        let whole = jpeg();
        let thumbnail = segment(0xe1, &[b"Exif\0\0", &whole[..]].concat());
        for bytes in [whole.clone(), with_segments(&whole, &[thumbnail])] {
            let scan = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).expect("a scan");
            for length in 2..scan + 4 {
                assert_eq!(read(&bytes[..length]).end, Some(End::TooEarly), "{length}");
            }
            for length in scan + 14..bytes.len() - 1 {
                let cut = &bytes[..length];
                assert_eq!(read(cut).end, Some(End::WithFile), "{length}");
                let second = [cut, &whole].concat();
                assert_eq!(read(&second).end, Some(End::TooEarly), "a second image begins");
            }
        }
    }

    #[test]
    fn a_profile_is_put_together_from_its_parts() {
        let part = |number: u8, count: u8, bytes: &[u8]| {
            segment(0xe2, &[PROFILE, &[number, count], bytes].concat())
        };
        let other = segment(0xe2, b"MPF\0something else");
        for (segments, expected) in [
            (vec![], Ok(None)),
            (vec![other.clone()], Ok(None)),
            (vec![part(1, 1, b"abc")], Ok(Some(&b"abc"[..]))),
            (vec![part(1, 2, b"abc"), other, part(2, 2, b"de")], Ok(Some(b"abcde"))),
            (vec![part(2, 2, b"de"), part(1, 2, b"abc")], Ok(Some(b"abcde"))),
            (vec![part(1, 2, b"abc")], Err(())),
            (vec![part(2, 2, b"abc")], Err(())),
            (vec![part(1, 2, b"abc"), part(2, 3, b"abc")], Err(())),
            (vec![part(0, 0, b"abc")], Err(())),
        ] {
            let found = read(&with_segments(&jpeg(), &segments));
            assert_eq!(found.profile.as_deref(), expected.unwrap_or(None));
            assert_eq!(found.warnings.len(), usize::from(expected.is_err()));
        }
    }
}
