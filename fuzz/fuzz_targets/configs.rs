//! Config files of a checkpoint: no text may make the exporter panic or take memory without end,
//! and what it accepts becomes graphs.

#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pocketmuse_export::{checkpoint::Checkpoint, internals};
use pocketmuse_fuzz::{checkpoint, copy, parts, scratch, within, write};

/// The memory that graphs of a checkpoint may take that has little more than a megabyte.
const MOST_BYTES: usize = 256 << 20;

const FILES: [&str; 5] = [
    "text_encoder/config.json",
    "transformer/config.json",
    "vqvae/config.json",
    "scheduler/scheduler_config.json",
    "model_index.json",
];

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = scratch();
    copy(&checkpoint(), &root);
    root
});

fuzz_target!(|bytes: &[u8]| {
    for (file, text) in FILES.iter().zip(parts::<5>(bytes)) {
        write(&ROOT.join(file), text);
    }
    let nodes = within(MOST_BYTES, || {
        Checkpoint::open(&ROOT).and_then(|checkpoint| internals::graphs(&checkpoint))
    });
    if let Ok(nodes) = nodes {
        assert!(nodes > 0);
    }
});
