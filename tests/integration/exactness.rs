//! The f32 flavour against the reference: every stage's tensors, and whole runs token by token.

use std::{fs, ops::ControlFlow, path::Path};

use pocketmuse::{Options, Pipeline, Request, RngKind, Source, Step, Temperature, pixels};
use pocketmuse_measure::verify::{self, Check, Outcome};
use serde_json::Value;

use crate::support::{self, TINY, fixture, package, read_tensors};

/// Every golden tensor, in the order of the data: a package must have them all.
const TENSORS: [&str; 13] = [
    "text.hidden",
    "text.pooled",
    "prologue.cond",
    "prologue.text",
    "step.embed",
    "step.down_block",
    "step.layer0",
    "step.layer_last",
    "step.up_block",
    "step.logits",
    "decode.pixels",
    "encode.latents",
    "encode.ids",
];

#[test]
fn every_stage_agrees_with_the_reference() {
    support::runtime();
    for name in TINY {
        let golden = fixture(name).join("golden.safetensors");
        let checks = verify::verify(&package(name), &golden, &Options::default())
            .unwrap_or_else(|e| panic!("{e}"));
        for check in &checks {
            assert!(check.is_compared() && check.holds(), "{name}: {check}");
        }
        let ratio = |check: &Check| match check.outcome {
            Outcome::Close { worst_ratio, .. } => worst_ratio,
            _ => 0.0,
        };
        let worst = checks.iter().map(ratio).fold(0.0, f32::max);
        println!(
            "{name}: {} tensors agree, the worst at {worst:.2} of the tolerance",
            checks.len()
        );
        let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
        for tensor in TENSORS {
            assert!(names.contains(&tensor), "{name}: {tensor} was not compared");
        }
    }
}

#[test]
fn the_bundled_model_reads_text_as_the_reference_does() {
    support::runtime();
    for run in 0..7 {
        let golden = fixture("tiny-world").join(format!("generate-{run}.safetensors"));
        let checks = verify::verify(&package("tiny-world"), &golden, &Options::default());
        let checks = checks.unwrap_or_else(|error| panic!("{error}"));
        let text: Vec<_> = checks.iter().filter(|check| check.name.starts_with("text.")).collect();
        assert!(
            text.len() == 2 && text.iter().all(|check| check.is_compared() && check.holds()),
            "{checks:?}"
        );
    }
}

/// The request that a transcript's arguments describe.
fn request(arguments: &Value) -> Request {
    let number = |key: &str| arguments[key].as_f64().expect("a number");
    let temperature = arguments["temperature"]
        .as_array()
        .expect("two")
        .iter()
        .map(|t| t.as_f64().expect("a number") as f32);
    let temperature: Vec<f32> = temperature.collect();
    Request {
        prompt: arguments["prompt"].as_str().expect("a prompt").to_owned(),
        negative_prompt: arguments["negative_prompt"].as_str().unwrap_or_default().to_owned(),
        guidance_scale: Some(number("guidance_scale") as f32),
        num_inference_steps: Some(number("num_inference_steps") as u32),
        temperature: Some(Temperature::Range([temperature[0], temperature[1]])),
        num_images_per_prompt: arguments["num_images_per_prompt"].as_u64().unwrap_or(1) as u32,
        seed: arguments["seed"].as_u64().expect("a seed"),
        strength: arguments["strength"].as_f64(),
        rng: RngKind::Torch,
        ..Request::default()
    }
}

/// What an edit's transcript starts from; `None` for a run from scratch.
fn source(run: &str) -> Option<Source> {
    let file = |what: &str| {
        Some(fixture("tiny-world").join(format!("{run}.{what}.png"))).filter(|path| path.exists())
    };
    let image = pixels::read(&file("input")?).expect("an image");
    // The reference returns the whole reconstruction.
    let source = Source::new(image.image).with_paste(false);
    Some(match file("mask") {
        Some(mask) => source.with_mask(pixels::read_mask(&mask).expect("a mask").image),
        None => source,
    })
}

/// Compares an image with the reference's; returns the largest difference of a value, of 255.
fn check_image(run: &str, index: usize, made: &image::RgbImage) -> u8 {
    let path = fixture("tiny-world").join(format!("{run}.{index}.png"));
    let wanted = image::open(path).expect("an image").to_rgb8();
    assert_eq!(made.dimensions(), wanted.dimensions(), "{run}");
    let difference =
        made.iter().zip(wanted.iter()).map(|(a, b)| a.abs_diff(*b)).max().expect("pixels");
    assert!(difference <= 1, "{run}: image {index} differs by {difference}/255");
    difference
}

fn check_run(pipeline: &Pipeline, run: &str) {
    let folder = fixture("tiny-world");
    let arguments = fs::read(folder.join(format!("{run}.json"))).expect("arguments");
    let request = request(&serde_json::from_slice(&arguments).expect("JSON"));
    let steps = read_tensors(&folder.join(format!("{run}.safetensors")))
        .remove("steps")
        .expect("a transcript")
        .i64s();
    let mask = pipeline.manifest().model.mask_token_id;
    let mut seen = 0;
    let watch = |step: &Step<'_>| {
        let wanted = &steps[seen * step.tokens.len()..][..step.tokens.len()];
        let different = (0..wanted.len())
            .filter(|at| i64::from(step.tokens[*at].unwrap_or(mask)) != wanted[*at])
            .count();
        assert_eq!(different, 0, "{run}: tokens that differ after step {}", step.step);
        seen += 1;
        ControlFlow::Continue(())
    };
    let output = match source(run) {
        Some(source) => pipeline.edit(&request, &source, watch),
        None => pipeline.generate(&request, watch),
    };
    let output = output.unwrap_or_else(|error| panic!("{run}: {error}"));
    assert_eq!(seen * output.images.len() * 256, steps.len(), "{run}: every step was compared");
    let images = output.images.iter().enumerate();
    let most = images.map(|(index, made)| check_image(run, index, made)).max().expect("images");
    println!("{run}: all token ids equal after each of {seen} steps, images within {most}/255");
}

#[test]
fn whole_runs_agree_token_by_token() {
    support::runtime();
    let pipeline = Pipeline::open(package("tiny-world")).unwrap_or_else(|error| panic!("{error}"));
    (0..7).for_each(|run| check_run(&pipeline, &format!("generate-{run}")));
    check_run(&pipeline, "image_to_image-0");
    check_run(&pipeline, "inpaint-0");
}

#[test]
fn the_fixtures_are_all_there() {
    let runs = fs::read_dir(fixture("tiny-world")).expect("fixtures").filter(|entry| {
        let path = entry.as_ref().expect("an entry").path();
        let generated =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("generate-"));
        generated && path.extension() == Some(Path::new("json").as_os_str())
    });
    assert_eq!(runs.count(), 7);
}
