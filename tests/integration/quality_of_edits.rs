//! Quantized flavours edit as well as the f32 flavour does: the judge of `quality` over 200
//! pictures that the f32 flavour made, remade as a whole towards another prompt and repainted in
//! part.

use std::{cmp::Ordering, ops::ControlFlow, sync::OnceLock, thread};

use image::RgbImage;
use pocketmuse::{Flavour, Request, Source};
use serde_json::Value;

use crate::{
    quality::{ATTRIBUTES, Judge, open, prompts, request},
    support::fixture,
};

/// How much lower int8 may score, of 1: as for pictures from nothing.
const MAX_LOSS: f64 = 0.01;

/// What f32 scores at least: something of the source stays, so less than from nothing. Pictures
/// that heed no prompt score 0.3.
const LEAST: f64 = 0.75;

/// Steps of a picture to start from and of a part that is repainted: fewer than by default, since
/// there are many.
const STEPS: u32 = 6;

/// Steps of a whole picture that is remade: with fewer it hardly turns into another.
const WHOLE_STEPS: u32 = 8;

/// How far a picture is remade: most of it, so that its prompt's words show and something of it
/// stays.
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

/// A way to edit: says of a source, by its number, what is asked of it and how.
type Edit = fn(usize, &RgbImage) -> (&'static Value, Request, Source);

const KINDS: [(&str, Edit); 2] = [("image to image", remade), ("inpainting", repainted)];

fn remade(index: usize, picture: &RgbImage) -> (&'static Value, Request, Source) {
    let asked = &all()[(index + 1) % all().len()]; // another prompt than the picture's own
    let request = Request {
        strength: Some(STRENGTH),
        num_inference_steps: Some(WHOLE_STEPS),
        ..request(asked)
    };
    (asked, request, Source::new(picture.clone()))
}

fn repainted(index: usize, picture: &RgbImage) -> (&'static Value, Request, Source) {
    let asked = &all()[index]; // the picture's own prompt, with other random numbers
    let seed = request(asked).seed + 1000;
    let request = Request { seed, num_inference_steps: Some(STEPS), ..request(asked) };
    (asked, request, Source::new(picture.clone()).with_box(AREA).expect("inside the picture"))
}

/// How many attributes each edited picture shows as asked, by kind. All edits of a picture follow
/// each other, so that it is encoded once.
fn scores(flavour: Flavour) -> Vec<[usize; KINDS.len()]> {
    let pipeline = open(flavour);
    let mut judge = Judge::open(&fixture("judge.onnx"));
    let mut score = |index, picture, edit: Edit| {
        let (asked, request, source) = edit(index, picture);
        let output = pipeline.edit(&request, &source, |_| ControlFlow::Continue(()));
        judge.score(&output.unwrap_or_else(|error| panic!("{error}")).images[0], &asked["labels"])
    };
    sources()
        .iter()
        .enumerate()
        .map(|(index, picture)| KINDS.map(|(_, edit)| score(index, picture, edit)))
        .collect()
}

/// The shares of attributes shown as asked, f32's and int8's, printed with how many pictures
/// differ.
fn shares(kind: &str, [f32, int8]: [Vec<usize>; 2]) -> [f64; 2] {
    let count =
        |wanted| f32.iter().zip(&int8).filter(|(f32, int8)| int8.cmp(f32) == wanted).count();
    let (more, less) = (count(Ordering::Greater), count(Ordering::Less));
    let shares = [&f32, &int8]
        .map(|right| right.iter().sum::<usize>() as f64 / (right.len() * ATTRIBUTES.len()) as f64);
    let [f32, int8] = shares.map(|share| 100.0 * share);
    println!(
        "{kind}, attributes shown as asked: f32 {f32:.1}%, int8 {int8:.1}%, more in {more} of 200 edits, less in {less}"
    );
    shares
}

#[test]
fn int8_edits_pictures_as_f32_does() {
    let scores = thread::scope(|scope| {
        let runs =
            [Flavour::F32, Flavour::Int8].map(|flavour| scope.spawn(move || scores(flavour)));
        runs.map(|run| run.join().expect("scores"))
    });
    assert!(scores.iter().all(|scores| scores.len() == 200));
    let of_kind = |index: usize| {
        scores.each_ref().map(|scores| scores.iter().map(|scores| scores[index]).collect())
    };
    let found: Vec<_> = KINDS
        .iter()
        .enumerate()
        .map(|(index, (kind, _))| (kind, shares(kind, of_kind(index))))
        .collect();
    for (kind, [f32, int8]) in found {
        assert!(f32 >= LEAST, "{kind}: expected pictures that follow the prompt, found {f32}");
        assert!(
            int8 >= f32 - MAX_LOSS,
            "{kind}: expected int8 within {MAX_LOSS} of f32 {f32}, found {int8}"
        );
    }
}
