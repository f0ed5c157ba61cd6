//! Graphs of a package and as ONNX Runtime saves them: no bytes may make the reader of constants
//! panic, and what it makes is a graph again.

#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use pocketmuse::internals::{Model, moved, with_weights_of};
use pocketmuse_fuzz::{parts, scratch, within, write};

/// The memory that a merge may take beside that of its files.
const MOST_BYTES: usize = 16 << 20;

static WEIGHTS: LazyLock<[PathBuf; 2]> =
    LazyLock::new(|| ["package.data", "saved.data"].map(|name| scratch().join(name)));

fuzz_target!(|bytes: &[u8]| {
    let [package, package_weights, saved, saved_weights] = parts(bytes);
    write(&WEIGHTS[0], package_weights);
    write(&WEIGHTS[1], saved_weights);
    within(MOST_BYTES, || {
        let model = |graph: &[u8], weights: &PathBuf| Model {
            graph: graph.to_vec(),
            weights: Some(weights.clone()),
        };
        if let Some(once) = moved(package, "elsewhere.data") {
            let twice = moved(&once, "elsewhere.data").expect("a graph as before");
            assert_eq!(once, twice);
        }
        let (package, saved) = (model(package, &WEIGHTS[0]), model(saved, &WEIGHTS[1]));
        let merged = with_weights_of(&package, &saved, &mut |_| Ok(()));
        if let Ok(Some(merged)) = merged {
            assert!(moved(&merged, "elsewhere.data").is_some(), "a graph");
        }
    });
});
