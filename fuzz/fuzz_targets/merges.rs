//! The tokenizer of a checkpoint, from `vocab.json` and `merges.txt` or from `tokenizer.json`, and
//! tokens added to it: no texts may make the exporter panic, and what it accepts is JSON.

#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pocketmuse_export::{checkpoint::Checkpoint, internals};
use pocketmuse_fuzz::{allow_panics_of_libraries, checkpoint, copy, parts, scratch, within, write};

/// The memory that tokenizers of some kilobytes may take.
const MOST_BYTES: usize = 64 << 20;

const FILES: [&str; 6] = [
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.json",
];

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = scratch();
    copy(&checkpoint(), &root);
    root
});

fuzz_target!(init: allow_panics_of_libraries(), |bytes: &[u8]| {
    for (file, text) in FILES.iter().zip(parts::<6>(bytes)) {
        let file = ROOT.join("tokenizer").join(file);
        if text.is_empty() {
            let _ = fs::remove_file(file); // which may not be there
        } else {
            write(&file, text);
        }
    }
    within(MOST_BYTES, || {
        let read = Checkpoint::open(&ROOT).and_then(|open| internals::tokenizer(&open));
        if let Ok(json) = read {
            assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        }
    });
});
