//! A grid's images are those that its settings make alone.

use std::ops::ControlFlow;

use image::{GenericImageView, RgbImage};
use pocketmuse::{Pipeline, Request, Sampler, pixels};

use crate::support::{self, package};

#[test]
fn every_image_of_a_grid_is_the_one_made_alone() {
    support::runtime();
    let (folder, package) = (tempfile::tempdir().expect("a folder"), package("tiny-world"));
    let path = folder.path().join("grid.png");
    let (output, package) =
        (path.to_string_lossy().into_owned(), package.to_string_lossy().into_owned());
    let run = |more: &[&str]| {
        let words = [
            "pocketmuse",
            "grid",
            "a tree",
            "--columns",
            "sampler=confidence,halton",
            "-o",
            &output,
        ];
        let common =
            ["--seed", "7", "--with", "height=64", "--with", "width=96", "--package", &package];
        pocketmuse_cli::run(words.iter().chain(more).chain(&common).map(Into::into))
    };
    assert_eq!(run(&["--rows", "num-inference-steps=2,3"]), 0);
    let grid = image::open(&path).expect("an image").into_rgb8();
    let shared = pixels::read_request(&path).expect("inside");
    assert_eq!((shared.prompt.as_str(), shared.seed, shared.height), ("a tree", 7, Some(64)));
    let pipeline = Pipeline::open(&package).unwrap_or_else(|error| panic!("{error}"));
    let mut places = Vec::new();
    for steps in [2, 3] {
        for sampler in [Sampler::Confidence, Sampler::Halton] {
            let request = Request { sampler, num_inference_steps: Some(steps), ..shared.clone() };
            let output = pipeline.generate(&request, |_| ControlFlow::Continue(()));
            let output = output.unwrap_or_else(|error| panic!("{error}"));
            places.push(find(&grid, &output.images[0]).expect("in the grid"));
        }
    }
    let [first, right, below, last] = places.try_into().expect("four");
    assert!(first.0 == below.0 && right.0 == last.0 && first.1 == right.1 && below.1 == last.1);
    assert!(right.0 >= first.0 + 96 && below.1 >= first.1 + 64, "{first:?}, {right:?}, {below:?}");

    assert_eq!(run(&["--rows", "strength=0.5"]), 2, "there is no image to start from");
    assert_eq!(run(&["--rows", "colour=red"]), 2);
    assert_eq!(run(&["--rows", "num-inference-steps=0"]), 2);
}

/// Where `part` lies in `whole`.
fn find(whole: &RgbImage, part: &RgbImage) -> Option<(u32, u32)> {
    let (width, height) = part.dimensions();
    let corners = (0..=whole.height().checked_sub(height)?)
        .flat_map(|y| (0..=whole.width().saturating_sub(width)).map(move |x| (x, y)));
    corners.into_iter().find(|&(x, y)| {
        whole.get_pixel(x, y) == part.get_pixel(0, 0)
            && whole
                .view(x, y, width, height)
                .pixels()
                .zip(part.pixels())
                .all(|((.., found), wanted)| found == *wanted)
    })
}
