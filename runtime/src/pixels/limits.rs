//! What may come in: regular files of a bounded size, images whose claims their own bytes can hold,
//! and only so much memory. Decodes nothing.

use std::{fs::File, io::Read, path::Path};

use pocketmuse_package::{Amounts, Error, ErrorKind, Result};

use crate::memory::budget::available;

/// The most bytes of an image file.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// The most bytes of an image's pixels as its file holds them, each counted as four bytes at
/// least, which it may become: 67 million.
pub const MAX_PIXEL_BYTES: u64 = 256 << 20;
/// So many pixels are believed of any file: they take no memory to speak of.
const SMALL_PIXELS: u64 = 1 << 20;

/// Reads a whole file, if it is one and not too large for `most_bytes` of memory.
pub(super) fn read_file(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, error);
    let check = |metadata: std::fs::Metadata| {
        let is_file = metadata.is_file();
        if is_file && metadata.len() <= MAX_FILE_BYTES {
            return Ok(metadata.len());
        }
        let found =
            if is_file { format!("{} bytes", metadata.len()) } else { "no file".to_owned() };
        let detail =
            format!("expected an image file of at most {MAX_FILE_BYTES} bytes, found {found}");
        Err(Error::new(ErrorKind::BadInput, path.display().to_string(), detail))
    };
    check(path.metadata().map_err(io)?)?; // opening a pipe would wait for its other end
    let file = File::open(path).map_err(io)?;
    let length = check(file.metadata().map_err(io)?)?;
    within(length, most_bytes, "the image's file").map_err(|error| error.within(path.display()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// An image as its file's head describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Width and height.
    pub(super) size: [u32; 2],
    /// Width and height of what is decoded, if that is another size.
    pub(super) part: Option<[u32; 2]>,
    /// Bytes of the decoded pixels.
    pub(super) decoded_bytes: u64,
    pub(super) file_bytes: u64,
    pub(super) pixels_per_byte: Option<u64>,
    pub(super) scratch_per_pixel: u64,
}

impl Claim {
    /// Checks it before anything is reserved, as a sentence says what is wrong with it.
    ///
    /// # Errors
    ///
    /// `BadInput` for what is too large for any machine or for the file; `NotEnoughMemory` for
    /// what does not fit into `most_bytes`, or the system does not give.
    pub(super) fn check(&self, most_bytes: u64) -> Result<()> {
        let [width, height] = self.size;
        let bad = |detail| Err(Error::new(ErrorKind::BadInput, "", detail));
        let plain = self.pixels().saturating_mul(4);
        if self.decoded_bytes.max(plain) > MAX_PIXEL_BYTES || self.decoded_bytes == 0 {
            let most = MAX_PIXEL_BYTES / 1_000_000;
            return bad(format!(
                "expected pixels of at most {most} MB, found {width} x {height} pixels"
            ));
        }
        let held = self.pixels_per_byte.map(|ratio| ratio.saturating_mul(self.file_bytes));
        if self.pixels() > SMALL_PIXELS && held.is_some_and(|held| self.pixels() > held) {
            return bad(format!(
                "expected an image, found {} bytes that claim to be {width} x {height} pixels",
                self.file_bytes
            ));
        }
        within(self.memory_bytes(), most_bytes, &format!("an image of {width} x {height} pixels"))
    }

    fn pixels(&self) -> u64 {
        let count = |[width, height]: [u32; 2]| u64::from(width) * u64::from(height);
        count(self.size).max(self.part.map_or(0, count))
    }

    /// The most memory that reading it holds at once: the file and its copy in a decoder, the
    /// pixels with what decoding them needs, and their next form beside them.
    fn memory_bytes(&self) -> u64 {
        let pixels = self.pixels();
        let decoding = self.decoded_bytes.saturating_add(pixels * self.scratch_per_pixel);
        let turning = self.decoded_bytes.saturating_mul(2);
        let plain = self.decoded_bytes.saturating_add(4 * pixels).max(8 * pixels);
        (2 * self.file_bytes).saturating_add(decoding.max(turning).max(plain))
    }

    /// The memory that decoders may reserve.
    pub(super) fn decoder_bytes(&self) -> u64 {
        self.memory_bytes().saturating_add(1 << 20)
    }
}

/// Checks that `needed` bytes are within `most`, and that the system has them.
fn within(needed: u64, most: u64, what: &str) -> Result<()> {
    let [needed_mb, most_mb] = [needed.div_ceil(1_000_000), most / 1_000_000];
    let wrong = |found: String, available| {
        let detail = format!("expected {needed_mb}MB for {what}, found {found}");
        Err(Error::new(ErrorKind::NotEnoughMemory, "memory", detail)
            .with_amounts(Amounts { needed, available }))
    };
    if needed > most {
        return wrong(format!("{most_mb}MB of the budget"), most);
    }
    let reserved = usize::try_from(needed)
        .is_ok_and(|needed| Vec::<u8>::new().try_reserve_exact(needed).is_ok());
    if reserved { Ok(()) } else { wrong("less".to_owned(), available().unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(size: [u32; 2], file_bytes: u64, pixels_per_byte: Option<u64>) -> Claim {
        let decoded_bytes = u64::from(size[0]) * u64::from(size[1]) * 3;
        Claim { size, part: None, decoded_bytes, file_bytes, pixels_per_byte, scratch_per_pixel: 0 }
    }

    #[test]
    fn a_claim_is_checked_against_the_file_and_the_budget() {
        use ErrorKind::{BadInput, NotEnoughMemory};
        let small = claim([1000, 1000], 10, Some(1));
        let cases = [
            (small, u64::MAX, None),
            (small, 1 << 20, Some(NotEnoughMemory)),
            (claim([4000, 4000], 10, Some(1000)), u64::MAX, Some(BadInput)),
            (claim([4000, 4000], 16_000, Some(1000)), u64::MAX, None),
            (claim([4000, 4000], 10, None), u64::MAX, None), // its compression knows no bound
            (claim([0, 10], 10, None), u64::MAX, Some(BadInput)),
            (claim([10_000, 10_000], 1 << 30, None), u64::MAX, Some(BadInput)),
            (Claim { part: Some([9000, 9000]), ..small }, u64::MAX, Some(BadInput)),
        ];
        for (claim, most, expected) in cases {
            let found = claim.check(most).map_err(|error| error.kind()).err();
            assert_eq!(found, expected, "{claim:?}");
        }
    }

    proptest! {
        #[test]
        fn no_claim_is_too_large_to_be_checked(
            size: [u32; 2],
            part: Option<[u32; 2]>,
            numbers: [u64; 4],
        ) {
            let [decoded_bytes, file_bytes, ratio, most] = numbers;
            let claim = Claim {
                size,
                part,
                decoded_bytes,
                file_bytes: file_bytes % MAX_FILE_BYTES,
                pixels_per_byte: Some(ratio),
                scratch_per_pixel: 8,
            };
            if claim.check(most).is_ok() {
                prop_assert!(claim.pixels() <= MAX_PIXEL_BYTES / 4 && claim.memory_bytes() <= most);
            }
        }
    }
}
