//! A job's state as bytes, for an app that keeps it where it likes. Knows no file.
//!
//! ```text
//! "PMSTATE" and the version, 8 bytes
//! JSON of the state without its tokens: its length, 4 bytes, then that many bytes
//! tokens: how many, 4 bytes; bytes of each, 2 or 4, in 1 byte; each token, all bits set if masked
//! image: 1 byte of flags, then what they say is there (see `state_image`)
//! SHA-256 of all of it, 64 hexadecimal digits
//! ```
//!
//! Numbers are little-endian.

use std::sync::Arc;

use pocketmuse_package::{Digest, Result};

use super::{
    rest::{Rest, bad, cut},
    state::State,
    state_image,
};

/// What the bytes begin with: the last one is the version that this build writes, and the only one
/// it reads.
const MAGIC: [u8; 8] = *b"PMSTATE\x02";

/// The most bytes of a state: those of the largest image with its mask, and some for the rest.
const MAX_BYTES: usize = 96 << 20;

/// Digits of a digest.
const DIGEST: usize = 64;

impl State {
    /// The state as bytes, for [`State::from_bytes`]: a few thousand, and of an edit 3 for each
    /// pixel besides, or 4 with a mask. They hold the prompt and the image.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = Self { tokens: Vec::new(), image: None, ..self.clone() };
        let head =
            serde_json::to_vec(&head).expect("plain data with string keys always serializes");
        let is_wide = self.tokens.iter().flatten().any(|token| *token >= u32::from(u16::MAX));
        let mut bytes = MAGIC.to_vec();
        bytes.extend((head.len() as u32).to_le_bytes());
        bytes.extend(head);
        bytes.extend((self.tokens.len() as u32).to_le_bytes());
        bytes.push(if is_wide { 4 } else { 2 });
        for token in &self.tokens {
            let token = token.unwrap_or(u32::MAX).to_le_bytes();
            bytes.extend(if is_wide { &token[..] } else { &token[..2] });
        }
        state_image::write(self.image.as_deref(), &mut bytes);
        let digest = Digest::of(&bytes).to_string();
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// The state that [`State::to_bytes`] made bytes of.
    ///
    /// # Errors
    ///
    /// `BadInput` if it did not, if it was another version, or if the bytes were changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            let found = bytes.len();
            return Err(bad(format!("expected at most {MAX_BYTES} bytes, found {found}")));
        }
        let Some((magic, _)) =
            bytes.split_first_chunk::<8>().filter(|(magic, _)| magic[..7] == MAGIC[..7])
        else {
            return Err(bad("expected the bytes of a job, found others"));
        };
        if *magic != MAGIC {
            let (known, found) = (MAGIC[7], magic[7]);
            return Err(bad(format!("expected a job of version {known}, found version {found}")));
        }
        let Some((content, digest)) = bytes.split_last_chunk::<DIGEST>() else {
            return Err(cut());
        };
        if Digest::of(content).to_string().as_bytes() != digest {
            return Err(bad("expected the bytes as they were made, found them changed or cut"));
        }
        let mut rest = Rest::of(content.get(MAGIC.len()..).ok_or_else(cut)?);
        let head_bytes = rest.length()?;
        let head = rest.take(head_bytes)?;
        let state: Self = serde_json::from_slice(head)
            .map_err(|error| bad(format!("expected a job, found: {error}")))?;
        let count = rest.length()?;
        let width = usize::from(rest.byte()?);
        if !matches!(width, 2 | 4) || !state.tokens.is_empty() {
            return Err(bad("expected tokens of 2 or 4 bytes, found others"));
        }
        let tokens = rest.take(count.checked_mul(width).ok_or_else(cut)?)?;
        let masked = u32::MAX >> (32 - 8 * width);
        let token = |bytes: &[u8]| {
            let mut word = [0; 4];
            word[..width].copy_from_slice(bytes);
            Some(u32::from_le_bytes(word)).filter(|token| *token != masked)
        };
        let tokens = tokens.chunks_exact(width).map(token).collect();
        let image = state_image::read(&mut rest)?.map(Arc::new);
        match rest.len() {
            0 => Ok(Self { tokens, image, ..state }),
            more => Err(bad(format!("expected the end, found {more} bytes more"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::{ErrorKind, Flavour, Stage};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::{
        request::{Provider, Request, RngKind},
        sampler::rng::Rng,
    };

    fn state(tokens: Vec<Option<u32>>) -> State {
        State {
            package: Digest::of(b"package"),
            flavour: Flavour::Int8,
            providers: [(Stage::Decoder, Provider::Qnn)].into(),
            request: Request { prompt: "ein \"Turm\" \u{1F680}".to_owned(), ..Request::default() },
            source: Some(Digest::of(b"image")),
            next_step: 3,
            tokens,
            rng: Rng::new(RngKind::Own, 9),
            video: None,
            image: None,
        }
    }

    /// These bytes with the digest that they should have.
    fn sealed(content: &[u8]) -> Vec<u8> {
        [content, Digest::of(content).to_string().as_bytes()].concat()
    }

    #[test]
    fn comes_back_as_it_was() {
        let edge = u32::from(u16::MAX);
        for tokens in [
            vec![],
            vec![None, Some(0), Some(edge - 1)],
            vec![None, Some(edge)],
            vec![Some(u32::MAX - 1), None],
            vec![Some(8191); 1024],
        ] {
            for kind in [RngKind::Own, RngKind::Torch] {
                let state = State { rng: Rng::new(kind, 5), ..state(tokens.clone()) };
                let bytes = state.to_bytes();
                assert_eq!(State::from_bytes(&bytes).expect("a job"), state);
                assert!(bytes.len() < 16 << 10, "{}", bytes.len());
            }
        }
    }

    #[test]
    fn other_bytes_are_refused_with_a_reason() {
        let bytes = state(vec![Some(3), None]).to_bytes();
        let content = &bytes[..bytes.len() - DIGEST];
        let end = content.len();
        let with = |at: usize, byte: u8| {
            let mut changed = content.to_vec();
            changed[at] = byte;
            sealed(&changed)
        };
        let cases = [
            (vec![], "expected the bytes of a job, found others"),
            (b"PNG".to_vec(), "expected the bytes of a job, found others"),
            (with(7, 3), "expected a job of version 2, found version 3"),
            (bytes[..40].to_vec(), "expected more bytes, found the end"),
            (bytes[..bytes.len() - 1].to_vec(), "found them changed or cut"),
            (sealed(&content[..8]), "expected more bytes, found the end"),
            (sealed(&content[..end - 1]), "expected more bytes, found the end"),
            (sealed(&[content, &[0]].concat()), "expected the end, found 1 bytes more"),
            (with(11, 255), "expected more bytes, found the end"), // the head's length
            (with(12, b'['), "expected a job, found: "),
            (with(end - 7, 255), "expected more bytes, found the end"), // how many tokens
            (with(end - 6, 3), "expected tokens of 2 or 4 bytes, found others"),
            (with(end - 1, 1), "expected more bytes, found the end"), // an image
        ];
        for (bytes, expected) in cases {
            let error = State::from_bytes(&bytes).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_changed_byte_is_noticed(at: proptest::sample::Index, change in 1u8..) {
            let mut bytes = state(vec![Some(3), None]).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(State::from_bytes(&bytes).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at: proptest::sample::Index,
        ) {
            prop_assert!(State::from_bytes(&sealed(&[&MAGIC, bytes.as_slice()].concat())).is_err());
            let whole = state(vec![Some(3), None]).to_bytes();
            let mut content = whole[..whole.len() - DIGEST].to_vec();
            let at = at.index(content.len());
            content.truncate(at);
            content.extend(bytes);
            if let Ok(found) = State::from_bytes(&sealed(&content)) {
                prop_assert_eq!(State::from_bytes(&found.to_bytes()).expect("a job"), found);
            }
        }
    }
}
