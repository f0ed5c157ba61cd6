//! A graph and the name of a file for its constants: no bytes may make the reader of constants panic,
//! and what it makes is a graph again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketmuse::internals::moved;
use pocketmuse_fuzz::{parts, within};

/// The memory that it may take: for each constant the name is there once more.
const MOST_BYTES: usize = 16 << 20;

/// The most bytes of a file's name.
const MOST_NAME: usize = 255;

fuzz_target!(|bytes: &[u8]| {
    let [graph, name] = parts(bytes);
    let name = String::from_utf8_lossy(&name[..name.len().min(MOST_NAME)]);
    within(MOST_BYTES, || {
        if let Some(once) = moved(graph, &name) {
            assert_eq!(moved(&once, &name).as_deref(), Some(&*once), "as before");
        }
    });
});
