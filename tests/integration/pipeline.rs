//! What a caller relies on: the same seed gives the same picture, cancel is answered, threads are
//! safe, bad packages and bad requests say what is wrong.

use std::{fs, ops::ControlFlow, path::Path, thread};

use pocketmuse::{
    Error, ErrorKind, GuidanceSchedule, Manifest, MaskingSchedule, Options, Output, Pipeline,
    Request, Sampler, Temperature,
};
use tempfile::TempDir;

use crate::support::{self, change_json, copy_folder, package};

fn open(threads: usize) -> Pipeline {
    support::runtime();
    let options = Options { threads: Some(threads), ..Options::default() };
    Pipeline::open_with(package("tiny-world"), &options).unwrap_or_else(|error| panic!("{error}"))
}

fn request(seed: u64) -> Request {
    let prompt = "a red lighthouse by the sea at sunset".to_owned();
    Request { prompt, seed, num_inference_steps: Some(4), ..Request::default() }
}

fn generate(pipeline: &Pipeline, request: &Request) -> Output {
    let output = pipeline.generate(request, |_| ControlFlow::Continue(()));
    output.unwrap_or_else(|error| panic!("{error}"))
}

fn refused(pipeline: &Pipeline, request: &Request) -> Error {
    pipeline.generate(request, |_| ControlFlow::Continue(())).map(|_| ()).expect_err("refused")
}

#[test]
fn same_seed_same_picture_whatever_the_threads() {
    let (one, two) = (open(1), open(2));
    let picture = generate(&one, &request(7)).images;
    assert_eq!(generate(&one, &request(7)).images, picture, "twice");
    assert_eq!(generate(&two, &request(7)).images, picture, "with two threads");
    assert_ne!(generate(&one, &request(8)).images, picture, "another seed");
}

