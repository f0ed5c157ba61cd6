//! What a caller relies on: the same seed gives the same image, cancel is answered, threads are
//! safe, bad packages and bad requests say what is wrong.

use std::{fs, ops::ControlFlow, path::Path, thread};

use image::RgbImage;
use pocketmuse::{
    Error, ErrorKind, GuidanceSchedule, Manifest, MaskingSchedule, Options, Origin, Output,
    Pipeline, Prediction, Request, Sampler, Source, Step, Temperature, Video, Watch,
    internals::{Predict as _, Predictor},
};
use tempfile::TempDir;

use crate::{
    likeness::{load, relative},
    support::{self, change_json, link_folder, package, replace},
};

fn open(threads: usize) -> Pipeline {
    let options = Options { threads: Some(threads), ..Options::default() };
    support::open(&package("tiny-world"), options)
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
fn same_seed_same_image_whatever_the_threads() {
    let (one, two) = (open(1), open(2));
    let image = generate(&one, &request(7)).images;
    assert_eq!(generate(&one, &request(7)).images, image, "twice");
    assert_eq!(generate(&two, &request(7)).images, image, "with two threads");
    assert_ne!(generate(&one, &request(8)).images, image, "another seed");
}

#[test]
fn a_step_without_guidance_heeds_the_prompt_alone() {
    let pipeline = open(2);
    let mut predictor: Predictor = load(&pipeline);
    let (shown, all) = (vec![None; 256], (0..256).collect::<Vec<_>>());
    let mut first_step = |request: &Request| {
        let prompt = pipeline.prompt(request).expect("a prompt");
        let mut prompted = prompt.with(&mut predictor).expect("as many weights as prompts");
        prompted.begin(0);
        prompted.predict(0, &shown, &all).expect("logits").to_vec()
    };
    let negative_prompt = "a blue car".to_owned();
    let late = Request {
        negative_prompt,
        guidance_scale: Some(4.0),
        guidance_schedule: GuidanceSchedule::Late,
        ..request(1)
    };
    let found = first_step(&late);
    // The negative prompt is asked here, for a millionth of what it says.
    let constant = GuidanceSchedule::Constant;
    let hardly = Request { guidance_scale: Some(1.000_001), guidance_schedule: constant, ..late };
    let away = relative(&found, &first_step(&hardly));
    assert!(away < 1e-4, "{away}");
    let guided = Request { guidance_scale: Some(4.0), ..hardly };
    assert!(relative(&found, &first_step(&guided)) > 0.05, "another with guidance");
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
    let image = |request: &Request| generate(&pipeline, request).images;
    let plain = image(&with("a red lighthouse by the sea at sunset"));
    assert_eq!(
        image(&with("a (red:1.0) lighthouse by the (sea:1) at sunset")),
        plain,
        "weights of one"
    );
    let weighted = with("a (red:1.6) lighthouse by the [sea] at (sunset:0)");
    assert_ne!(image(&weighted), plain);
    assert_eq!(image(&weighted), image(&weighted), "with texts that were kept");
    assert_ne!(image(&Request { prompt_weighting: false, ..weighted.clone() }), image(&weighted));
    let escaped = image(&with(r"a \(red\) lighthouse"));
    assert_eq!(escaped, image(&Request { prompt_weighting: false, ..with("a (red) lighthouse") }));
    let many: String = (0..40).map(|index| format!("red (sea:1.{index}1) ")).collect();
    let against = Request { negative_prompt: "fog (sea:0.5)".to_owned(), ..with(&many) };
    assert_eq!(image(&against), image(&against), "more texts than are kept");
    let traced = pipeline.trace(&weighted, None, |_| ControlFlow::Continue(()));
    let (output, trace) = traced.unwrap_or_else(|error| panic!("{error}"));
    let words: Vec<_> = trace.words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(
        words,
        ["a", "red", "lighthouse", "by", "the", "sea", "at", "sunset"],
        "as the model reads them"
    );
    assert_eq!(output.images, image(&weighted));
    let error = refused(&pipeline, &with("a ((red:10)) house")).to_string();
    assert!(
        error.starts_with("prompt: expected weights of 0 to 10, found 11 at byte 3: "),
        "{error}"
    );
    assert!(error.ends_with("without prompt_weighting all brackets are"), "{error}");
}

#[test]
fn every_value_of_a_request_has_an_effect() {
    let pipeline = open(1);
    let image = generate(&pipeline, &request(5)).images;
    type Change = fn(&mut Request);
    let changes: [(&str, Change); 14] = [
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
        ("guidance_schedule late", |r| r.guidance_schedule = GuidanceSchedule::Late),
        ("aesthetic_score", |r| r.aesthetic_score = -300.0),
        ("crop_coordinates", |r| r.crop_coordinates = [500, 900]),
    ];
    for (name, change) in changes {
        let mut request = request(5);
        change(&mut request);
        assert_ne!(generate(&pipeline, &request).images, image, "{name}");
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

/// A changed copy of the package of `tiny-512`, and what opening it and making an image gives.
fn with_package(change: impl FnOnce(&Path)) -> (TempDir, Result<(), Error>) {
    support::runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("package");
    link_folder(&package("tiny-512"), &copy);
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
            replace(&path, &bytes);
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
        let is_newer = expected.contains("newer");
        let kind = if is_newer { ErrorKind::PackageTooNew } else { ErrorKind::PackageDamaged };
        assert_eq!(error.kind(), kind, "{error}");
    }
    let error = with_package(|p| fs::remove_file(p.join("manifest.json")).expect("removed"))
        .1
        .expect_err("no manifest");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
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

#[test]
fn a_callback_that_runs_another_job_is_told_so() {
    let pipeline = open(1);
    let go_on = |_: &Step<'_>| ControlFlow::Continue(());
    let source = Source::new(RgbImage::new(128, 128));
    let alone = generate(&pipeline, &request(7)).images;
    let mut refused = Vec::new();
    let output = pipeline.generate(&request(7), |step| {
        let state = pipeline.state(step);
        let job = pipeline.job(&request(8), Origin::Nothing).expect("checks run nothing");
        let results = [
            pipeline.generate(&request(8), go_on).map(drop),
            pipeline.edit(&request(8), &source, go_on).map(drop),
            pipeline.resume(&state, None, go_on).map(drop),
            pipeline.run(&job, &mut { go_on }).map(drop),
            pipeline.trace(&request(8), None, go_on).map(drop),
            pipeline.video(&request(8), &Video::default(), |_| ControlFlow::Continue(())).map(drop),
        ];
        refused.extend(results.map(|result| result.expect_err("it would wait for ever")));
        assert!(pipeline.plan(&request(8)).is_ok(), "a plan loads nothing");
        assert!(pipeline.preview().is_ok_and(|preview| preview.is_some()), "nor does a preview");
        ControlFlow::Continue(())
    });
    assert_eq!(output.unwrap_or_else(|error| panic!("{error}")).images, alone, "and goes on");
    assert_eq!(refused.len(), 4 * 6);
    for error in refused {
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "pipeline"), "{error}");
        assert!(error.detail().contains("from within it"), "{error}");
    }
    assert_eq!(generate(&pipeline, &request(7)).images, alone, "afterwards it can be used");
}

#[test]
fn jobs_of_other_threads_wait_for_the_one_that_runs() {
    let pipeline = open(1);
    let alone = generate(&pipeline, &request(8)).images;
    let mut done = 0;
    thread::scope(|scope| {
        let mut others = Vec::new();
        let output = pipeline.generate(&request(7), |_| {
            done += 1;
            others.push(scope.spawn(|| generate(&pipeline, &request(8)).images));
            ControlFlow::Continue(())
        });
        assert!(output.is_ok());
        for other in others {
            assert_eq!(other.join().expect("no panic"), alone);
        }
    });
    assert_eq!(done, 4);
}

#[test]
fn a_job_is_the_same_whatever_front_made_it() {
    let pipeline = open(1);
    let go_on = |_: &Step<'_>| ControlFlow::Continue(());
    let job = |request: &Request, origin: Origin<'_>| {
        pipeline.job(request, origin).unwrap_or_else(|error| panic!("{error}"))
    };
    let run = |request: &Request, origin: Origin<'_>| {
        let output = pipeline.run(&job(request, origin), &mut { go_on });
        output.unwrap_or_else(|error| panic!("{error}"))
    };
    let source = Source::new(RgbImage::from_fn(96, 64, |x, y| image::Rgb([x as u8, y as u8, 9])));
    for (request, source) in [
        (request(3), None),
        (Request { num_images_per_prompt: 2, ..request(3) }, None),
        (request(3), Some(source.clone())),
        (request(3), Some(source.with_box([0, 0, 32, 32]).expect("inside"))),
        (Request { variation: Some(0.5), num_images_per_prompt: 2, ..request(3) }, None),
    ] {
        let origin = Origin::image(source.as_ref());
        let made = job(&request, origin);
        assert_eq!(job(made.request(), origin), made, "with every default filled in");
        let mut states = Vec::new();
        let watch = |step: &Step<'_>| {
            states.push(pipeline.state(step));
            assert_eq!(step.request, made.request());
            assert_eq!(step.num_inference_steps, made.steps());
            ControlFlow::Continue(())
        };
        let front = match &source {
            Some(source) => pipeline.edit(&request, source, watch),
            None => pipeline.generate(&request, watch),
        };
        let front = front.unwrap_or_else(|error| panic!("{error}"));
        let output = run(&request, origin);
        assert_eq!((output.images, output.request), (front.images.clone(), made.request().clone()));
        let state = &states[1];
        let saved = Origin::Saved(state, source.as_ref());
        assert_eq!(job(&request, saved), job(&state.request, saved));
        assert_eq!(run(&request, saved).images, front.images);
        assert_eq!(job(&request, saved).steps_made(), 2);
        let other = Request { seed: 4, ..request.clone() };
        let error = pipeline.job(&other, saved).expect_err("another request");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().ends_with("expected the request that was saved, found another"));
    }
}

