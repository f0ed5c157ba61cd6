//! Noise over known tokens: an edit begins with it, and so does a variation. Knows no network.

use super::{
    rng::{Purpose, Rng},
    schedule::Schedule,
};

/// `tokens` for each of so many images, each token masked with the chance that the schedule gives
/// the step that comes before the first. Torch mode draws once for all images, as the reference
/// does.
///
/// With `as_reference` nothing is masked where the first step is 0, since the reference takes the
/// last step for the one before the first.
pub(crate) fn noised(
    tokens: &[Option<u32>],
    images: usize,
    (schedule, as_reference): (&Schedule, bool),
    rng: &mut Rng,
) -> Vec<Option<u32>> {
    let chance = match schedule.first_step {
        0 if as_reference => 0.0,
        0 => 1.0,
        first => schedule.mask_ratio(first - 1),
    };
    match rng {
        Rng::Torch(twister) => {
            let noised = tokens.iter().map(|token| token.filter(|_| twister.uniform() >= chance));
            noised.collect::<Vec<_>>().repeat(images)
        }
        Rng::Own(philox) => (0..images)
            .flat_map(|image| {
                tokens.iter().enumerate().map(move |(position, token)| (image, position, *token))
            })
            .map(|(image, position, token)| {
                let uniform = philox.uniform(Purpose::Noise, image, schedule.first_step, position);
                token.filter(|_| uniform >= f64::from(chance))
            })
            .collect(),
    }
}
