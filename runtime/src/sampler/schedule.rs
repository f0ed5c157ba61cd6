//! How many tokens stay masked after each step, and how noisy the choice is. In f32, as the
//! reference computes.

use std::f32::consts::PI;

use pocketmuse_package::MaskingSchedule;

use super::halton;
use crate::{
    arithmetic,
    request::{Sampler, job::Job},
};

/// What is fixed over a run of the sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps from all masked to none, at least 1.
    pub steps: usize,
    /// The temperature of the re-masking noise at the first and at the last step; evenly spaced
    /// between.
    pub temperature: [f32; 2],
    /// How the number of masked tokens falls.
    pub masking: MaskingSchedule,
    /// The part of the tokens that is masked before the first step, 0 to 1; 1 unless an image is
    /// edited.
    pub starting_mask_ratio: f32,
    /// Where to start, from 0; steps before it are left out when a run starts from an image.
    pub first_step: usize,
    /// Tokens to choose from: the columns of the logits.
    pub codebook_size: usize,
    /// An image's rows and columns if tokens are chosen in the Halton order; `None` if by
    /// confidence.
    pub halton: Option<[usize; 2]>,
}

/// The sharpness of the draw in the Halton order, at the first and at the last step, as in its
/// paper.
const HALTON_SHARPNESS: [f32; 2] = [1.0, 1.2];

impl Schedule {
    /// The schedule of a job, from its first step on.
    pub fn of(job: &Job) -> Self {
        Self {
            steps: job.steps,
            temperature: job.temperature,
            masking: job.masking,
            starting_mask_ratio: job.starting_mask_ratio(),
            first_step: job.first_step,
            codebook_size: job.codebook_size,
            halton: (job.request.sampler == Sampler::Halton).then_some(job.grid),
        }
    }

    /// The temperature at a step, evenly spaced from both ends to the middle, as torch's `linspace`
    /// does.
    pub fn temperature(&self, step: usize) -> f32 {
        self.evenly(self.temperature, step)
    }

    /// What logits are multiplied by before a token is drawn at a step: 1 by confidence, 1 to 1.2
    /// in the Halton order.
    pub fn sharpness(&self, step: usize) -> f32 {
        if self.halton.is_some() { self.evenly(HALTON_SHARPNESS, step) } else { 1.0 }
    }

    fn evenly(&self, [first, last]: [f32; 2], step: usize) -> f32 {
        if self.steps <= 1 {
            return first;
        }
        let gap = (last - first) / (self.steps - 1) as f32;
        if step < self.steps / 2 {
            first + gap * step as f32
        } else {
            last - gap * self.steps.saturating_sub(step + 1) as f32
        }
    }

    /// How many of an image's `tokens` stay masked after a step, when `masked` were before it.
    ///
    /// At least one is chosen, and at least one stays masked until the last step, which leaves
    /// none.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "measure")] {
    /// use pocketmuse::internals::Schedule;
    /// use pocketmuse_package::MaskingSchedule;
    /// let schedule = Schedule {
    ///     steps: 12, temperature: [2.0, 0.0], masking: MaskingSchedule::Cosine,
    ///     starting_mask_ratio: 1.0, first_step: 0, codebook_size: 8192, halton: None,
    /// };
    /// assert_eq!(schedule.mask_len(7, 256, 155), 127); // 128 in f64
    /// # }
    /// ```
    pub fn mask_len(&self, step: usize, tokens: usize, masked: usize) -> usize {
        if step + 1 >= self.steps {
            return 0;
        }
        let planned = if self.halton.is_some() {
            (tokens - halton::chosen(step, self.steps, tokens)) as f32 * self.starting_mask_ratio
        } else {
            (tokens as f32 * (self.starting_mask_ratio * self.mask_ratio(step))).floor()
        } as usize;
        planned.min(masked.saturating_sub(1)).max(1)
    }

    /// The part of the tokens that stays masked after a step of a run that began with all of them
    /// masked.
    pub(crate) fn mask_ratio(&self, step: usize) -> f32 {
        let ratio = (step + 1) as f32 / self.steps as f32;
        match self.masking {
            MaskingSchedule::Linear => 1.0 - ratio,
            MaskingSchedule::Cosine => arithmetic::cos(f64::from(ratio * PI / 2.0)) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    fn schedule(masking: MaskingSchedule, steps: usize, temperature: [f32; 2]) -> Schedule {
        Schedule {
            steps,
            temperature,
            masking,
            starting_mask_ratio: 1.0,
            first_step: 0,
            codebook_size: 8192,
            halton: None,
        }
    }

    #[test]
    fn mask_lengths_are_the_references() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mask_lengths.json");
        let text = fs::read(path).expect("the fixture");
        let expected: BTreeMap<String, Vec<usize>> =
            serde_json::from_slice(&text).expect("lists by name");
        assert!(expected.len() >= 100);
        for (name, expected) in expected {
            // "cosine steps=12 tokens=256"
            let (masking, numbers) = name.split_once(" steps=").expect("steps");
            let (steps, tokens) = numbers.split_once(" tokens=").expect("tokens");
            let masking =
                if masking == "linear" { MaskingSchedule::Linear } else { MaskingSchedule::Cosine };
            let schedule = schedule(masking, steps.parse().expect("a number"), [2.0, 0.0]);
            let tokens = tokens.parse().expect("a number");
            // The lists are what is planned: they do not count what was masked before.
            let found: Vec<_> = (0..schedule.steps - 1)
                .map(|step| schedule.mask_len(step, tokens, tokens))
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn at_least_one_is_chosen_and_one_stays() {
        let schedule = schedule(MaskingSchedule::Cosine, 30, [2.0, 0.0]);
        for (step, tokens, masked, expected) in
            [(0, 4, 4, 3), (0, 4, 1, 1), (0, 4, 0, 1), (28, 4, 4, 1), (29, 4, 4, 0)]
        {
            assert_eq!(
                schedule.mask_len(step, tokens, masked),
                expected,
                "step {step}, {masked} of {tokens}"
            );
        }
    }

    #[test]
    fn temperatures_are_torchs_linspace() {
        let temperatures = |range, steps| {
            let schedule = schedule(MaskingSchedule::Cosine, steps, range);
            (0..steps).map(|step| schedule.temperature(step)).collect::<Vec<_>>()
        };
        // Each half is counted from its own end.
        let gap = -2.0f32 / 11.0;
        let expected: Vec<f32> = (0..6)
            .map(|i| 2.0 + gap * i as f32)
            .chain((0..6).rev().map(|i| -gap * i as f32))
            .collect();
        assert_eq!(temperatures([2.0, 0.0], 12), expected);
        assert_eq!(temperatures([0.7, 0.01], 2), [0.7, 0.01]);
        assert_eq!(temperatures([0.7, 0.01], 1), [0.7]);
        assert_eq!(temperatures([1.0, 1.0], 3), [1.0; 3]);
    }
}
