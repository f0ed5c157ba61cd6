//! Variations: the picture of a request is made again as tokens, and a share of that work is done
//! anew with other random numbers for each variation, as an edit does it. Knows no network; see
//! [`Request::variation`].
//!
//! [`Request::variation`]: crate::Request::variation

use std::ops::ControlFlow;

use crate::{
    request::Resolved,
    request::source::noised,
    sampler::rng::{Philox, Purpose, Rng},
    sampler::{self, Predict, Schedule},
};

/// As [`sampler::sample`], for a job that varies a picture: all steps of the picture, which is one
/// for all variations, and then those from `redone_from` on once more.
///
/// `tokens` are those of all variations; while the picture is made they are the same for each.
/// `on_step` is told the number of the step among all that the job has; `job.schedule.first_step`
/// counts like that, too.
pub(crate) fn sample<P: Predict>(
    model: &mut P,
    tokens: &mut [Option<u32>],
    (job, redone_from): (&Resolved, usize),
    mut on_step: impl FnMut(usize, &[Option<u32>]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, P::Error> {
    let (schedule, images) = (&job.schedule, job.images());
    let own = Philox::new(job.request.seed);
    if schedule.first_step < schedule.steps {
        let mut picture = tokens[..job.cells()].to_vec();
        let mut rng = Rng::Own(own.from_image(job.request.variation_of as usize));
        let watch = |step, picture: &[_], _: &Rng| on_step(step, &picture.repeat(images));
        let mut model = OneForAll { model, images };
        if sampler::sample(&mut model, &mut picture, 1, schedule, &mut rng, watch)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        tokens.copy_from_slice(&picture.repeat(images));
    }
    let mut rng = Rng::Own(own.child(Purpose::Variation, 0));
    let redone = schedule.first_step.saturating_sub(schedule.steps);
    let again = Schedule { first_step: redone_from + redone, ..schedule.clone() };
    if redone == 0 && redone_from < schedule.steps {
        let picture = tokens[..job.cells()].to_vec();
        tokens.copy_from_slice(&noised(&picture, images, &again, false, &mut rng));
    }
    let watch = |step, tokens: &[_], _: &Rng| on_step(schedule.steps + step - redone_from, tokens);
    sampler::sample(model, tokens, images, &again, &mut rng, watch)
}

/// A model that is asked for one picture, which stands for all of a request's.
struct OneForAll<'a, P> {
    model: &'a mut P,
    images: usize,
}

impl<P: Predict> Predict for OneForAll<'_, P> {
    type Error = P::Error;

    fn begin(&mut self, step: usize) {
        self.model.begin(step);
    }

    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], P::Error> {
        self.model.predict(image, tokens, positions)
    }

    fn drawn(&mut self, _: usize, tokens: &[Option<u32>], probabilities: &[f32]) {
        (0..self.images).for_each(|image| self.model.drawn(image, tokens, probabilities));
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::MaskingSchedule;

    use super::*;
    use crate::{request::Request, sampler::BadLogits};

    const CODES: usize = 64;
    const CELLS: usize = 256;
    const STEPS: usize = 12;

    /// Draws the code that says how often it was told of a step before the one at hand.
    #[derive(Default)]
    struct Counting {
        begun: usize,
        logits: Vec<f32>,
        drawn: Vec<usize>,
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

        fn drawn(&mut self, image: usize, _: &[Option<u32>], _: &[f32]) {
            self.drawn.push(image);
        }
    }

    fn job(variation: f64, images: u32, masking: MaskingSchedule) -> (Resolved, usize) {
        let request = Request {
            seed: 5,
            num_images_per_prompt: images,
            variation: Some(variation),
            variation_of: 1,
            ..Request::default()
        };
        let redone_from = STEPS - (STEPS as f64 * variation) as usize;
        let schedule = Schedule {
            steps: STEPS,
            temperature: [1.0, 0.0],
            masking,
            starting_mask_ratio: 1.0,
            first_step: 0,
            codebook_size: CODES,
            halton: None,
        };
        let grid = [16, CELLS / 16];
        let (margin, guidance_scale) = ([0; 2], 1.0);
        (
            Resolved {
                request,
                guidance_scale,
                grid,
                margin,
                schedule,
                redone_from: Some(redone_from),
            },
            redone_from,
        )
    }

    /// The tokens after every step.
    fn run(
        (job, redone_from): &(Resolved, usize),
        tokens: &mut [Option<u32>],
    ) -> Vec<Vec<Option<u32>>> {
        let (mut steps, mut next) = (Vec::new(), job.schedule.first_step);
        let flow = sample(&mut Counting::default(), tokens, (job, *redone_from), |step, tokens| {
            assert_eq!(step, next, "every step has its number");
            next += 1;
            steps.push(tokens.to_vec());
            ControlFlow::Continue(())
        });
        assert!(flow.expect("good logits").is_continue());
        assert_eq!(next, job.steps());
        steps
    }

    #[test]
    fn what_is_masked_is_drawn_anew_and_the_rest_is_kept() {
        let chance =
            |uniform: f64| uniform < f64::from((std::f32::consts::PI / 2.0 * 9.0 / 12.0).cos());
        let job = job(0.3, 3, MaskingSchedule::Cosine); // three of twelve steps, so a chance of cos(pi / 2 * 9 / 12)
        let mut tokens = vec![None; 3 * CELLS];
        let steps = run(&job, &mut tokens);
        let picture = &steps[STEPS - 1];
        assert!(picture[..CELLS] == picture[CELLS..2 * CELLS] && steps.len() == STEPS + 3);
        let rng = Philox::new(5).child(Purpose::Variation, 0);
        let mut kept = Vec::new();
        for (image, variation) in tokens.chunks(CELLS).enumerate() {
            for (position, token) in variation.iter().enumerate() {
                let is_redone = chance(rng.uniform(Purpose::Noise, image, 9, position));
                let code = token.expect("none is left masked");
                assert_eq!(code as usize >= STEPS, is_redone, "image {image}, position {position}");
                assert!(is_redone || picture[position] == *token);
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
                let mut tokens = vec![None; 2 * CELLS];
                let steps = run(&job(variation, 2, masking), &mut tokens);
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
        let mut whole = vec![None; 2 * CELLS];
        let job = job(0.5, 2, MaskingSchedule::Cosine);
        for (made, tokens) in (1..).zip(run(&job, &mut whole)) {
            let (mut rest, mut tokens) = (job.clone(), tokens);
            rest.0.schedule.first_step = made;
            let mut model = Counting { begun: made, ..Counting::default() };
            let flow =
                sample(
                    &mut model,
                    &mut tokens,
                    (&rest.0, rest.1),
                    |_, _| ControlFlow::Continue(()),
                );
            assert!(
                flow.expect("good logits").is_continue() && tokens == whole,
                "after {made} steps"
            );
        }
    }

    #[test]
    fn stops_when_asked_and_tells_every_picture_what_is_drawn() {
        let job = job(0.5, 3, MaskingSchedule::Cosine);
        for (stop, drawn) in [(1, vec![0, 1, 2, 0, 1, 2]), (STEPS, [0, 1, 2].repeat(STEPS + 1))] {
            let (mut model, mut tokens) = (Counting::default(), vec![None; 3 * CELLS]);
            let flow = sample(&mut model, &mut tokens, (&job.0, job.1), |step, _| {
                if step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(flow.expect("good logits").is_break());
            assert_eq!(model.drawn, drawn);
        }
    }
}
