//! Quantized flavours edit as well as the f32 flavour does: the judge of `quality` over 200 pictures that the f32 flavour
//! made, remade as a whole towards another prompt and repainted in part.

use std::{ops::ControlFlow, sync::OnceLock, thread};

use image::RgbImage;
use pocketmuse::{Flavour, Request, Source};
use serde_json::Value;

use crate::{
    quality::{ATTRIBUTES, Judge, open, prompts, request},
    support::fixture,
};

/// How much lower int8 may score, of 1: as for pictures from nothing.
const MAX_LOSS: f64 = 0.01;

/// What f32 scores at least: something of the source stays, so less than from nothing. Pictures that heed no prompt score 0.3.
const LEAST: f64 = 0.75;

/// Steps of a picture to start from and of a part that is repainted: fewer than by default, since there are many.
const STEPS: u32 = 6;

/// Steps of a whole picture that is remade: with fewer it hardly turns into another.
const WHOLE_STEPS: u32 = 8;

/// How far a picture is remade: most of it, so that its prompt's words show and something of it stays.
const STRENGTH: f64 = 0.9;

/// The box that is repainted, where the thing is that a picture shows: 10 x 10 of 16 x 16 tokens.
const AREA: [u32; 4] = [24, 24, 80, 80];

fn all() -> &'static [Value] {
    prompts()["prompts"].as_array().expect("a list")
}

/// Pictures to start from: f32, half of them made by each of two threads.
fn sources() -> &'static [RgbImage] {
    static SOURCES: OnceLock<Vec<RgbImage>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let make = |prompts: &[Value]| {
            let pipeline = open(Flavour::F32);
            let picture = |prompt| {
                let request = Request { num_inference_steps: Some(STEPS), ..request(prompt) };
                let output = pipeline.generate(&request, |_| ControlFlow::Continue(()));
                output.unwrap_or_else(|error| panic!("{error}")).images.remove(0)
            };
            prompts.iter().map(picture).collect::<Vec<_>>()
        };
        let (first, second) = all().split_at(all().len() / 2);
        thread::scope(|scope| {
            let other = scope.spawn(|| make(second));
            [make(first), other.join().expect("pictures")].concat()
        })
    })
}

/// The share of attributes that edited pictures show as asked. `edit` says of a source, by its number, what is asked of it
/// and how.
fn score(flavour: Flavour, edit: impl Fn(usize, &RgbImage) -> (&'static Value, Request, Source)) -> f64 {
    let pipeline = open(flavour);
    let mut judge = Judge::open(&fixture("judge.onnx"));
    let right: usize = sources()
        .iter()
        .enumerate()
        .map(|(index, picture)| {
            let (asked, request, source) = edit(index, picture);
            let output = pipeline.edit(&request, &source, |_| ControlFlow::Continue(()));
            judge.score(&output.unwrap_or_else(|error| panic!("{error}")).images[0], &asked["labels"])
        })
        .sum();
    assert_eq!(sources().len(), 200);
    right as f64 / (sources().len() * ATTRIBUTES.len()) as f64
}

fn check(kind: &str, edit: impl Fn(usize, &RgbImage) -> (&'static Value, Request, Source) + Copy + Send) {
    let [f32, int8] = thread::scope(|scope| {
        let runs = [Flavour::F32, Flavour::Int8].map(|flavour| scope.spawn(move || score(flavour, edit)));
        runs.map(|run| run.join().expect("a score"))
    });
    println!("{kind}, attributes as asked, over 200 edits: f32 {:.1}%, int8 {:.1}%", 100.0 * f32, 100.0 * int8);
    assert!(f32 >= LEAST, "{kind}: expected pictures that follow the prompt, found {f32}");
    assert!(int8 >= f32 - MAX_LOSS, "{kind}: expected int8 within {MAX_LOSS} of f32 {f32}, found {int8}");
}

#[test]
fn int8_remakes_pictures_as_f32_does() {
    check("image to image", |index, picture| {
        let asked = &all()[(index + 1) % all().len()]; // another prompt than the picture's own
        let request = Request { strength: Some(STRENGTH), num_inference_steps: Some(WHOLE_STEPS), ..request(asked) };
        (asked, request, Source::new(picture.clone()))
    });
}

#[test]
fn int8_repaints_parts_as_f32_does() {
    check("inpainting", |index, picture| {
        let asked = &all()[index]; // the picture's own prompt, with other random numbers
        let seed = request(asked).seed + 1000;
        let request = Request { seed, num_inference_steps: Some(STEPS), ..request(asked) };
        (asked, request, Source::new(picture.clone()).with_box(AREA).expect("inside the picture"))
    });
}
