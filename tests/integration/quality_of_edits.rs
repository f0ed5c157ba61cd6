//! Quantized flavours edit as well as the f32 flavour does: the judge of `quality` over 200
//! images that the f32 flavour made, remade as a whole towards another prompt and repainted in
//! part.

use std::{ops::ControlFlow, sync::OnceLock, thread};

use image::RgbImage;
use pocketmuse::{Flavour, Request, Source};
use serde_json::Value;

use crate::{
    quality::{ATTRIBUTES, Judge, gain, prompts, request},
    statistics::Mean,
    support::{fixture, open_flavour},
};

/// How much lower int8 may score, of 1: as for images from nothing.
const MAX_LOSS: f64 = 0.01;

/// What f32 scores at least: something of the source stays, so less than from nothing. Images
/// that heed no prompt score 0.3.
const LEAST: f64 = 0.75;

/// Steps of an image to start from and of a part that is repainted: fewer than by default, since
/// there are many.
const STEPS: u32 = 6;

/// Steps of a whole image that is remade: with fewer it hardly turns into another.
const WHOLE_STEPS: u32 = 8;

/// How far an image is remade: most of it, so that its prompt's words show and something of it
/// stays.
const STRENGTH: f64 = 0.9;

/// The box that is repainted, where the thing is that an image shows: 10 x 10 of 16 x 16 tokens.
const AREA: [u32; 4] = [24, 24, 80, 80];

fn all() -> &'static [Value] {
    prompts()["prompts"].as_array().expect("a list")
}

/// Images to start from: f32, half of them made by each of two threads.
fn sources() -> &'static [RgbImage] {
    static SOURCES: OnceLock<Vec<RgbImage>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let make = |prompts: &[Value]| {
            let pipeline = open_flavour(Flavour::F32);
            let image = |prompt| {
                let request = Request { num_inference_steps: Some(STEPS), ..request(prompt) };
                let output = pipeline.generate(&request, |_| ControlFlow::Continue(()));
                output.unwrap_or_else(|error| panic!("{error}")).images.remove(0)
            };
            prompts.iter().map(image).collect::<Vec<_>>()
        };
        let (first, second) = all().split_at(all().len() / 2);
        thread::scope(|scope| {
            let other = scope.spawn(|| make(second));
            [make(first), other.join().expect("pictures")].concat()
        })
    })
}

/// A way to edit: says of a source, by its number, what is asked of it and how.
type Edit = fn(usize, &RgbImage) -> (&'static Value, Request, Source);

const KINDS: [(&str, Edit); 2] = [("image to image", remade), ("inpainting", repainted)];

fn remade(index: usize, image: &RgbImage) -> (&'static Value, Request, Source) {
    let asked = &all()[(index + 1) % all().len()]; // another prompt than the image's own
    let request = Request {
        strength: Some(STRENGTH),
        num_inference_steps: Some(WHOLE_STEPS),
        ..request(asked)
    };
    (asked, request, Source::new(image.clone()))
}

fn repainted(index: usize, image: &RgbImage) -> (&'static Value, Request, Source) {
    let asked = &all()[index]; // the image's own prompt, with other random numbers
    let seed = request(asked).seed + 1000;
    let request = Request { seed, num_inference_steps: Some(STEPS), ..request(asked) };
    (asked, request, Source::new(image.clone()).with_box(AREA).expect("inside the picture"))
}

/// The share of its attributes that each edited image shows as asked, by kind. All edits of an
/// image follow each other, so that it is encoded once.
fn scores(flavour: Flavour) -> Vec<[f64; KINDS.len()]> {
    let pipeline = open_flavour(flavour);
    let mut judge = Judge::open(&fixture("judge.onnx"));
    let mut score = |index, image, edit: Edit| {
        let (asked, request, source) = edit(index, image);
        let output = pipeline.edit(&request, &source, |_| ControlFlow::Continue(()));
        let image = &output.unwrap_or_else(|error| panic!("{error}")).images[0];
        judge.score(image, &asked["labels"]) as f64 / ATTRIBUTES.len() as f64
    };
    sources()
        .iter()
        .enumerate()
        .map(|(index, image)| KINDS.map(|(_, edit)| score(index, image, edit)))
        .collect()
}

/// Why it cannot tip: as for images from nothing, int8 fails when its pairs with f32 show a loss
/// above the limit with 99.9% confidence.
#[test]
#[ignore = "slow: 200 images and 800 edits of them, judged"]
fn int8_edits_images_as_f32_does() {
    let scores = thread::scope(|scope| {
        let runs =
            [Flavour::F32, Flavour::Int8].map(|flavour| scope.spawn(move || scores(flavour)));
        runs.map(|run| run.join().expect("scores"))
    });
    assert!(scores.iter().all(|scores| scores.len() == 200));
    for (index, (kind, _)) in KINDS.iter().enumerate() {
        let of_kind = |scores: &Vec<[f64; KINDS.len()]>| -> Vec<f64> {
            scores.iter().map(|scores| scores[index]).collect()
        };
        let [f32, int8] = scores.each_ref().map(of_kind);
        let (share, gain) = (Mean::of(&f32), gain(&f32, &int8));
        println!(
            "{kind}, attributes shown as asked: f32 {:.1}%, int8 by pairs {:+.2} ± {:.2} points",
            100.0 * share.value,
            100.0 * gain.value,
            100.0 * gain.error
        );
        assert!(share.value >= LEAST, "{kind}: expected images as asked, found {share:?}");
        assert!(
            gain.most() >= -MAX_LOSS,
            "{kind}: expected int8 within {MAX_LOSS} of f32, found {gain:?}"
        );
    }
}