/// Counts what it is told.
#[derive(Default)]
struct Counts {
    predictions: usize,
    rows: usize,
    steps: usize,
}

impl Watch for Counts {
    fn wants_predictions(&self) -> bool {
        true
    }

    fn prediction(&mut self, prediction: &Prediction<'_>) {
        self.predictions += 1;
        self.rows += prediction.positions.len();
        assert_eq!(prediction.logits.len(), 2048 * prediction.positions.len());
        let attention = prediction.attention.expect("this package has it");
        let sum = attention.rows[0].iter().sum::<f32>();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}"); // f32 sums of 77 softmax values
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.steps += 1;
        let drawn = step.probabilities.iter().filter(|probability| **probability < f32::MAX);
        assert_eq!(drawn.count() + self.known(step), step.tokens.len());
        ControlFlow::Continue(())
    }
}

impl Counts {
    /// Tokens that were known before a step.
    fn known(&mut self, step: &Step<'_>) -> usize {
        step.tokens.len() - std::mem::take(&mut self.rows)
    }
}

#[test]
fn whoever_wants_predictions_gets_them_and_changes_nothing() {
    let pipeline = open(1);
    for (request, predictions) in [
        (Request { num_images_per_prompt: 2, ..request(7) }, 8),
        (Request { sampler: Sampler::Halton, ..request(7) }, 4),
        (Request { variation: Some(0.5), ..request(7) }, 4 + 2),
        (Request { tileable: pocketmuse::Tileable::Across, ..request(7) }, 4),
    ] {
        let job = pipeline.job(&request, Origin::Nothing).expect("fits");
        let mut counts = Counts::default();
        let output = pipeline.run(&job, &mut counts).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(output.images, generate(&pipeline, &request).images);
        assert_eq!((counts.predictions, counts.steps), (predictions, job.steps()));
    }
}
