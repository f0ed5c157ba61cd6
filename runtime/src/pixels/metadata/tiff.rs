//! The first directory of a TIFF: its colour profile and how its pixels are packed; and that of EXIF.
//! Layout: "TIFF Revision 6.0", section 2, and BigTIFF. Orientation is the decoder's to find.

use std::ops::RangeInclusive;

use super::found::{MAX_PROFILE_BYTES, Metadata};

const COMPRESSION: u16 = 259;
const PROFILE: u16 = 34_675;
/// Where the directory of EXIF is.
const EXIF: u16 = 34_665;
/// Tags of the fields that say how pixels lie. Decoders reserve 32 bytes for each of their values
/// before they look for it.
const LAYOUT: RangeInclusive<u16> = 254..=347;
/// The most values of such a field: as many as the largest image has tiles of 16 x 16 pixels.
const MAX_VALUES: u64 = 1 << 18;
const TEXT: u64 = 2;
/// Compression of one colour's runs, which pack a whole row into a bit.
const FAX: [u16; 3] = [2, 3, 4];
/// What deflate packs best, of one bit for each pixel, rounded up.
const PIXELS_PER_BYTE: u64 = 1032 * 8;

/// # Errors
///
/// A sentence, for a field that claims more values than the file or any image has.
pub(super) fn read(bytes: &[u8]) -> Result<Metadata, String> {
    let fields = Fields::of(bytes);
    fields.as_ref().map_or(Ok(()), Fields::check)?;
    let find = |tag| fields.as_ref().and_then(|fields| fields.find(tag));
    let compression =
        find(COMPRESSION).and_then(|value| fields.as_ref()?.number(value)).unwrap_or(1);
    let mut metadata = Metadata { scratch_per_pixel: 8, ..Metadata::default() };
    metadata.pixels_per_byte =
        (!FAX.map(u64::from).contains(&compression)).then_some(PIXELS_PER_BYTE);
    match find(PROFILE) {
        Some(profile) if profile.len() <= MAX_PROFILE_BYTES => {
            metadata.profile = Some(profile.to_owned());
        }
        Some(_) => metadata
            .warnings
            .push("the image's colour profile is damaged: it is shown without".to_owned()),
        None => (),
    }
    Ok(metadata)
}

/// The fields of a directory, each its tag, type, number of values, and them or where they are.
pub(in crate::pixels) struct Fields<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    /// Bytes of a number of values and of a place.
    wide: usize,
    fields: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let is_big_endian = match bytes.get(..2)? {
            b"MM" => true,
            b"II" => false,
            _ => return None,
        };
        let number = |at: usize, size: usize| number(bytes.get(at..)?.get(..size)?, is_big_endian);
        let is_wide = number(2, 2)? == 43;
        let (wide, at) = if is_wide { (8, number(8, 8)?) } else { (4, number(4, 4)?) };
        Self { bytes, is_big_endian, wide, fields: &[] }.directory(at)
    }

    /// The directory of EXIF that the first directory names.
    pub(in crate::pixels) fn of_exif(bytes: &'a [u8]) -> Option<Self> {
        let first = Self::of(bytes)?;
        first.directory(first.number(first.find(EXIF)?)?)
    }

    /// The directory at a place of the same file.
    fn directory(&self, at: u64) -> Option<Self> {
        let head = if self.wide == 8 { 8 } else { 2 };
        let (count, fields) =
            self.bytes.get(usize::try_from(at).ok()?..)?.split_at_checked(head)?;
        let count = usize::try_from(self.number(count)?).ok()?;
        let length = count.checked_mul(4 + 2 * self.wide)?.min(fields.len());
        Some(Self { fields: &fields[..length], ..*self })
    }

    /// Checks what the fields of the layout claim.
    fn check(&self) -> Result<(), String> {
        for field in self.fields.chunks_exact(4 + 2 * self.wide) {
            let number = |bytes| self.number(bytes).unwrap_or(u64::MAX);
            let (tag, kind) = (number(&field[..2]), number(&field[2..4]));
            let Some(size) =
                size_of(kind).filter(|_| u16::try_from(tag).is_ok_and(|tag| LAYOUT.contains(&tag)))
            else {
                continue;
            };
            let (count, value) = field[4..].split_at(self.wide);
            let (count, at) = (number(count), number(value));
            let bytes = count.saturating_mul(size);
            let is_inside = bytes <= self.wide as u64
                || at.checked_add(bytes).is_some_and(|end| end <= self.bytes.len() as u64);
            if !is_inside || (count > MAX_VALUES && kind != TEXT) {
                return Err(format!(
                    "expected an image, found a TIFF whose field {tag} claims {count} values"
                ));
            }
        }
        Ok(())
    }

    /// The bytes of a field of bytes or of numbers of 16 or 32 bits.
    pub(in crate::pixels) fn find(&self, tag: u16) -> Option<&'a [u8]> {
        let mut fields = self.fields.chunks_exact(4 + 2 * self.wide);
        let field = fields.find(|field| self.number(&field[..2]) == Some(u64::from(tag)))?;
        let size = match self.number(&field[2..4])? {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            _ => return None,
        };
        let (count, value) = field[4..].split_at(self.wide);
        let length = usize::try_from(self.number(count)?).ok()?.checked_mul(size)?;
        if length <= self.wide {
            return value.get(..length);
        }
        self.bytes.get(usize::try_from(self.number(value)?).ok()?..)?.get(..length)
    }

    fn number(&self, bytes: &[u8]) -> Option<u64> {
        number(bytes, self.is_big_endian)
    }
}

