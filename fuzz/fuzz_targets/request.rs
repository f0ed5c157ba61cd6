//! A request as an image or a job holds it: no text may make the reader or the checks panic, and
//! what it reads is written and read as the same again.

#![no_main]

use std::sync::LazyLock;

use image_of::image;
use libfuzzer_sys::fuzz_target;
use pocketmuse::{Budget, Manifest, Options, Plan, Request, Source, Video};
use pocketmuse_fuzz::{MANIFEST, parts, within};

/// The memory that a request and a small image may take.
const MOST_BYTES: usize = 512 << 20;

static PACKAGE: LazyLock<Manifest> =
    LazyLock::new(|| Manifest::parse(MANIFEST).expect("a manifest"));

mod image_of {
    use pocketmuse::pixels;

    /// A small image to edit.
    pub(crate) fn image() -> pixels::Image {
        let ppm = [&b"P6 40 24 255\n"[..], &[128; 40 * 24 * 3]].concat();
        pixels::from_bytes(ppm, u64::MAX).expect("an image")
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [json, numbers] = parts(bytes);
    within(MOST_BYTES, || {
        let Ok(request) = serde_json::from_slice::<Request>(json) else { return };
        let written = serde_json::to_string(&request).expect("plain data");
        assert_eq!(serde_json::from_str::<Request>(&written).expect("what was written"), request);
        let options =
            Options { memory: Budget::Bytes(1 << 30), threads: Some(2), ..Options::default() };
        if let Ok(resolved) = request.resolve(&PACKAGE) {
            assert_eq!(resolved.resolve(&PACKAGE).expect("as before"), resolved);
            let _ = Plan::new(&PACKAGE, &request, &options);
        }
        let [area, sides] = numbers_of(numbers);
        let video = Video {
            frames: area[0],
            motion: [f32::from_bits(area[1]), f32::from_bits(area[2])],
            remask: f32::from_bits(area[3]),
            end: None,
        };
        let _ = video.resolve(&request, &PACKAGE);
        let source = || Source::new(image().image);
        for source in [Ok(source()), source().with_box(area), source().extended(sides)] {
            let Ok(source) = source else { continue };
            if let Ok(resolved) = source.resolve(&request, &PACKAGE) {
                assert!(resolved.width.is_some() && resolved.height.is_some());
                let _ = Plan::of_edit(&PACKAGE, &request, &source, &options);
            }
        }
    });
});

/// Eight numbers, as far as there are such.
fn numbers_of(bytes: &[u8]) -> [[u32; 4]; 2] {
    let mut numbers =
        bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    [(); 2].map(|()| [(); 4].map(|()| numbers.next().unwrap_or(0)))
}
