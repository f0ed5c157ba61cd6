//! A package's `tokenizer.json`, and a prompt: no text may make either panic or take memory without
//! end, and a prompt becomes as many ids as the model takes.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pocketmuse::{Manifest, internals::Tokenizer};
use pocketmuse_fuzz::{MANIFEST, allow_panics_of_libraries, parts, within};
use pocketmuse_package as package;

/// The memory that a tokenizer of some kilobytes may take, its patterns compiled.
const MOST_BYTES: usize = 256 << 20;
/// Enough of a prompt for any of its paths.
const MOST_PROMPT: usize = 4096;

static ENTRY: LazyLock<package::Tokenizer> = LazyLock::new(|| {
    let manifest = Manifest::parse(MANIFEST).expect("a manifest");
    package::Tokenizer { bos: 0, eos: 1, pad: 1, ..manifest.tokenizer }
});

fuzz_target!(init: allow_panics_of_libraries(), |bytes: &[u8]| {
    let [json, prompt] = parts(bytes);
    let prompt = String::from_utf8_lossy(&prompt[..prompt.len().min(MOST_PROMPT)]);
    within(MOST_BYTES, || {
        let Ok(tokenizer) = Tokenizer::parse(json, &ENTRY) else { return };
        for prompt in [&prompt, "a red house, ein Haus\u{301} 漢字 \u{1f680}"] {
            if let Ok(encoded) = tokenizer.encode(prompt) {
                assert_eq!(encoded.ids.len(), ENTRY.max_tokens as usize);
                assert!(encoded.truncated.is_none_or(|end| prompt.ends_with(&end)));
            }
            let _ = tokenizer.words(prompt);
        }
    });
});
