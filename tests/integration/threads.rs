//! How threads wait and share work changes no image.

use std::{num::NonZeroU8, ops::ControlFlow};

use pocketmuse::{Flavour, Options, Pipeline, Request, Sharing};

use crate::support;

#[test]
fn images_are_the_same_however_threads_share_work() {
    support::runtime();
    let request = Request {
        prompt: "a red lighthouse by the sea at sunset".to_owned(),
        seed: 7,
        num_inference_steps: Some(2),
        ..Request::default()
    };
    for flavour in [Flavour::F32, Flavour::Int8] {
        let package = support::flavoured_package(flavour);
        let generate = |threads, sharing| {
            let options = Options {
                flavour: Some(flavour),
                threads: Some(threads),
                sharing,
                ..Options::default()
            };
            let pipeline = Pipeline::open_with(&package, &options).expect("a package");
            pipeline.generate(&request, |_| ControlFlow::Continue(())).expect("an image").images
        };
        let image = generate(1, Sharing::default());
        for sleeping_threads in [false, true] {
            for base in [0, 4, u8::MAX] {
                let dynamic_block_base = NonZeroU8::new(base);
                let sharing = Sharing { sleeping_threads, dynamic_block_base };
                assert_eq!(generate(2, sharing), image, "{flavour}, {sharing:?}");
            }
        }
    }
}
