//! A job that is stopped after any step, stored, and resumed elsewhere gives the images of one
//! that was never stopped.

use std::ops::ControlFlow;

use image::{Rgb, RgbImage};
use pocketmuse::{
    Error, ErrorKind, Job, Origin, Output, Pipeline, Request, RngKind, Sampler, Source, Step,
    Tileable, Video, Watch,
    job::{self, State},
    video::Event,
};

use crate::support::{self, package};

const STEPS: usize = 3;

fn open(name: &str) -> Pipeline {
    support::open(&package(name), pocketmuse::Options::default())
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

/// Going on passes over all words that were drawn: a claim of many would take long.
#[test]
fn more_random_words_than_the_steps_draw_are_refused() {
    let pipeline = open("tiny-world");
    let request = request(RngKind::Torch);
    let state = stopped(&pipeline, &request, None, 1);
    let saved = serde_json::to_value(&state).expect("plain data");
    let drawn = saved["rng"]["torch"]["drawn"].as_u64().expect("a number");
    let claiming = |words: u64| {
        let mut claim = saved.clone();
        claim["rng"]["torch"]["drawn"] = words.into();
        serde_json::from_value::<State>(claim).expect("a state")
    };
    let job = |words| pipeline.job(&request, Origin::Saved(&claiming(words), None)).map(drop);
    job(drawn).expect("as it was");
    for words in [drawn + drawn / 4, 2 * drawn, 1 << 40] {
        let error = job(words).expect_err("more");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains("random words drawn, found"), "{error}");
    }
}

/// Keeps all that a job shows: the bytes of its state after every step, and how many frames were
/// finished then; and frames.
struct Keeper<'a> {
    pipeline: &'a Pipeline,
    states: Vec<(Vec<u8>, usize)>,
    frames: Vec<RgbImage>,
}

impl Watch for Keeper<'_> {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.states.push((self.pipeline.state(step).to_bytes(), self.frames.len()));
        ControlFlow::Continue(())
    }

    fn frame(&mut self, _: u32, image: RgbImage) -> ControlFlow<()> {
        self.frames.push(image);
        ControlFlow::Continue(())
    }
}

/// What a job makes, images and frames, and what was kept on the way.
fn make(pipeline: &Pipeline, job: &Job) -> (Vec<RgbImage>, Vec<(Vec<u8>, usize)>) {
    let mut keeper = Keeper { pipeline, states: Vec::new(), frames: Vec::new() };
    let output = pipeline.run(job, &mut keeper).unwrap_or_else(|error| panic!("{error}"));
    ([output.images, keeper.frames].concat(), keeper.states)
}

fn small() -> RgbImage {
    RgbImage::from_fn(48, 32, |x, y| Rgb([(5 * x) as u8, (7 * y) as u8, 90]))
}

fn video(end: bool) -> Video {
    let end = end.then(small);
    Video { frames: 3, motion: [-9.0, 4.0], remask: 0.3, end }
}

/// Every kind of job, by name.
fn kinds(pipeline: &Pipeline) -> Vec<(&'static str, Job)> {
    let (own, torch) = (request(RngKind::Own), request(RngKind::Torch));
    let one = |rng| Request { num_images_per_prompt: 1, ..request(rng) };
    let open_size = |request: &Request| Request { height: None, width: None, ..request.clone() };
    let boxed = || Source::new(small()).with_box([5, 8, 25, 20]).expect("inside");
    let extended = || boxed().extended([13, 0, 5, 9]).expect("small");
    let exact = Request { width: Some(48 + 18), height: Some(32 + 9), ..own.clone() };
    let halton = Request { sampler: Sampler::Halton, ..one(RngKind::Own) };
    let images = |request: &Request| pipeline.job(request, Origin::Nothing);
    let edit = |request: &Request, source: Source| pipeline.job(request, Origin::Image(&source));
    let film = |request: &Request, end| pipeline.video_job(request, &video(end));
    let jobs = [
        ("torch", images(&torch)),
        ("variation", images(&Request { variation: Some(0.7), ..own.clone() })),
        ("tileable", images(&Request { tileable: Tileable::Both, ..own.clone() })),
        ("image to image", edit(&torch, Source::new(small()))),
        ("mask", edit(&torch, boxed())),
        ("mask without known pixels", edit(&own, boxed().with_paste(false))),
        ("outpainting", edit(&open_size(&own), extended())),
        ("cropped outpainting", edit(&exact, extended())),
        ("video", film(&one(RngKind::Own), false)),
        ("video with torch and an end", film(&one(RngKind::Torch), true)),
        ("video in the halton order", film(&halton, true)),
    ];
    jobs.map(|(name, job)| (name, job.unwrap_or_else(|error| panic!("{name}: {error}")))).into()
}

