//! Variations resemble the image that they vary, as much as was asked for, and come again.

use std::ops::ControlFlow;

use image::RgbImage;
use pocketmuse::{ErrorKind, Flavour, Pipeline, Request, Sampler, Source, Video, job::State};

use crate::support::open_flavour;

fn request() -> Request {
    Request {
        prompt: "a red robot in the snow".to_owned(),
        seed: 7,
        num_inference_steps: Some(8),
        ..Request::default()
    }
}

fn varied(variation: f64, images: u32) -> Request {
    Request { variation: Some(variation), num_images_per_prompt: images, ..request() }
}

/// The images, and what the job was after each step.
fn run(pipeline: &Pipeline, request: &Request) -> (Vec<RgbImage>, Vec<State>) {
    let mut states = Vec::new();
    let output = pipeline.generate(request, |step| {
        let all = step.images * step.height * step.width;
        assert_eq!(
            (step.images as u32, step.tokens.len(), step.guess.len()),
            (request.num_images_per_prompt, all, all)
        );
        states.push(pipeline.state(step));
        ControlFlow::Continue(())
    });
    let output = output.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(output.request.variation, request.variation);
    (output.images, states)
}

fn images(pipeline: &Pipeline, request: &Request) -> Vec<RgbImage> {
    run(pipeline, request).0
}

/// int8 cannot tip here: both images are made on one machine, of the same tokens.
#[test]
fn no_variation_is_the_image_itself() {
    for flavour in [Flavour::F32, Flavour::Int8] {
        let pipeline = open_flavour(flavour);
        let both = images(&pipeline, &Request { num_images_per_prompt: 2, ..request() });
        for (of, image) in (0..).zip(&both) {
            let found = images(&pipeline, &Request { variation_of: of, ..varied(0.0, 2) });
            assert!(found == [image.clone(), image.clone()], "{flavour}: picture {of}");
        }
    }
    let pipeline = open_flavour(Flavour::F32);
    for other in [
        Request { sampler: Sampler::Halton, ..request() },
        Request { guidance_scale: Some(1.0), height: Some(64), width: Some(96), ..request() },
    ] {
        let second =
            images(&pipeline, &Request { num_images_per_prompt: 2, ..other.clone() }).remove(1);
        assert!(
            images(&pipeline, &Request { variation: Some(0.0), variation_of: 1, ..other })
                == [second]
        );
    }
}

#[test]
fn a_share_of_the_tokens_is_drawn_anew() {
    let pipeline = open_flavour(Flavour::F32);
    let cells = 256;
    let mut changed = Vec::new();
    for (variation, steps) in [(0.25, 2), (0.5, 4), (1.0, 8)] {
        let (made, states) = run(&pipeline, &varied(variation, 3));
        assert_eq!(states.len(), 8 + steps);
        let base = &states[7].tokens;
        assert!(
            base.chunks(cells).all(|tokens| tokens == &base[..cells] && !tokens.contains(&None))
        );
        let last = &states.last().expect("steps").tokens;
        let mut all = 0;
        for (image, tokens) in last.chunks(cells).enumerate() {
            // Only what was masked before the first of them, each token with this chance.
            let differ = tokens.iter().zip(base).filter(|(now, before)| now != before).count();
            let chance = (std::f64::consts::PI / 2.0 * (8 - steps) as f64 / 8.0).cos();
            let most =
                chance * cells as f64 + 4.0 * (chance * (1.0 - chance) * cells as f64).sqrt();
            assert!(
                differ > 0 && differ as f64 <= most,
                "{variation}: {differ} of at most {most} in {image}"
            );
            all += differ;
        }
        changed.push(all);
        assert!(made[0] != made[1] && made[1] != made[2] && made[0] != made[2]);
        let alone = images(&pipeline, &varied(variation, 1));
        assert!(alone == made[..1], "a variation does not depend on how many there are");
        assert!(made == images(&pipeline, &varied(variation, 3)), "and comes again");
    }
    assert!(
        changed.is_sorted() && changed[2] > 2 * changed[0],
        "the more, the less it resembles: {changed:?}"
    );
    let other = images(&pipeline, &Request { seed: 8, ..varied(1.0, 1) });
    assert!(
        other != images(&pipeline, &varied(1.0, 1))
            && other != images(&pipeline, &Request { seed: 8, ..request() })
    );
}

#[test]
fn a_stop_after_any_step_changes_nothing() {
    let pipeline = open_flavour(Flavour::F32);
    let request = Request { num_inference_steps: Some(4), variation_of: 1, ..varied(0.5, 2) };
    let (whole, states) = run(&pipeline, &request);
    assert_eq!(states.len(), 6);
    for (made, state) in (1..).zip(&states) {
        let mut next = made;
        let resumed = pipeline.resume(state, None, |step| {
            assert_eq!((step.step, step.num_inference_steps), (next, 6));
            next += 1;
            ControlFlow::Continue(())
        });
        assert!(
            resumed.unwrap_or_else(|error| panic!("{error}")).images == whole,
            "after {made} steps"
        );
        assert_eq!(next, 6);
    }
    let wrong = State { next_step: 7, ..states[5].clone() };
    let error =
        pipeline.resume(&wrong, None, |_| ControlFlow::Continue(())).expect_err("no such step");
    assert_eq!(error.kind(), ErrorKind::BadInput);
}

#[test]
fn what_cannot_be_varied_is_refused() {
    let pipeline = open_flavour(Flavour::F32);
    let refused = |result: Result<(), pocketmuse::Error>| {
        let error = result.expect_err("refused");
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "variation"), "{error}");
    };
    let go = || ControlFlow::Continue(());
    let source = Source::new(RgbImage::new(64, 64));
    refused(pipeline.edit(&varied(0.3, 1), &source, |_| go()).map(drop));
    refused(pipeline.trace(&varied(0.3, 1), None, |_| go()).map(drop));
    refused(pipeline.video(&varied(0.3, 1), &Video::default(), |_| go()).map(drop));
    refused(pipeline.generate(&varied(-0.1, 1), |_| go()).map(drop));
    let stopped = pipeline.generate(&varied(0.3, 1), |_| ControlFlow::Break(()));
    assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
}
