//! The int8 flavour makes pictures as good as the f32 flavour's: scored by an attribute classifier over 200 prompts,
//! and step by step on the same tokens.

use std::{fs, ops::ControlFlow, path::Path, sync::OnceLock, thread};

use ort::{session::Session, value::TensorRef};
use pocketmuse::{Flavour, Options, Pipeline, Request, Runtime};
use serde_json::Value;

use crate::support::{self, fixture, flavoured_package};

const ATTRIBUTES: [&str; 5] = ["object", "color", "sky", "ground", "backdrop"];

/// How much lower int8 may score, of 1.
const MAX_LOSS: f64 = 0.01;

fn open(flavour: Flavour) -> Pipeline {
    support::runtime();
    // One thread: tests run side by side, and threads that wait for each other waste the processor.
    let options = Options { flavour: Some(flavour), threads: Some(1), ..Options::default() };
    Pipeline::open_with(flavoured_package(flavour), &options).unwrap_or_else(|error| panic!("{error}"))
}

fn prompts() -> &'static Value {
    static PROMPTS: OnceLock<Value> = OnceLock::new();
    let read = || fs::read(fixture("prompts.json")).expect("a fixture");
    PROMPTS.get_or_init(|| serde_json::from_slice(&read()).expect("JSON"))
}

fn request(prompt: &Value) -> Request {
    let text = prompt["prompt"].as_str().expect("a prompt").to_owned();
    Request { prompt: text, seed: prompt["seed"].as_u64().expect("a seed"), ..Request::default() }
}

/// The judge: pixels to one class per attribute.
struct Judge(Session);

impl Judge {
    fn open(path: &Path) -> Self {
        let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
        Self(Session::builder(runtime.environment()).expect("a session").commit_from_file(path).expect("a graph"))
    }

    /// How many of the attributes the picture shows as the labels say.
    fn score(&mut self, image: &image::RgbImage, labels: &Value) -> usize {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let plane = |channel| image.pixels().map(move |pixel| f32::from(pixel.0[channel]) / 255.0);
        let pixels: Vec<f32> = (0..3).flat_map(plane).collect(); // HWC => CHW
        let input = TensorRef::from_array_view(([1, 3, height, width], pixels.as_slice())).expect("a picture");
        let found = self.0.run(ort::inputs!["pixels" => input]).expect("a score");
        let right = |attribute: &str| {
            let (_, logits) = found[attribute].try_extract_tensor::<f32>().expect("logits");
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("classes").0;
            prompts()["classes"][attribute][best] == labels[attribute]
        };
        ATTRIBUTES.into_iter().filter(|attribute| right(attribute)).count()
    }
}

/// The share of attributes that the pictures of `flavour` show as asked.
fn score(flavour: Flavour) -> f64 {
    let pipeline = open(flavour);
    let mut judge = Judge::open(&fixture("judge.onnx"));
    let all = prompts()["prompts"].as_array().expect("a list");
    let right: usize = all
        .iter()
        .map(|prompt| {
            let output = pipeline.generate(&request(prompt), |_| ControlFlow::Continue(()));
            let output = output.unwrap_or_else(|error| panic!("{error}"));
            judge.score(&output.images[0], &prompt["labels"])
        })
        .sum();
    assert_eq!(all.len(), 200);
    right as f64 / (all.len() * ATTRIBUTES.len()) as f64
}

#[test]
fn int8_pictures_show_what_f32_pictures_show() {
    let (f32, int8) = thread::scope(|scope| {
        let f32 = scope.spawn(|| score(Flavour::F32));
        let int8 = score(Flavour::Int8);
        (f32.join().expect("a score"), int8)
    });
    println!("attributes shown as asked, over 200 prompts: f32 {:.1}%, int8 {:.1}%", 100.0 * f32, 100.0 * int8);
    assert!(f32 >= 0.97, "the reference pipeline scores 98.4% with its own random numbers; found {f32}");
    assert!(int8 >= f32 - MAX_LOSS, "expected int8 within {MAX_LOSS} of f32 {f32}, found {int8}");
}

#[test]
fn int8_chooses_as_f32_does_on_the_same_tokens() {
    let (f32, int8) = (open(Flavour::F32), open(Flavour::Int8));
    let all = prompts()["prompts"].as_array().expect("a list");
    let mut shares: Vec<Vec<f32>> = Vec::new();
    for prompt in all.iter().step_by(10) {
        shares.push(f32.agreement(&int8, &request(prompt)).unwrap_or_else(|error| panic!("{error}")));
    }
    let steps = shares[0].len();
    let mean = |step: usize| shares.iter().map(|run| run[step]).sum::<f32>() / shares.len() as f32;
    let means: Vec<f32> = (0..steps).map(mean).collect();
    println!("same most likely code, by step, over {} prompts: {means:.3?}", shares.len());
    let same = f32.agreement(&f32, &request(&all[0])).unwrap_or_else(|error| panic!("{error}"));
    assert!(same.iter().all(|share| *share == 1.0), "a flavour agrees with itself: {same:?}");
    let worst = means.iter().copied().fold(1.0, f32::min);
    assert!(worst >= 0.85, "expected at least 0.85 at every step, found {means:?}");
}
