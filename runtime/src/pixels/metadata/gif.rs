//! The size of a GIF's first frame, which may be larger than its screen. Layout: "Graphics
//! Interchange Format, Version 89a", sections 18 to 26.

use super::found::Metadata;

/// A code of at least one and a half bytes stands for at most 4096 pixels; rounded up.
const PIXELS_PER_BYTE: u64 = 4096;
const SCREEN_BYTES: usize = 13;
const EXTENSION: u8 = 0x21;
const FRAME: u8 = 0x2c;

pub(super) fn read(bytes: &[u8]) -> Metadata {
    Metadata {
        part: frame(bytes),
        pixels_per_byte: Some(PIXELS_PER_BYTE),
        scratch_per_pixel: 4,
        ..Metadata::default()
    }
}

fn frame(bytes: &[u8]) -> Option<[u32; 2]> {
    let (screen, mut rest) = bytes.split_at_checked(SCREEN_BYTES)?;
    let flags = screen[10];
    if flags & 0x80 != 0 {
        rest = rest.get(3 << ((flags & 7) + 1)..)?; // the colours
    }
    loop {
        let (kind, after) = rest.split_first()?;
        match *kind {
            EXTENSION => {
                rest = after.get(1..)?;
                loop {
                    let (length, after) = rest.split_first()?;
                    rest = after.get(usize::from(*length)..)?;
                    if *length == 0 {
                        break;
                    }
                }
            }
            FRAME => {
                let side = |at: usize| Some(u16::from_le_bytes(*after.get(at..)?.first_chunk()?));
                return Some([side(4)?, side(6)?].map(u32::from));
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_found_behind_whatever_comes_before() {
        let screen = |flags: u8| [b"GIF89a\x02\0\x03\0".to_vec(), vec![flags, 0, 0]].concat();
        let frame_bytes = b"\x2c\0\0\0\0\x10\x27\x20\x4e\0";
        let extension = b"\x21\xf9\x04\0\0\0\0\0";
        for parts in [
            vec![screen(0), frame_bytes.to_vec()],
            vec![screen(0x80), vec![0; 6], frame_bytes.to_vec()],
            vec![screen(0x87), vec![0; 768], extension.to_vec(), frame_bytes.to_vec()],
            vec![screen(0), extension.to_vec(), extension.to_vec(), frame_bytes.to_vec()],
        ] {
            let whole = parts.concat();
            assert_eq!(frame(&whole), Some([10_000, 20_000]));
            for length in 0..whole.len() - 2 {
                assert_eq!(frame(&whole[..length]), None);
            }
        }
    }
}
