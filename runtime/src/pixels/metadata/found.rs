//! What was found beside the pixels, whatever the format.

use image::metadata::Orientation;

/// The most bytes of a colour profile. Those of printing presses have one or two million.
pub(in crate::pixels) const MAX_PROFILE_BYTES: usize = 16 << 20;

/// What was found beside the pixels.
#[derive(Debug, Default)]
pub(in crate::pixels) struct Metadata {
    /// Which way up, where the decoder would not find it.
    pub(in crate::pixels) orientation: Option<Orientation>,
    /// An ICC profile.
    pub(in crate::pixels) profile: Option<Vec<u8>>,
    /// PNG's `cICP`: primaries, transfer, matrix and range as in ITU-T H.273.
    pub(in crate::pixels) cicp: Option<[u8; 4]>,
    /// Width and height of the part that is decoded, if it may be larger than the whole.
    pub(in crate::pixels) part: Option<[u32; 2]>,
    /// How a JPEG's pixels end.
    pub(in crate::pixels) end: Option<End>,
    /// The most pixels that a byte of the file can hold, as its compression is.
    pub(in crate::pixels) pixels_per_byte: Option<u64>,
    /// Bytes that decoding a pixel takes besides its values.
    pub(in crate::pixels) scratch_per_pixel: u64,
    /// What people should know.
    pub(in crate::pixels) warnings: Vec<String>,
}

/// What is beside the pixels of a JPEG or WebP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pixels) struct Beside<'a> {
    /// The first EXIF block, without the name that JPEG puts before it.
    pub(in crate::pixels) exif: Option<&'a [u8]>,
    /// The first XMP packet.
    pub(in crate::pixels) xmp: Option<&'a [u8]>,
}

/// How an image's pixels end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pixels) enum End {
    /// With the marker that says so.
    Marked,
    /// With the file, in the only scan: all pixels may be there.
    WithFile,
    /// Too early: in another place, or another image begins.
    TooEarly,
}

/// The orientation that an EXIF block tells, with or without the name that JPEG puts before it.
pub(super) fn orientation(exif: &[u8]) -> Option<Orientation> {
    Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orientation_is_found_with_and_without_a_name() {
        let block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        assert_eq!(orientation(block), Some(Orientation::Rotate90));
        assert_eq!(orientation(&[b"Exif\0\0", &block[..]].concat()), Some(Orientation::Rotate90));
        for wrong in [&b""[..], b"Exif\0\0", b"II*\0", &block[..15]] {
            assert_eq!(orientation(wrong), None);
        }
    }
}
