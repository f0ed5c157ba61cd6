//! A prompt with weights: whatever is written, the text is no longer than the prompt and weights
//! are within their range.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketmuse::internals::Weighted;
use pocketmuse_fuzz::within;

/// The memory that the longest prompt may take.
const MOST_BYTES: usize = 16 << 20;

fuzz_target!(|prompt: &str| {
    within(MOST_BYTES, || {
        if let Ok(read) = Weighted::read(prompt) {
            assert!(read.text.len() <= prompt.len());
            assert!((0..=read.text.len()).all(|at| (0.0..=10.0).contains(&read.at(at))));
            if !prompt.contains(['(', '[', '\\']) {
                assert_eq!(read.text, prompt);
            }
        }
    });
});
