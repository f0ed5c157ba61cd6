//! Bytes of an image file from elsewhere: read as an image to edit, as a mask, and as a PNG with a
//! request. No bytes may make any of them panic, or take more memory than was allowed.

#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pocketmuse::{Request, pixels};
use pocketmuse_fuzz::{allow_panics_of_libraries, scratch, within, write};

/// The memory that reading may take, and what decoders take beside it.
const MOST_BYTES: u64 = 64 << 20;
const BESIDE: usize = 32 << 20;
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch().join("image"));

fuzz_target!(init: allow_panics_of_libraries(), |bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    mend_checksums(&mut bytes);
    if bytes.len() % 4 == 0 {
        write(&FILE, &bytes);
    }
    within(MOST_BYTES as usize + BESIDE, || {
        if let Ok(Some(text)) = pixels::note_in(&bytes, pixels::KEYWORD) {
            let _ = serde_json::from_str::<Request>(&text);
        }
        if bytes.len() % 4 == 0 {
            if let Ok(mask) = pixels::read_mask_within(&FILE, MOST_BYTES) {
                assert!(mask.image.width() > 0 && mask.image.height() > 0);
            }
            return;
        }
        if let Ok(read) = pixels::from_bytes(bytes, MOST_BYTES) {
            let (width, height) = read.image.dimensions();
            assert!(width > 0 && height > 0);
            assert!(read.opacity.is_none_or(|opacity| opacity.dimensions() == (width, height)));
        }
    });
});

/// Gives each chunk of a PNG its right checksum, so that changes go deeper than it.
fn mend_checksums(bytes: &mut [u8]) {
    if !bytes.starts_with(SIGNATURE) {
        return;
    }
    let mut rest = &mut bytes[SIGNATURE.len()..];
    while let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) {
        let Some(end) = length.checked_add(8).filter(|end| end + 4 <= rest.len()) else { return };
        let mut crc = flate2::Crc::new();
        crc.update(&rest[4..end]);
        rest[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        rest = &mut rest[end + 4..];
    }
}
