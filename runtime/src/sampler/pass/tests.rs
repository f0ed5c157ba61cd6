//! Variations, without a model: two passes over one canvas.

use pocketmuse_package::MaskingSchedule;

use super::*;
use crate::{
    request::{Request, job::Saved},
    sampler::BadLogits,
};

const CODES: usize = 64;
const CELLS: usize = 256;
const STEPS: usize = 12;

/// Draws the token that says how often it was told of a step before the one at hand.
#[derive(Default)]
struct Counting {
    begun: usize,
    logits: Vec<f32>,
}

impl Predict for Counting {
    type Error = BadLogits;

    fn begin(&mut self, _: usize) {
        self.begun += 1;
    }

    fn predict(
        &mut self,
        _: usize,
        _: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], BadLogits> {
        let row = |_| (0..CODES).map(|code| if code + 1 == self.begun { 1e4 } else { 0.0 });
        self.logits = positions.iter().flat_map(row).collect();
        Ok(&self.logits)
    }
}

fn job(variation: f64, images: u32, masking: MaskingSchedule) -> Job {
    let request = Request {
        seed: 5,
        num_images_per_prompt: images,
        num_inference_steps: Some(STEPS as u32),
        masking_schedule: Some(masking),
        variation: Some(variation),
        variation_of: 1,
        ..Request::default()
    };
    let mut manifest = crate::request::tests::manifest();
    (manifest.model.codebook_size, manifest.model.sample_size) = (CODES as u32, 16);
    Job::new(&request, &manifest).expect("fits")
}

/// The job when so many steps are made, with these tokens.
fn resume(job: &Job, next_step: usize, tokens: Vec<Option<u32>>) -> Job {
    Job { saved: Some(Saved { next_step, tokens, ..Saved::default() }), ..job.clone() }
}

/// Runs all that is left of a job, until `on_step` breaks. Returns the last tokens.
fn run_all(
    job: &Job,
    model: &mut Counting,
    mut on_step: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Vec<Option<u32>> {
    let mut canvas = match &job.saved {
        Some(saved) => Canvas::saved(job, saved),
        None => Canvas::masked(job),
    };
    let generator = canvas.rng.clone();
    for pass in job.passes() {
        let flow = run(model, (job, &pass), &mut canvas, |_, progress| {
            assert_eq!(*progress.rng, generator, "the job's own, whatever a pass draws with");
            on_step(progress)
        });
        if flow.expect("good logits").is_break() {
            break;
        }
    }
    canvas.tokens
}

/// The tokens after every step, and the last.
fn steps(job: &Job) -> (Vec<Vec<Option<u32>>>, Vec<Option<u32>>) {
    let mut steps = Vec::new();
    let last = run_all(job, &mut Counting::default(), |progress| {
        assert_eq!(progress.step, steps.len(), "every step has its number");
        assert_eq!(progress.guess.len(), progress.tokens.len());
        steps.push(progress.tokens.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!(steps.len(), job.steps());
    (steps, last)
}

#[test]
fn what_is_masked_is_drawn_anew_and_the_rest_is_kept() {
    let chance =
        |uniform: f64| uniform < f64::from((std::f32::consts::PI / 2.0 * 9.0 / 12.0).cos());
    // Three of twelve steps, so a chance of cos(pi / 2 * 9 / 12).
    let job = job(0.3, 3, MaskingSchedule::Cosine);
    let (steps, tokens) = steps(&job);
    let original = &steps[STEPS - 1];
    assert!(original[..CELLS] == original[CELLS..2 * CELLS] && steps.len() == STEPS + 3);
    let rng = Philox::new(5).child(Purpose::Variation, 0);
    let mut kept = Vec::new();
    for (image, variation) in tokens.chunks(CELLS).enumerate() {
        for (position, token) in variation.iter().enumerate() {
            let is_redone = chance(rng.uniform(Purpose::Noise, image, 9, position));
            let code = token.expect("none is left masked");
            assert_eq!(code as usize >= STEPS, is_redone, "image {image}, position {position}");
            assert!(is_redone || original[position] == *token);
        }
        kept.push(
            variation
                .iter()
                .filter(|code| code.is_some_and(|code| (code as usize) < STEPS))
                .count(),
        );
    }
    assert!(
        kept.iter().all(|kept| kept.abs_diff(158) < 24) && kept[0] != kept[1],
        "{kept:?} of {CELLS}"
    ); // three sigma
}

#[test]
fn nothing_is_redone_by_none_and_everything_by_all() {
    for masking in [MaskingSchedule::Cosine, MaskingSchedule::Linear] {
        for (variation, redone) in [(0.0, 0), (0.08, 0), (1.0, 2 * CELLS)] {
            let (steps, tokens) = steps(&job(variation, 2, masking));
            let found = tokens
                .iter()
                .filter(|code| code.is_some_and(|code| code as usize >= STEPS))
                .count();
            assert_eq!(found, redone, "{variation}");
            assert!(redone > 0 || tokens == steps[STEPS - 1]);
        }
    }
}

#[test]
fn goes_on_after_any_step() {
    let job = job(0.5, 2, MaskingSchedule::Cosine);
    let (steps, whole) = steps(&job);
    for (made, tokens) in (1..).zip(steps) {
        let mut model = Counting { begun: made, ..Counting::default() };
        let rest = resume(&job, made, tokens);
        let mut next = made;
        let last = run_all(&rest, &mut model, |progress| {
            assert_eq!(progress.step, next);
            next += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((last == whole, next), (true, job.steps()), "after {made} steps");
    }
}

#[test]
fn stops_when_asked_and_tells_of_every_image_what_is_drawn() {
    let job = job(0.5, 3, MaskingSchedule::Cosine);
    for stop in [1, STEPS] {
        let (mut told, mut model) = (0, Counting::default());
        run_all(&job, &mut model, |progress| {
            told += 1;
            let Progress { step, guess, probabilities, .. } = *progress;
            assert_eq!((guess.len(), probabilities.len()), (3 * CELLS, 3 * CELLS));
            assert!(guess.iter().all(Option::is_some), "every token has a guess after a step");
            let drawn = probabilities
                .chunks(CELLS)
                .map(|image| image.iter().filter(|probability| **probability < f32::MAX).count());
            assert!(drawn.into_iter().all(|drawn| drawn > 0), "in step {step}");
            let alike = guess[..CELLS] == guess[CELLS..2 * CELLS];
            assert_eq!(alike, step < STEPS, "one image until it is varied");
            if step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((told, model.begun), (stop + 1, stop + 1));
    }
}
