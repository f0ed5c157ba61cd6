//! Looking inside changes nothing, and what is seen there is what happened.

use std::{fs, ops::ControlFlow, path::Path};

use pocketmuse::{
    ErrorKind, Flavour, GuidanceSchedule, Options, Pipeline, Request, Sampler, Source, Trace,
    job::State, pixels,
};

use crate::support::{self, fixture, flavoured_package};

fn open(package: &Path, flavour: Flavour) -> Pipeline {
    support::open(package, Options { flavour: Some(flavour), ..Options::default() })
}

fn request() -> Request {
    Request {
        prompt: "a red lighthouse by the sea, at sunset".to_owned(),
        seed: 7,
        num_inference_steps: Some(4),
        num_images_per_prompt: 2,
        ..Request::default()
    }
}

/// What comes of `request` with a trace, checked to be what comes of it without, step by step.
fn traced(pipeline: &Pipeline, request: &Request, source: Option<&Source>) -> Trace {
    let (mut seen, mut plain): (Vec<State>, Vec<State>) = Default::default();
    let (output, trace) = pipeline
        .trace(request, source, |step| {
            seen.push(pipeline.state(step));
            ControlFlow::Continue(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let watch = |step: &pocketmuse::Step<'_>| {
        plain.push(pipeline.state(step));
        ControlFlow::Continue(())
    };
    let untraced = match source {
        Some(source) => pipeline.edit(request, source, watch),
        None => pipeline.generate(request, watch),
    };
    assert_eq!(seen, plain, "tokens and generator after every step");
    assert_eq!(output.images, untraced.unwrap_or_else(|error| panic!("{error}")).images);
    for (image, steps) in trace.images.iter().enumerate() {
        assert_eq!(steps.len(), plain.len());
        for (step, state) in steps.iter().zip(&plain) {
            let cells = trace.grid[0] * trace.grid[1];
            assert_eq!(step.tokens, state.tokens[image * cells..][..cells]);
        }
    }
    trace
}

/// Checks what must hold in every trace that has attention.
fn check(trace: &Trace, codes: f32) {
    let cells = trace.grid[0] * trace.grid[1];
    for (image, steps) in trace.images.iter().enumerate() {
        let mut masked = None;
        for step in steps {
            let drawn = step.confidence.iter().flatten();
            assert!(drawn.clone().all(|value| (0.0..=1.0).contains(value) && *value > 0.0));
            assert!(
                step.entropy
                    .iter()
                    .flatten()
                    .all(|bits| (0.0..=codes.log2() + 1e-3).contains(bits))
            );
            let asked =
                |values: &[Option<f32>]| values.iter().map(Option::is_some).collect::<Vec<_>>();
            assert_eq!(
                asked(&step.confidence),
                asked(&step.entropy),
                "what is drawn was asked for"
            );
            if let Some(masked) = masked {
                assert_eq!(drawn.count(), masked, "what was masked is drawn");
            }
            masked = Some(step.tokens.iter().filter(|token| token.is_none()).count());
            assert_eq!(step.words.len(), trace.words.len());
            let words = step
                .words
                .iter()
                .map(|map| map.iter().sum::<f32>() / map.len() as f32)
                .sum::<f32>();
            let whole = words + step.rest.begin + step.rest.end + step.rest.padding;
            // Means of softmaxes over 77 tokens in f32: a thousand roundings of 6e-8 at most.
            assert!((whole - 1.0).abs() < 1e-4, "attention sums to 1: {whole}");
            assert!(
                step.words
                    .iter()
                    .all(|map| map.len() == trace.attention_grid[0] * trace.attention_grid[1])
            );
        }
        assert_eq!(trace.fixed(image).len(), cells);
        let mean = (0..trace.words.len()).filter_map(|word| trace.share(image, word)).sum::<f32>();
        // Ten times as loose: a share is divided by its mean.
        assert!((mean - trace.words.len() as f32).abs() < 1e-3, "shares are 1 on average: {mean}");
    }
}

/// No flavour can tip here: its images are compared with each other on one machine, and the object
/// counts for 6 times as much as its article in each, where 2 are asked for. Other kernels move
/// that by hundredths.
#[test]
fn a_trace_changes_no_image_in_any_flavour() {
    for flavour in [Flavour::F32, Flavour::Int8, Flavour::Int4] {
        let pipeline = open(&flavoured_package(flavour), flavour);
        let trace = traced(&pipeline, &request(), None);
        assert!(trace.has_attention);
        assert_eq!((trace.images.len(), trace.grid, trace.attention_grid), (2, [16, 16], [8, 8]));
        check(&trace, 2048.0);
        let texts: Vec<_> = trace.words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(texts, ["a", "red", "lighthouse", "by", "the", "sea", ",", "at", "sunset"]);
        let [article, object] = [0, 2].map(|word| trace.share(0, word).expect("a share"));
        println!("{flavour}: shares of {article:.2} for the article, {object:.2} for the object");
        assert!(object > 2.0 * article, "{flavour}: the object counts for more than its article");
    }
}

#[test]
fn every_way_to_make_an_image_can_be_traced() {
    let pipeline = open(&flavoured_package(Flavour::F32), Flavour::F32);
    let unguided = Request { guidance_scale: Some(1.0), ..request() };
    check(&traced(&pipeline, &unguided, None), 2048.0);
    let growing = Request {
        guidance_schedule: GuidanceSchedule::Linear,
        height: Some(64),
        width: Some(96),
        ..request()
    };
    let trace = traced(&pipeline, &growing, None);
    assert_eq!((trace.grid, trace.attention_grid), ([8, 12], [4, 6]));
    check(&trace, 2048.0);

    let weighted = Request { prompt: "a (red:1.3) lighthouse".to_owned(), ..request() };
    let weighted = Request { prompt_weighting: true, num_images_per_prompt: 1, ..weighted };
    let trace = traced(&pipeline, &weighted, None);
    let texts: Vec<_> = trace.words.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(texts, ["a", "red", "lighthouse"], "a weight is no word");
    check(&trace, 2048.0);

    let halton = traced(&pipeline, &Request { sampler: Sampler::Halton, ..request() }, None);
    let drawn = halton.images[0].iter().map(|step| step.confidence.iter().flatten().count());
    assert_eq!(drawn.sum::<usize>(), 256, "each token is drawn once");

    let image = pixels::read(&fixture("tiny-world/inpaint-0.input.png")).expect("a fixture").image;
    let source = Source::new(image).with_box([32, 32, 64, 64]).expect("inside");
    let trace =
        traced(&pipeline, &Request { prompt: "a balloon".to_owned(), ..request() }, Some(&source));
    let fixed = trace.fixed(0).into_iter().flatten().count();
    assert_eq!(fixed, 64, "what was not repainted was known before");
    check(&trace, 2048.0);
    let nothing = traced(
        &pipeline,
        &Request { strength: Some(0.0), ..request() },
        Some(&Source::new(
            pixels::read(&fixture("tiny-world/inpaint-0.input.png")).expect("a fixture").image,
        )),
    );
    assert_eq!(
        (nothing.images[0].len(), nothing.share(0, 0)),
        (0, None),
        "no step, nothing to see"
    );
}

#[test]
fn what_is_left_of_a_job_is_traced_as_it_would_have_been() {
    let pipeline = open(&flavoured_package(Flavour::F32), Flavour::F32);
    let image = pixels::read(&fixture("tiny-world/inpaint-0.input.png")).expect("a fixture").image;
    for source in [None, Some(Source::new(image))] {
        let (mut states, source) = (Vec::new(), source.as_ref());
        let whole = pipeline.trace(&request(), source, |step| {
            states.push(pipeline.state(step));
            ControlFlow::Continue(())
        });
        let (output, whole) = whole.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(whole.unseen_steps, 0);
        for (made, state) in (1..).zip(&states) {
            let resumed = pipeline.trace_resumed(state, source, |_| ControlFlow::Continue(()));
            let (again, part) = resumed.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((again.images == output.images, part.unseen_steps), (true, made));
            for (part, whole) in part.images.iter().zip(&whole.images) {
                assert_eq!(part[..], whole[made..], "the steps after the first {made}");
            }
            assert_eq!(part.images.len(), 2);
        }
        assert!(!states.is_empty());
    }
}

#[test]
fn stops_when_asked_and_fails_as_generate_does() {
    let pipeline = open(&flavoured_package(Flavour::F32), Flavour::F32);
    let stopped = pipeline.trace(&request(), None, |_| ControlFlow::Break(()));
    assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
    for wrong in
        [Request { height: Some(17), ..request() }, Request { strength: Some(0.5), ..request() }]
    {
        let refused = pipeline.trace(&wrong, None, |_| ControlFlow::Continue(()));
        assert_eq!(refused.expect_err("wrong").kind(), ErrorKind::BadRequest);
    }
}

#[test]
fn a_package_without_attention_is_traced_without_maps() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = folder.path().join("package");
    support::link_folder(&flavoured_package(Flavour::F32), &package);
    support::change_json(&package.join("manifest.json"), |manifest| {
        let taps =
            manifest["flavours"]["f32"]["stages"]["step"]["taps"].as_object_mut().expect("taps");
        taps.retain(|name, _| !name.starts_with("attention."));
    });
    assert!(
        !fs::read_to_string(package.join("manifest.json")).expect("read").contains("attention.")
    );
    let trace = traced(&open(&package, Flavour::F32), &request(), None);
    assert!(!trace.has_attention && trace.share(0, 0).is_none());
    let step = &trace.images[1][3];
    assert!(step.words.is_empty() && step.tokens.iter().all(Option::is_some));
    assert!(step.entropy.iter().flatten().count() > 0);
}
