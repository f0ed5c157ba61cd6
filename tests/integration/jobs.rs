//! A job that is stopped after any step, stored, and resumed elsewhere gives the images of one
//! that was never stopped.

use std::ops::ControlFlow;

use image::{Rgb, RgbImage};
use pocketmuse::{
    Error, ErrorKind, Output, Pipeline, Request, RngKind, Source, Step,
    job::{self, State},
};

use crate::support::{self, package};

const STEPS: usize = 3;

fn open(name: &str) -> Pipeline {
    support::runtime();
    Pipeline::open(package(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn request(rng: RngKind) -> Request {
    Request {
        prompt: "a red robot".to_owned(),
        num_inference_steps: Some(STEPS as u32),
        height: Some(64),
        width: Some(48),
        num_images_per_prompt: 2,
        seed: 5,
        rng,
        ..Request::default()
    }
}

fn image() -> RgbImage {
    RgbImage::from_fn(96, 128, |x, y| Rgb([(2 * x) as u8, (2 * y) as u8, 90]))
}

fn run(
    pipeline: &Pipeline,
    request: &Request,
    source: Option<&Source>,
    on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> Result<Output, Error> {
    match source {
        Some(source) => pipeline.edit(request, source, on_step),
        None => pipeline.generate(request, on_step),
    }
}

/// The state after `step`, as it comes back from a file.
fn stopped(pipeline: &Pipeline, request: &Request, source: Option<&Source>, stop: usize) -> State {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("job.json");
    let result = run(pipeline, request, source, |step| {
        job::save(&pipeline.state(step), &path).expect("written");
        if step.step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(result.map(|_| ()).expect_err("stopped").kind(), ErrorKind::Cancelled);
    job::load(&path).expect("a job")
}

#[test]
fn a_stop_after_any_step_changes_nothing() {
    let pipeline = open("tiny-world");
    let mask = Source::new(image()).with_box([10, 20, 50, 60]).expect("inside");
    let sources = [None, Some(Source::new(image())), Some(mask)];
    for (source, rng) in sources.iter().zip([RngKind::Torch, RngKind::Own, RngKind::Torch]) {
        let (source, request) = (source.as_ref(), request(rng));
        let mut first = None;
        let whole = run(&pipeline, &request, source, |step| {
            first.get_or_insert(step.step);
            ControlFlow::Continue(())
        });
        let whole = whole.unwrap_or_else(|error| panic!("{error}"));
        for stop in first.expect("a step")..STEPS {
            let state = stopped(&pipeline, &request, source, stop);
            let mut steps = Vec::new();
            let elsewhere = open("tiny-world"); // another process would open it again, too
            let resumed = elsewhere.resume(&state, source, |step| {
                steps.push(step.step);
                ControlFlow::Continue(())
            });
            let resumed = resumed.unwrap_or_else(|error| panic!("{error}"));
            assert!(steps.into_iter().eq(stop + 1..STEPS), "only what is left is run");
            assert_eq!(
                (&resumed.images, &resumed.request),
                (&whole.images, &whole.request),
                "after step {stop}"
            );
        }
    }
}

#[test]
fn a_state_that_does_not_belong_here_is_refused() {
    let pipeline = open("tiny-world");
    let source = Source::new(image());
    let state = stopped(&pipeline, &request(RngKind::Own), Some(&source), STEPS - 1);
    let refused = |pipeline: &Pipeline, state: &State, source: Option<&Source>, expected: &str| {
        let error = pipeline
            .resume(state, source, |_| ControlFlow::Continue(()))
            .map(|_| ())
            .expect_err(expected);
        assert!(error.to_string().contains(expected), "expected {expected}, found {error}");
    };
    refused(&pipeline, &state, None, "expected the image and mask");
    refused(
        &pipeline,
        &state,
        Some(&Source::new(RgbImage::new(96, 128))),
        "expected the image and mask",
    );
    let other = open("tiny-256");
    let state_of_another = State {
        request: Request { height: None, width: None, ..state.request.clone() },
        ..state.clone()
    };
    refused(&other, &state_of_another, Some(&source), "expected the package");
    type Change = fn(&mut State);
    let cases: [(&str, Change); 7] = [
        ("expected a step up to 3", |s| s.next_step = 4),
        ("expected a step up to 3", |s| s.tokens.push(None)),
        ("expected tokens below 2048, found 2048", |s| s.tokens[3] = Some(2048)),
        ("expected no masked token after the last step", |s| {
            (s.next_step, s.tokens[0]) = (STEPS, None)
        }),
        ("expected the generator own, found torch", |s| {
            s.rng = pocketmuse::Rng::new(RngKind::Torch, 1)
        }),
        ("num_inference_steps: expected 1 to", |s| s.request.num_inference_steps = Some(0)),
        ("expected the image and mask", |s| s.request.width = Some(64)),
    ];
    for (expected, change) in cases {
        let mut changed = state.clone();
        change(&mut changed);
        refused(&pipeline, &changed, Some(&source), expected);
    }
}
