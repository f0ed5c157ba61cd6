//! What a video promises: a first frame that is the image, tokens that move exactly, an end that
//! is reached, and cancel.

use std::ops::ControlFlow;

use image::{Rgb, RgbImage};
use pocketmuse::{
    ErrorKind, GuidanceSchedule, Pipeline, Request, RngKind, Sampler, Video, video::Event,
};

use crate::support::{self, package};

fn open() -> Pipeline {
    support::open(&package("tiny-world"), pocketmuse::Options::default())
}

fn request() -> Request {
    let prompt = "a red house in a meadow on a sunny day".to_owned();
    Request {
        prompt,
        seed: 2,
        num_inference_steps: Some(3),
        height: Some(64),
        width: Some(64),
        ..Request::default()
    }
}

/// The frames, and the tokens of each.
fn film(pipeline: &Pipeline, request: &Request, video: &Video) -> (Vec<RgbImage>, Vec<Vec<u32>>) {
    // A frame with nothing to draw has no step.
    let (mut frames, mut tokens, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let made = pipeline.video(request, video, |event| {
        match event {
            Event::Frame { frame, image } => {
                assert_eq!(frame as usize, frames.len());
                frames.push(image);
                tokens.push(last.clone());
            }
            Event::Step { frame, step } if step.step + 1 == step.num_inference_steps => {
                assert_eq!(frame as usize, tokens.len());
                last = step
                    .tokens
                    .iter()
                    .map(|token| token.expect("the last step"))
                    .collect::<Vec<_>>();
            }
            Event::Step { .. } => {}
        }
        ControlFlow::Continue(())
    });
    made.unwrap_or_else(|error| panic!("{error}"));
    (frames, tokens)
}

#[test]
fn frames_are_the_image_moved_and_the_same_again() {
    let pipeline = open();
    for rng in [RngKind::Own, RngKind::Torch] {
        let request = Request { rng, ..request() };
        let video = Video { frames: 5, motion: [-6.0, 3.0], remask: 0.0, ..Video::default() };
        let (frames, tokens) = film(&pipeline, &request, &video);
        let image = pipeline
            .generate(&request, |_| ControlFlow::Continue(()))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((frames.len(), &frames[0]), (5, &image.images[0]));
        // Places in tokens of 8 pixels: 0.75 and 0.375 a frame, less half a pixel, to the nearest
        // whole.
        let places = [(0, 0), (-1, 0), (-2, 1), (-2, 1), (-3, 1)];
        for (frame, (tokens, places)) in tokens.windows(2).zip(places.windows(2)).enumerate() {
            let (x, y) = (places[1].0 - places[0].0, places[1].1 - places[0].1);
            let stays = |at: i64| (0..8).contains(&at);
            for (row, column) in (0..8).flat_map(|row| (0..8).map(move |column| (row, column))) {
                if stays(row + y) && stays(column + x) {
                    let (now, before) = (row * 8 + column, (row + y) * 8 + column + x);
                    assert_eq!(
                        tokens[1][now as usize],
                        tokens[0][before as usize],
                        "frame {}, {row}, {column}",
                        frame + 1
                    );
                }
            }
        }
        assert_eq!(frames[2], frames[3], "nothing came into view");
        assert_eq!(film(&pipeline, &request, &video).0, frames, "the same seed");
    }
}

#[test]
fn a_video_ends_with_its_end() {
    let pipeline = open();
    let end = RgbImage::from_fn(64, 64, |x, y| Rgb([(4 * x) as u8, (4 * y) as u8, 90]));
    let video = Video { frames: 3, motion: [8.0, 0.0], end: Some(end.clone()), ..Video::default() };
    let (frames, _) = film(&pipeline, &request(), &video);
    let whole = Request { strength: Some(0.0), ..request() };
    let encoded =
        pipeline.edit(&whole, &pocketmuse::Source::new(end), |_| ControlFlow::Continue(()));
    assert_eq!(frames[2], encoded.unwrap_or_else(|error| panic!("{error}")).images[0]);
    assert_ne!(frames[1], frames[2]);
}

#[test]
fn a_video_can_be_stopped_between_steps_and_frames() {
    let pipeline = open();
    let video = Video { frames: 4, ..Video::default() };
    for stop in 1..9 {
        let mut moments = 0;
        let made = pipeline.video(&request(), &video, |_| {
            moments += 1;
            if moments == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(
            (made.map(|_| ()).expect_err("stopped").kind(), moments),
            (ErrorKind::Cancelled, stop)
        );
    }
}

#[test]
fn a_video_that_cannot_be_made_says_why() {
    let pipeline = open();
    type Change = fn(&mut Video, &mut Request);
    let cases: [(&str, Change); 8] = [
        (
            "motion: expected at most 56 of 64 pixels a frame, found 60,0: nothing of the frame",
            |v, _| {
                v.motion = [60.0, 0.0];
            },
        ),
        ("motion: expected at most 56 of 64 pixels a frame, found 0,-1", |v, _| {
            v.motion = [0.0, -1e9]
        }),
        ("motion: expected at most 56 of 64 pixels a frame, found NaN,0", |v, _| {
            v.motion = [f32::NAN, 0.0]
        }),
        ("frames: expected 1 to 10000, found 0", |v, _| v.frames = 0),
        ("frames: expected 1 to 10000, found 10001", |v, _| v.frames = 10_001),
        ("remask: expected a number of 0 to 1, found -0.1", |v, _| v.remask = -0.1),
        ("num_images_per_prompt: expected 1 for a video, found 2", |_, r| {
            r.num_images_per_prompt = 2
        }),
        ("strength: expected an image to edit", |_, r| r.strength = Some(0.5)),
    ];
    for (expected, change) in cases {
        let (mut video, mut request) = (Video::default(), request());
        change(&mut video, &mut request);
        let error = pipeline
            .video(&request, &video, |_| ControlFlow::Continue(()))
            .map(|_| ())
            .expect_err(expected);
        assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
    }
}

#[test]
fn a_video_primes_once_and_steps_and_decodes_every_frame() {
    let options = |staged| pocketmuse::Options { staged, ..pocketmuse::Options::default() };
    support::runtime();
    for staged in [false, true] {
        let pipeline = Pipeline::open_with(package("tiny-world"), &options(staged));
        let pipeline = pipeline.unwrap_or_else(|error| panic!("{error}"));
        let end = RgbImage::from_pixel(64, 64, Rgb([90; 3]));
        let video = Video { frames: 4, end: Some(end), ..Video::default() };
        let output = pipeline.video(&request(), &video, |_| ControlFlow::Continue(()));
        let output = output.unwrap_or_else(|error| panic!("{error}"));
        let runs: Vec<_> =
            output.report.stages.iter().map(|stage| (stage.name, stage.runs)).collect();
        let expected =
            [("encoder", 1), ("text_encoder", 1), ("prologue", 1), ("step", 4), ("decoder", 4)];
        assert_eq!(runs, expected, "staged: {staged}");
        assert!(output.images.is_empty(), "frames were handed over");
        assert_eq!(output.request.guidance_scale, Some(1.5), "the package's default is filled in");
    }
}

#[test]
fn a_video_keeps_to_the_halton_order_and_to_guidance_schedules() {
    let pipeline = open();
    let video = Video { frames: 3, motion: [8.0, 0.0], remask: 0.2, ..Video::default() };
    let mut films = Vec::new();
    for sampler in [Sampler::Confidence, Sampler::Halton] {
        use GuidanceSchedule::{Constant, Cosine, Linear};
        for guidance_schedule in [Constant, Linear, Cosine] {
            let guidance_scale = Some(4.0);
            let request = Request { sampler, guidance_schedule, guidance_scale, ..request() };
            let mut masked = vec![64];
            let mut steps = Vec::new();
            let made = pipeline.video(&request, &video, |event| {
                match event {
                    Event::Step { frame, step } => {
                        let kept = step.tokens.iter().zip(step.guess);
                        let is_kept = |(token, guess): (&_, &_)| token == guess;
                        if sampler == Sampler::Halton {
                            assert!(kept.into_iter().all(is_kept), "none is masked again");
                        }
                        steps.push((frame, step.step));
                        masked.push(step.tokens.iter().filter(|token| token.is_none()).count());
                    }
                    Event::Frame { image, .. } => films.push((sampler, guidance_schedule, image)),
                }
                ControlFlow::Continue(())
            });
            made.unwrap_or_else(|error| panic!("{error}"));
            let all = (0..3).flat_map(|frame| (0..3).map(move |step| (frame, step)));
            assert_eq!(steps, all.collect::<Vec<_>>(), "{sampler}, {guidance_schedule}");
            assert_eq!([masked[3], masked[6], masked[9]], [0; 3], "after each frame");
            let image = pipeline.generate(&request, |_| ControlFlow::Continue(()));
            let first = &films[films.len() - 3].2;
            assert_eq!(image.unwrap_or_else(|error| panic!("{error}")).images[0], *first);
        }
    }
    for (at, (sampler, schedule, image)) in films.iter().enumerate() {
        let same = films[..at].iter().find(|(_, _, other)| other == image);
        assert!(
            same.is_none(),
            "{sampler}, {schedule}: as {:?}",
            same.map(|found| (found.0, found.1))
        );
    }
}
