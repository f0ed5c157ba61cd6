//! A job that was kept, as bytes and as a file: no bytes may make the reader panic, and what it
//! reads is written and read as the same again.

#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pocketmuse::{
    Manifest, internals,
    job::{self, State},
};
use pocketmuse_fuzz::{MANIFEST, scratch, within, write};
use pocketmuse_package::Digest;

/// The memory that a state of a few thousand bytes may take.
const MOST_BYTES: usize = 64 << 20;
/// Digits of a digest, behind a state's bytes.
const DIGEST: usize = 64;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch().join("job.json"));
static PACKAGE: LazyLock<Manifest> =
    LazyLock::new(|| Manifest::parse(MANIFEST).expect("a manifest"));

fuzz_target!(|bytes: &[u8]| {
    if draws_long(bytes) {
        return;
    }
    let sealed = sealed(bytes);
    write(&FILE, bytes);
    within(MOST_BYTES, || {
        let _ = State::from_bytes(bytes);
        let _ = job::load::<State>(&FILE);
        for state in [State::from_bytes(&sealed).ok(), serde_json::from_slice(bytes).ok()] {
            let Some(state) = state else { continue };
            let again = State::from_bytes(&state.to_bytes()).expect("what was written");
            assert_eq!(again, state);
            job::save(&state, &FILE).expect("written");
            // A file has no image: who keeps one has it beside the file.
            let without_image = State { image: None, ..state.clone() };
            assert_eq!(job::load::<State>(&FILE).expect("what was written"), without_image);
            let _ = internals::check_state(&state, &PACKAGE);
        }
    });
});

/// Whether a state claims so many random words of torch that drawing them again takes its time,
/// which is no fault.
fn draws_long(bytes: &[u8]) -> bool {
    let key = b"\"drawn\"";
    bytes.windows(key.len()).enumerate().any(|(at, window)| {
        let rest = bytes[at + key.len()..].iter();
        let digits = rest.skip_while(|byte| !byte.is_ascii_digit());
        window == key && digits.take_while(|byte| byte.is_ascii_digit()).count() > 8
    })
}

/// The bytes with the digest that they should have.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes[..bytes.len().saturating_sub(DIGEST)].to_vec();
    let digest = Digest::of(&sealed).to_string();
    sealed.extend(digest.as_bytes());
    sealed
}
