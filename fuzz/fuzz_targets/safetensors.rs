//! A file of tensors: no bytes may make the reader panic or believe a claim of more than is there.

#![no_main]

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use libfuzzer_sys::fuzz_target;
use pocketmuse_export::checkpoint::Checkpoint;
use pocketmuse_fuzz::{scratch, within, write};

/// The memory that a header may take beside the file, which is some kilobytes.
const MOST_BYTES: usize = 64 << 20;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = scratch();
    for folder in ["text_encoder", "tokenizer", "transformer", "vqvae"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder for files");
    }
    root
});

fuzz_target!(|bytes: &[u8]| {
    let bytes = with_length(bytes);
    write(&ROOT.join("text_encoder/model.safetensors"), &bytes);
    within(MOST_BYTES, || {
        let checkpoint = Checkpoint::open(&ROOT).expect("folders");
        let Ok(network) = checkpoint.network("text_encoder") else { return };
        let network = Arc::new(network);
        let weights = network.weights();
        for (name, info) in network.tensors() {
            assert!(info.bytes <= bytes.len() as u64, "{name}");
            if let Ok(weight) = weights.get(name, &info.shape)
                && let Ok(values) = weight.values()
            {
                assert_eq!(values.len(), info.shape.iter().product::<usize>(), "{name}");
                assert!(values.iter().all(|value| value.is_finite()), "{name}");
            }
        }
        let _ = network.unused();
    });
});

/// Lets the length at the begin be that of the JSON that ends with the last brace, so that changes
/// go deeper; but not where it is a large number of bytes.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() > 8 && bytes[7] != 0xff {
        let end = bytes[8..].iter().rposition(|byte| *byte == b'}').map_or(0, |at| at + 1);
        bytes[..8].copy_from_slice(&(end as u64).to_le_bytes());
    }
    bytes
}