#[test]
fn a_kill_at_any_step_of_any_kind_of_job_changes_nothing() {
    let (pipeline, elsewhere) = (open("tiny-world"), open("tiny-world"));
    for (name, job) in kinds(&pipeline) {
        let (images, states) = make(&pipeline, &job);
        assert!(!states.is_empty(), "{name}");
        for (made, (bytes, frames)) in (1..).zip(&states) {
            let state = State::from_bytes(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            let left = elsewhere.job(&state.request, Origin::Saved(&state, None));
            let left = left.unwrap_or_else(|error| panic!("{name} after {made} steps: {error}"));
            let (again, later) = make(&elsewhere, &left);
            assert!(again == images[*frames..], "{name} after {made} steps: other images");
            let later = later.into_iter().map(|(bytes, _)| bytes);
            let same = states[made..].iter().map(|(bytes, _)| bytes.clone());
            assert!(later.eq(same), "{name} after {made} steps: other states");
        }
    }
}

#[test]
fn a_video_goes_on_where_it_was() {
    let pipeline = open("tiny-world");
    let request = Request { num_images_per_prompt: 1, ..request(RngKind::Own) };
    let job = pipeline.video_job(&request, &video(false)).unwrap_or_else(|error| panic!("{error}"));
    let (images, states) = make(&pipeline, &job);
    let state = State::from_bytes(&states[4].0).expect("a job");
    let (mut steps, mut frames) = (Vec::new(), Vec::new());
    let resumed = pipeline.resume_video(&state, |event| {
        match event {
            Event::Step { frame, step } => steps.push((frame, step.step)),
            Event::Frame { frame, image } => frames.push((frame, image)),
        }
        ControlFlow::Continue(())
    });
    assert!(resumed.unwrap_or_else(|error| panic!("{error}")).images.is_empty());
    assert_eq!(steps, [(1, 2), (2, 0), (2, 1), (2, 2)]);
    assert!(frames.iter().map(|(frame, _)| *frame).eq(1..3));
    assert!(frames.into_iter().map(|(_, image)| image).eq(images[1..].iter().cloned()));

    let go = |_: &Step<'_>| ControlFlow::Continue(());
    let error = pipeline.resume(&state, None, go).expect_err("whose are the frames?");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    let job = pipeline.job(&request, Origin::Nothing).unwrap_or_else(|error| panic!("{error}"));
    let image = State::from_bytes(&make(&pipeline, &job).1[0].0).expect("a job");
    let error = pipeline.resume_video(&image, |_| ControlFlow::Continue(()));
    assert_eq!(error.expect_err("no video").kind(), ErrorKind::BadInput);
}

#[test]
fn a_state_with_anothers_image_or_video_is_refused() {
    let pipeline = open("tiny-world");
    let kinds = kinds(&pipeline);
    let states: Vec<_> = kinds
        .iter()
        .map(|(name, job)| (*name, State::from_bytes(&make(&pipeline, job).1[0].0).expect("a job")))
        .collect();
    let refused = |state: &State, expected: &str| {
        let job = pipeline.job(&state.request, Origin::Saved(state, None));
        let error = job.map(drop).expect_err(expected).to_string();
        assert!(error.contains(expected), "expected {expected}, found {error}");
    };
    for (name, state) in &states {
        for (other, another) in &states {
            let swapped = State { image: another.image.clone(), ..state.clone() };
            if swapped != *state {
                let job = pipeline.job(&swapped.request, Origin::Saved(&swapped, None));
                assert!(job.is_err(), "{name} with the image of {other}");
            }
        }
    }
    let (_, film) = states.iter().find(|(name, _)| name.contains("an end")).expect("there");
    let changed = |change: fn(&mut serde_json::Value)| -> State {
        let mut value = serde_json::to_value(film).expect("plain data");
        change(&mut value["video"]);
        serde_json::from_value(value).expect("still a state")
    };
    refused(&changed(|video| video["at"]["frame"] = 3.into()), "expected a video with a frame 3");
    refused(&changed(|video| video["frames"] = 0.into()), "frames: expected 1 to 10000, found 0");
    refused(&changed(|video| video["at"]["end"] = [1].into()), "tokens of the video's end");
    let (_, state) = states.iter().find(|(name, _)| *name == "mask").expect("there");
    let both = State { video: film.video.clone(), ..state.clone() };
    refused(&both, "expected a video or an edit, found both");
    let uncropped = Request { width: None, height: None, ..state.request.clone() };
    let found = pipeline.job(&uncropped, Origin::Saved(state, None)).map(drop);
    found.expect("sizes may be left open");
}