/// Bytes of a value of a type; `None` for a type that no decoder knows.
fn size_of(kind: u64) -> Option<u64> {
    match kind {
        1 | TEXT | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}

fn number(bytes: &[u8], is_big_endian: bool) -> Option<u64> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    if is_big_endian {
        wide[..bytes.len()].reverse();
    }
    Some(u64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of a compression and a profile, in every way to write one.
    fn tiff(is_big_endian: bool, is_wide: bool, kind: u16, profile: &[u8]) -> Vec<u8> {
        let number = |value: u64, size: usize| {
            let bytes = value.to_le_bytes();
            let mut bytes = bytes[..size].to_vec();
            if is_big_endian {
                bytes.reverse();
            }
            bytes
        };
        let wide = if is_wide { 8 } else { 4 };
        let (head, first) = if is_wide { (8, 16) } else { (2, 8) };
        let end = first + head + 2 * (4 + 2 * wide);
        let mut bytes = if is_big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        bytes.extend(number(if is_wide { 43 } else { 42 }, 2));
        if is_wide {
            bytes.extend([number(8, 2), number(0, 2)].concat());
        }
        bytes.extend(number(first as u64, wide));
        bytes.extend(number(2, head));
        bytes.extend([number(259, 2), number(3, 2), number(1, wide), number(8, 2)].concat());
        bytes.resize(bytes.len() + wide - 2, 0);
        bytes.extend([number(34_675, 2), number(kind.into(), 2)].concat());
        bytes.extend(number(profile.len() as u64, wide));
        if profile.len() <= wide {
            bytes.extend([profile, &vec![0; wide - profile.len()]].concat());
        } else {
            bytes.extend(number(end as u64, wide));
            bytes.extend(profile);
        }
        bytes
    }

    #[test]
    fn a_profile_is_found_however_it_is_written() {
        for (is_big_endian, is_wide) in [(false, false), (true, false), (false, true), (true, true)]
        {
            for (kind, profile) in [(7, &b"a profile of some length"[..]), (1, b"abc")] {
                let bytes = tiff(is_big_endian, is_wide, kind, profile);
                let found = read(&bytes).expect("within the file");
                assert_eq!(found.profile.as_deref(), Some(profile));
                assert_eq!(found.pixels_per_byte, Some(PIXELS_PER_BYTE));
                for length in 0..bytes.len() - 1 {
                    let _ = read(&bytes[..length]); // does not panic
                }
            }
        }
        let other = read(&tiff(false, false, 5, b"abc")).expect("within the file");
        assert_eq!(other.profile, None, "of another type");
    }

    /// A directory of one field of the layout, of four bytes each value, behind which are so many
    /// bytes.
    fn strips(tag: u16, count: u32, behind: usize) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0\x01\0".to_vec();
        bytes.extend([&tag.to_le_bytes()[..], &[4, 0], &count.to_le_bytes()].concat());
        bytes.extend(22u32.to_le_bytes());
        bytes.resize(22 + behind, 0);
        bytes
    }

    #[test]
    fn a_field_holds_no_more_values_than_the_file() {
        let most = 1 << 18;
        for (tag, count, behind, is_right) in [
            (273, 0, 0, true),
            (273, 1, 0, true),
            (273, 100, 400, true),
            (273, 100, 399, false),
            (273, 4_194_304, 400, false),
            (273, u32::MAX, 400, false),
            (324, most, 4 * most as usize, true),
            (324, most + 1, 4 * most as usize + 4, false),
            (40_000, u32::MAX, 0, true), // which nobody reads
        ] {
            let found = read(&strips(tag, count, behind));
            assert_eq!(found.is_ok(), is_right, "{tag}, {count}, {behind}: {found:?}");
        }
    }
}