#[test]
fn two_threads_share_a_pipeline() {
    let pipeline = open(1);
    let alone: Vec<_> = [1, 2].map(|seed| generate(&pipeline, &request(seed)).images).into();
    let together = thread::scope(|scope| {
        let both = [1, 2].map(|seed| {
            scope.spawn({
                let pipeline = &pipeline;
                move || generate(pipeline, &request(seed)).images
            })
        });
        both.map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(together.as_slice(), alone);
}

#[test]
fn what_came_out_can_be_made_again() {
    let pipeline = open(2);
    let request =
        Request { num_images_per_prompt: 2, height: Some(64), width: Some(96), ..request(3) };
    let output = generate(&pipeline, &request);
    assert_eq!(
        output.images.iter().map(|image| image.dimensions()).collect::<Vec<_>>(),
        [(96, 64), (96, 64)]
    );
    assert_ne!(output.images[0], output.images[1]);
    assert_eq!(output.request.guidance_scale, Some(1.5), "the package's default is filled in");
    assert_eq!(generate(&pipeline, &output.request).images, output.images);
    let names: Vec<_> = output.report.stages.iter().map(|stage| stage.name.to_string()).collect();
    assert_eq!(names, ["text_encoder", "prologue", "step", "decoder"]);
}

#[test]
fn cancel_is_answered_between_steps() {
    let pipeline = open(1);
    let mut steps = Vec::new();
    let result = pipeline.generate(&request(1), |step| {
        assert_eq!(
            (step.num_inference_steps, step.images, step.height, step.width),
            (4, 1, 16, 16)
        );
        steps.push(step.tokens.iter().filter(|token| token.is_none()).count());
        if step.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(result.map(|_| ()).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert_eq!(steps.len(), 3, "no step after the one that was refused");
    assert!(
        steps.is_sorted_by(|before, after| before > after),
        "fewer masked after each step: {steps:?}"
    );
}

#[test]
fn a_long_prompt_works_and_says_what_was_cut_off() {
    let pipeline = open(1);
    let long = format!("{} at night", "red ".repeat(80));
    let output = generate(&pipeline, &Request { prompt: long, ..request(1) });
    assert_eq!(output.truncated.len(), 1);
    assert!(
        output.truncated[0].starts_with("prompt") && output.truncated[0].ends_with("at night"),
        "{:?}",
        output.truncated
    );
    assert!(generate(&pipeline, &request(1)).truncated.is_empty());
}

#[test]
fn weights_in_a_prompt_act_and_a_weight_of_one_does_not() {
    let pipeline = open(1);
    let with = |prompt: &str| Request { prompt: prompt.to_owned(), ..request(5) };
    let picture = |request: &Request| generate(&pipeline, request).images;
    let plain = picture(&with("a red lighthouse by the sea at sunset"));
    assert_eq!(
        picture(&with("a (red:1.0) lighthouse by the (sea:1) at sunset")),
        plain,
        "weights of one"
    );
    let weighted = with("a (red:1.6) lighthouse by the [sea] at (sunset:0)");
    assert_ne!(picture(&weighted), plain);
    assert_eq!(picture(&weighted), picture(&weighted), "with texts that were kept");
    assert_ne!(
        picture(&Request { prompt_weighting: false, ..weighted.clone() }),
        picture(&weighted)
    );
    let escaped = picture(&with(r"a \(red\) lighthouse"));
    assert_eq!(
        escaped,
        picture(&Request { prompt_weighting: false, ..with("a (red) lighthouse") })
    );
    let many: String = (0..40).map(|index| format!("red (sea:1.{index}1) ")).collect();
    let against = Request { negative_prompt: "fog (sea:0.5)".to_owned(), ..with(&many) };
    assert_eq!(picture(&against), picture(&against), "more texts than are kept");
    let traced = pipeline.trace(&weighted, None, |_| ControlFlow::Continue(()));
    let (output, trace) = traced.unwrap_or_else(|error| panic!("{error}"));
    let words: Vec<_> = trace.words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(
        words,
        ["a", "red", "lighthouse", "by", "the", "sea", "at", "sunset"],
        "as the model reads them"
    );
    assert_eq!(output.images, picture(&weighted));
    let error = refused(&pipeline, &with("a (red:11) house"));
    assert_eq!(error.to_string(), "prompt: expected weights of 0 to 10, found 11 at byte 2");
}

#[test]
fn every_value_of_a_request_has_an_effect() {
    let pipeline = open(1);
    let picture = generate(&pipeline, &request(5)).images;
    type Change = fn(&mut Request);
    let changes: [(&str, Change); 13] = [
        ("prompt", |r| r.prompt = "a green robot in a meadow".to_owned()),
        ("negative_prompt", |r| r.negative_prompt = "a red lighthouse".to_owned()),
        ("guidance_scale", |r| r.guidance_scale = Some(4.0)),
        ("guidance_scale off", |r| r.guidance_scale = Some(0.0)),
        ("num_inference_steps", |r| r.num_inference_steps = Some(1)),
        ("temperature", |r| r.temperature = Some(Temperature::Decaying(9.0))),
        ("seed", |r| r.seed = u64::MAX),
        ("sampler", |r| r.sampler = Sampler::Halton),
        ("masking_schedule", |r| r.masking_schedule = Some(MaskingSchedule::Linear)),
        ("guidance_schedule linear", |r| r.guidance_schedule = GuidanceSchedule::Linear),
        ("guidance_schedule cosine", |r| r.guidance_schedule = GuidanceSchedule::Cosine),
        ("aesthetic_score", |r| r.aesthetic_score = -300.0),
        ("crop_coordinates", |r| r.crop_coordinates = [500, 900]),
    ];
    for (name, change) in changes {
        let mut request = request(5);
        change(&mut request);
        assert_ne!(generate(&pipeline, &request).images, picture, "{name}");
    }
}

#[test]
fn a_request_that_cannot_be_served_names_the_field() {
    let pipeline = open(1);
    type Change = fn(&mut Request);
    let cases: [(&str, Change); 6] = [
        ("num_inference_steps: expected 1 to", |r| r.num_inference_steps = Some(0)),
        ("guidance_scale: expected a finite number", |r| r.guidance_scale = Some(f32::INFINITY)),
        ("temperature: expected a finite number", |r| {
            r.temperature = Some(Temperature::Decaying(f32::NAN))
        }),
        ("height: expected a multiple of 16 pixels", |r| r.height = Some(100)),
        ("width: expected a multiple of 16 pixels", |r| r.width = Some(0)),
        ("num_images_per_prompt: expected 1 to", |r| r.num_images_per_prompt = 0),
    ];
    for (expected, change) in cases {
        let mut request = request(1);
        change(&mut request);
        let error = refused(&pipeline, &request);
        assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
    }
}

/// A changed copy of the package of `tiny-512`, and what opening it and making a picture gives.
fn with_package(change: impl FnOnce(&Path)) -> (TempDir, Result<(), Error>) {
    support::runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("package");
    copy_folder(&package("tiny-512"), &copy);
    change(&copy);
    let made = Pipeline::open(&copy).and_then(|pipeline| {
        let request = Request { num_inference_steps: Some(1), ..Request::default() };
        pipeline.generate(&request, |_| ControlFlow::Continue(())).map(|_| ())
    });
    (folder, made)
}

#[test]
fn a_whole_package_works() {
    with_package(|_| ()).1.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let files = [
        "tokenizer.json",
        "f32/text_encoder.onnx",
        "f32/prologue.data",
        "f32/step.onnx",
        "f32/step.data",
        "f32/decoder.data",
    ];
    for file in files {
        let (_folder, made) = with_package(|package| {
            let path = package.join(file);
            let mut bytes = fs::read(&path).expect("there");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("written");
        });
        let error = made.expect_err(file);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
        assert!(
            error.to_string().contains(file) && error.to_string().contains("the file was changed"),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_package_says_what_is_wrong() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 6] = [
        ("decoder.data: expected a file of", |p| {
            fs::remove_file(p.join("f32/decoder.data")).expect("removed")
        }),
        ("step.onnx: expected a file of", |p| {
            fs::write(p.join("f32/step.onnx"), "short").expect("written")
        }),
        ("written by a newer PocketMuse", |p| {
            change_json(&p.join("manifest.json"), |m| m["format"] = 9.into())
        }),
        ("expected a manifest, found", |p| {
            fs::write(p.join("manifest.json"), "{").expect("written")
        }),
        ("expected a path inside the package", |p| {
            change_json(&p.join("manifest.json"), |m| {
                m["tokenizer"]["file"]["path"] = "../tokenizer.json".into()
            });
        }),
        ("mask_token_id: expected 0 < codebook_size", |p| {
            change_json(&p.join("manifest.json"), |m| m["model"]["mask_token_id"] = 1.into());
        }),
    ];
    for (expected, change) in cases {
        let error = with_package(change).1.expect_err(expected);
        assert!(error.to_string().contains(expected), "expected {expected}, found {error}");
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
    }
    let error = with_package(|p| fs::remove_file(p.join("manifest.json")).expect("removed"))
        .1
        .expect_err("no manifest");
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_manifest_that_lies_about_its_graphs_is_refused() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 3] = [
        ("expected the input", |m| {
            m["flavours"]["f32"]["stages"]["step"]["inputs"][0]["dtype"] = "f32".into()
        }),
        ("expected the outputs", |m| {
            m["flavours"]["f32"]["stages"]["decoder"]["outputs"][0]["name"] = "x".into()
        }),
        ("expected", |m| m["model"]["codebook_size"] = 47.into()),
    ];
    for (expected, change) in cases {
        let error =
            with_package(|p| change_json(&p.join("manifest.json"), change)).1.expect_err(expected);
        assert!(error.to_string().contains(expected), "expected {expected}, found {error}");
    }
}

#[test]
fn a_flavour_that_is_not_there_is_named() {
    let manifest = Manifest::read(&package("tiny-512")).expect("a package");
    assert!(
        "f64"
            .parse::<pocketmuse::Flavour>()
            .expect_err("unknown")
            .to_string()
            .contains("found \"f64\"")
    );
    assert!(manifest.flavours.contains_key(&pocketmuse::Flavour::F32));
}
