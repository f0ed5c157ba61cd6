//! What a file says about its image besides the pixels, wherever in the file it stands: which way
//! up, in which colours, and whether it is whole. Decodes no pixel.

mod gif;
mod jpeg;
pub(super) mod png;
mod tiff;
mod webp;

use image::{ImageFormat, metadata::Orientation};

pub(super) use jpeg::End;

/// The most bytes of a colour profile. Those of printing presses have one or two million.
pub(super) const MAX_PROFILE_BYTES: usize = 16 << 20;

/// What was found beside the pixels.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// Which way up, where the decoder would not find it.
    pub(super) orientation: Option<Orientation>,
    /// An ICC profile.
    pub(super) profile: Option<Vec<u8>>,
    /// PNG's `cICP`: primaries, transfer, matrix and range as in ITU-T H.273.
    pub(super) cicp: Option<[u8; 4]>,
    /// Width and height of the part that is decoded, if it may be larger than the whole.
    pub(super) part: Option<[u32; 2]>,
    /// How a JPEG's pixels end.
    pub(super) end: Option<End>,
    /// The most pixels that a byte of the file can hold, as its compression is.
    pub(super) pixels_per_byte: Option<u64>,
    /// Bytes that decoding a pixel takes besides its values.
    pub(super) scratch_per_pixel: u64,
    /// What people should know.
    pub(super) warnings: Vec<String>,
}

impl Metadata {
    /// Looks through `bytes`. A PNG loses the chunks that decoding its pixels does not need, so
    /// that no decoder unpacks them; a WebP loses the mention of metadata that it does not have.
    ///
    /// # Errors
    ///
    /// A sentence, for a file that claims more bytes than it has.
    pub(super) fn take(format: ImageFormat, bytes: &mut Vec<u8>) -> Result<Self, String> {
        match format {
            ImageFormat::Png => Ok(png::take(bytes)),
            ImageFormat::Jpeg => Ok(jpeg::read(bytes)),
            ImageFormat::WebP => webp::check(bytes),
            ImageFormat::Gif => Ok(gif::read(bytes)),
            ImageFormat::Bmp => Ok(Self { pixels_per_byte: bmp(bytes), ..Self::default() }),
            // A bit of a bitmap that is not compressed.
            ImageFormat::Pnm => Ok(Self { pixels_per_byte: Some(8), ..Self::default() }),
            ImageFormat::Tiff => Ok(tiff::read(bytes)),
            _ => Ok(Self::default()),
        }
    }
}

/// Bits per pixel say it, unless runs of up to 255 pixels take two bytes.
fn bmp(bytes: &[u8]) -> Option<u64> {
    let number = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let bits = |at| number(at).map(|bits| 8 / u64::from(bits.clamp(1, 8)));
    match (number(14)?, number(30)) {
        (12, _) => bits(24),
        (_, Some(1 | 2)) => Some(128),
        _ => bits(28),
    }
}

/// The orientation that an EXIF block tells, with or without the name that JPEG puts before it.
fn orientation(exif: &[u8]) -> Option<Orientation> {
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

    #[test]
    fn a_bitmap_says_how_many_pixels_a_byte_holds() {
        let header = |bits: u16, compression: u16| {
            let mut bytes = vec![0; 54];
            bytes[14] = 40;
            bytes[28..30].copy_from_slice(&bits.to_le_bytes());
            bytes[30..32].copy_from_slice(&compression.to_le_bytes());
            bytes
        };
        for (bits, compression, expected) in
            [(1, 0, 8), (4, 0, 2), (8, 0, 1), (24, 0, 1), (32, 3, 1), (8, 1, 128), (4, 2, 128)]
        {
            assert_eq!(bmp(&header(bits, compression)), Some(expected), "{bits}, {compression}");
        }
        assert_eq!(bmp(b"BM"), None);
    }
}
