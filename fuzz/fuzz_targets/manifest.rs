//! A package's manifest: no text may make the reader or the plan panic, and a manifest is written
//! and read as the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pocketmuse::{Budget, Manifest, Options, Plan, Request};
use pocketmuse_fuzz::within;

/// The memory that a manifest of some kilobytes may take.
const MOST_BYTES: usize = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    within(MOST_BYTES, || {
        let Ok(manifest) = Manifest::parse(bytes) else { return };
        let again = Manifest::parse(manifest.to_json().as_bytes()).expect("what was written");
        assert_eq!(again, manifest);
        assert_eq!(again.digest(), manifest.digest());
        let side = |tokens: u32| Some(tokens * manifest.model.pixels_per_token);
        let requests = [
            Request::default(),
            Request { width: side(2), height: side(64), ..Request::default() },
            Request { num_images_per_prompt: 64, variation: Some(0.5), ..Request::default() },
        ];
        for (request, staged) in requests.iter().flat_map(|one| [(one, false), (one, true)]) {
            let options = Options {
                memory: Budget::Bytes(1 << 30),
                threads: Some(2),
                staged,
                ..Options::default()
            };
            if let Ok(plan) = Plan::new(&manifest, request, &options) {
                assert!(plan.peak_rss_bytes() >= plan.peak_anonymous_bytes(), "{plan}");
                let _ = plan.to_string();
            }
        }
    });
});
