//! A pass: steps that are run once over the canvas. Says what the canvas holds before them, and
//! with which numbers they draw. Knows no network.

use std::ops::ControlFlow;

use super::{
    Predict, Progress,
    canvas::Canvas,
    frames, noise,
    rng::{Philox, Purpose, Rng},
    sample,
    schedule::Schedule,
};
use crate::request::job::{Job, Pass, PassKind, SavedFrame};

/// Runs one of the passes of `job`, as [`sample`] does. `on_step` is told the number of the step
/// among all that the job has, and the tokens of all its images.
///
/// # Errors
///
/// As for [`sample`].
pub(crate) fn run<P: Predict>(
    model: &mut P,
    (job, pass): (&Job, &Pass),
    canvas: &mut Canvas,
    mut on_step: impl FnMut(&mut P, &Progress<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, P::Error> {
    let schedule = Schedule { first_step: pass.first_step, ..Schedule::of(job) };
    match pass.kind {
        PassKind::Images => sample(model, canvas, &schedule, on_step),
        PassKind::Frame(frame) => {
            let schedule = frames::begin(job, frame, pass, canvas);
            let frame = &SavedFrame { frame, masked: canvas.masked, end: canvas.end.clone() };
            sample(model, canvas, &schedule, |model, progress| {
                on_step(model, &Progress { frame: Some(frame), ..*progress })
            })
        }
        PassKind::Original => original(model, (job, &schedule), canvas, on_step),
        PassKind::Variations => variations(model, (job, pass, &schedule), canvas, on_step),
    }
}

/// Makes the image that is varied, once. While it is made it is the same for each variation.
fn original<P: Predict>(
    model: &mut P,
    (job, schedule): (&Job, &Schedule),
    canvas: &mut Canvas,
    mut on_step: impl FnMut(&mut P, &Progress<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, P::Error> {
    let (images, rng) = (canvas.images, &canvas.rng);
    let own = Philox::new(job.request.seed).from_image(job.request.variation_of as usize);
    let tokens = canvas.tokens[..canvas.tokens_per_image()].to_vec();
    let mut image = Canvas::new(tokens, 1, Rng::Own(own));
    let flow = sample(model, &mut image, schedule, |model, progress| {
        let [tokens, guess] = [progress.tokens, progress.guess].map(|one| one.repeat(images));
        let probabilities = &progress.probabilities.repeat(images);
        let (tokens, guess) = (&tokens, &guess);
        on_step(model, &Progress { tokens, guess, probabilities, rng, ..*progress })
    })?;
    canvas.tokens = image.tokens.repeat(images);
    Ok(flow)
}

/// Masks a share of the image that is varied, another for each variation, and draws it with other
/// numbers.
fn variations<P: Predict>(
    model: &mut P,
    (job, pass, schedule): (&Job, &Pass, &Schedule),
    canvas: &mut Canvas,
    mut on_step: impl FnMut(&mut P, &Progress<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, P::Error> {
    let own = Philox::new(job.request.seed).child(Purpose::Variation, 0);
    let mut all = Canvas { rng: Rng::Own(own), ..canvas.clone() };
    if !pass.is_begun && pass.first_step < schedule.steps {
        let image = &canvas.tokens[..canvas.tokens_per_image()];
        all.tokens = noise::noised(image, canvas.images, (schedule, false), &mut all.rng);
    }
    let (rng, first) = (&canvas.rng, job.redone_from.unwrap_or(pass.first_step));
    let flow = sample(model, &mut all, schedule, |model, progress| {
        let step = schedule.steps + progress.step - first;
        on_step(model, &Progress { step, rng, ..*progress })
    })?;
    canvas.tokens = all.tokens;
    Ok(flow)
}

#[cfg(test)]
mod tests;
