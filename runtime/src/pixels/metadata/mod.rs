//! What a file says about its image besides the pixels, wherever in the file it stands: which way
//! up, in which colours, and whether it is whole. Decodes no pixel.

mod found;
mod gif;
pub(super) mod jpeg;
pub(super) mod png;
mod tiff;
mod webp;

use image::ImageFormat;

pub(super) use found::{Beside, End, MAX_PROFILE_BYTES, Metadata};
pub(super) use tiff::Fields;

/// Looks through `bytes`. A PNG loses the chunks that decoding its pixels does not need, so
/// that no decoder unpacks them; a WebP loses the mention of metadata that it does not have.
///
/// # Errors
///
/// A sentence, for a file that claims more bytes than it has.
pub(super) fn take(format: ImageFormat, bytes: &mut Vec<u8>) -> Result<Metadata, String> {
    match format {
        ImageFormat::Png => Ok(png::take(bytes)),
        ImageFormat::Jpeg => Ok(jpeg::read(bytes)),
        ImageFormat::WebP => webp::check(bytes),
        ImageFormat::Gif => Ok(gif::read(bytes)),
        ImageFormat::Bmp => Ok(Metadata { pixels_per_byte: bmp(bytes), ..Metadata::default() }),
        // A bit of a bitmap that is not compressed.
        ImageFormat::Pnm => Ok(Metadata { pixels_per_byte: Some(8), ..Metadata::default() }),
        ImageFormat::Tiff => tiff::read(bytes),
        _ => Ok(Metadata::default()),
    }
}

/// What is beside the pixels of a JPEG or WebP; `None` for another file.
///
/// # Errors
///
/// A sentence, for a WebP that claims more bytes than it has.
pub(super) fn beside(bytes: &[u8]) -> Result<Option<Beside<'_>>, String> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => Ok(Some(jpeg::beside(bytes))),
        Ok(ImageFormat::WebP) => webp::beside(bytes).map(Some),
        _ => Ok(None),
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

#[cfg(test)]
mod tests {
    use super::*;

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
