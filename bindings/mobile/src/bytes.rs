//! Bytes on their way across the border, a whole block at once: `uniffi` moves a `Vec<u8>` byte by
//! byte, which takes longer than to make the image that it holds. In Kotlin and Swift nothing
//! differs: `ByteArray`, `Data`.

#![expect(unsafe_code, reason = "what crosses the border is declared by an unsafe trait")]

use std::ops::Deref;

use uniffi::{
    FfiConverter, Lower, MetadataBuffer, RustBuffer, TypeId,
    deps::{anyhow, bytes::Buf},
};

use crate::UniFfiTag;

/// Room for the fields of a record that come after its bytes, so that they move no block again.
const FOLLOWING: usize = 64;

/// Bytes that cross the border.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

// SAFETY: what is written and read is what `uniffi` has for a `Vec<u8>`, as which it is declared:
// the length, four bytes, then the bytes. The tests of both languages send images both ways.
unsafe impl FfiConverter<UniFfiTag> for Bytes {
    type FfiType = RustBuffer;

    const TYPE_ID_META: MetadataBuffer = <Vec<u8> as TypeId<UniFfiTag>>::TYPE_ID_META;

    fn lower(bytes: Self) -> RustBuffer {
        <Self as Lower<UniFfiTag>>::lower_into_rust_buffer(bytes)
    }

    fn try_lift(buffer: RustBuffer) -> anyhow::Result<Self> {
        let all = buffer.destroy_into_vec();
        let mut left = all.as_slice();
        let bytes = Self::try_read(&mut left)?;
        anyhow::ensure!(left.is_empty(), "{} bytes are left", left.len());
        Ok(bytes)
    }

    fn write(bytes: Self, buffer: &mut Vec<u8>) {
        let length = i32::try_from(bytes.len()).expect("an array of Java is below 2^31 bytes");
        buffer.reserve(size_of::<i32>() + bytes.len() + FOLLOWING);
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(&bytes);
    }

    fn try_read(buffer: &mut &[u8]) -> anyhow::Result<Self> {
        let length = usize::try_from(buffer.try_get_i32()?)?;
        let (bytes, rest) = buffer
            .split_at_checked(length)
            .ok_or_else(|| anyhow::anyhow!("expected {length} bytes, found {}", buffer.len()))?;
        *buffer = rest;
        Ok(Self(bytes.to_vec()))
    }
}

uniffi::derive_ffi_traits!(local Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_as_a_vec_does() {
        for bytes in [vec![], vec![7], (0..=255).collect::<Vec<u8>>()] {
            let mut expected = Vec::new();
            <Vec<u8> as Lower<UniFfiTag>>::write(bytes.clone(), &mut expected);
            let mut found = Vec::new();
            <Bytes as Lower<UniFfiTag>>::write(Bytes(bytes.clone()), &mut found);
            assert_eq!(found, expected);
            let mut left = &found[..];
            let read = <Bytes as FfiConverter<UniFfiTag>>::try_read(&mut left);
            assert_eq!(read.expect("whole").0, bytes);
            assert!(left.is_empty());
        }
    }

    #[test]
    fn fewer_bytes_than_said_are_an_error() {
        for bytes in [&[0, 0][..], &[0, 0, 0, 2, 9], &[255, 255, 255, 255, 1]] {
            let read = <Bytes as FfiConverter<UniFfiTag>>::try_read(&mut &bytes[..]);
            assert!(read.is_err(), "{bytes:?}");
        }
    }
}
