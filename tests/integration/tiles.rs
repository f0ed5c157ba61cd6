//! The edges of a tileable picture meet as its columns and rows do beside them.

use std::ops::ControlFlow;

use image::RgbImage;
use pocketmuse::{ErrorKind, Flavour, Options, Pipeline, Request, Source, Tileable, Video};

use crate::support::{self, flavoured_package};

fn open(flavour: Flavour) -> Pipeline {
    support::runtime();
    let options = Options { flavour: Some(flavour), threads: Some(1), ..Options::default() };
    Pipeline::open_with(flavoured_package(flavour), &options)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn request(prompt: &str, tileable: Tileable) -> Request {
    let prompt = prompt.to_owned();
    Request { prompt, seed: 3, num_inference_steps: Some(6), tileable, ..Request::default() }
}

fn picture(pipeline: &Pipeline, request: &Request) -> RgbImage {
    let output = pipeline.generate(request, |_| ControlFlow::Continue(()));
    output.unwrap_or_else(|error| panic!("{error}")).images.remove(0)
}

/// How much a column differs from the next, or a row: where the picture meets its copy, and on
/// average in the four pairs beside that, so that a thing that lies across the edge counts in both.
fn differences(image: &RgbImage, is_across: bool) -> [f64; 2] {
    let turned = if is_across { image.clone() } else { image::imageops::rotate90(image) };
    let (width, height) = turned.dimensions();
    let difference = |x: u32| {
        let pair =
            |y| turned.get_pixel(x, y).0.into_iter().zip(turned.get_pixel((x + 1) % width, y).0);
        (0..height).flat_map(pair).map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>()
            / f64::from(3 * height)
    };
    [difference(width - 1), [width - 3, width - 2, 0, 1].map(difference).iter().sum::<f64>() / 4.0]
}

/// As above, the mean over some pictures.
fn seam(pipeline: &Pipeline, tileable: Tileable, is_across: bool) -> [f64; 2] {
    let prompts = [
        "a red house in a meadow on a sunny day",
        "a boat on the sea",
        "mountains at night",
        "a castle in the desert",
    ];
    let found = prompts
        .map(|prompt| differences(&picture(pipeline, &request(prompt, tileable)), is_across));
    [0, 1].map(|which| {
        found.iter().map(|differences| differences[which]).sum::<f64>() / found.len() as f64
    })
}

#[test]
fn edges_meet_where_they_are_asked_to() {
    for flavour in [Flavour::F32, Flavour::Int8] {
        let pipeline = open(flavour);
        for (tileable, is_across, meets) in [
            (Tileable::No, true, None), // the left of a scene is often like its right
            (Tileable::Across, true, Some(true)),
            (Tileable::No, false, Some(false)),
            (Tileable::Across, false, Some(false)),
            (Tileable::Down, false, Some(true)),
            (Tileable::Both, true, Some(true)),
            (Tileable::Both, false, Some(true)),
        ] {
            let [seam, beside] = seam(&pipeline, tileable, is_across);
            println!(
                "{flavour}, {tileable}, across {is_across}: {seam:.2} at the seam, {beside:.2} beside it"
            );
            let holds = meets
                .is_none_or(|meets| if meets { seam < 1.5 * beside } else { seam > 4.0 * beside });
            assert!(
                holds,
                "{flavour}, {tileable}, across {is_across}: {seam} at the seam, {beside} beside it"
            );
        }
    }
}

#[test]
fn any_size_and_every_way_to_make_a_picture_can_be_tileable() {
    let pipeline = open(Flavour::F32);
    let base = Request { num_images_per_prompt: 2, ..request("a boat on the sea", Tileable::Both) };
    for (height, width) in [(16, 16), (32, 144), (128, 48)] {
        let small = Request { height: Some(height), width: Some(width), ..base.clone() };
        let mut states = Vec::new();
        let output = pipeline.generate(&small, |step| {
            assert_eq!((step.height, step.width), (height as usize / 8, width as usize / 8));
            states.push(pipeline.state(step));
            ControlFlow::Continue(())
        });
        let output = output.unwrap_or_else(|error| panic!("{error}"));
        assert!(output.images.iter().all(|image| image.dimensions() == (width, height)));
        let resumed = pipeline.resume(&states[2], None, |_| ControlFlow::Continue(()));
        assert!(resumed.unwrap_or_else(|error| panic!("{error}")).images == output.images);
        let varied =
            Request { variation: Some(0.0), variation_of: 1, num_images_per_prompt: 1, ..small };
        assert!(picture(&pipeline, &varied) == output.images[1]);
    }
    let plan = |request: &Request| pipeline.plan(request).expect("it fits").peak_rss_bytes();
    assert!(
        plan(&base) > plan(&Request { tileable: Tileable::No, ..base }),
        "the margin is counted"
    );
}

#[test]
fn what_cannot_be_tileable_is_refused() {
    let (pipeline, request) = (open(Flavour::F32), request("a tree", Tileable::Across));
    let refused = |result: Result<(), pocketmuse::Error>| {
        let error = result.expect_err("refused");
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "tileable"), "{error}");
    };
    let go = || ControlFlow::Continue(());
    refused(pipeline.edit(&request, &Source::new(RgbImage::new(64, 64)), |_| go()).map(drop));
    refused(pipeline.trace(&request, None, |_| go()).map(drop));
    refused(pipeline.video(&request, &Video::default(), |_| go()).map(drop));
}
