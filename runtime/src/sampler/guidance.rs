//! How guidance grows over the steps. Knows no model.

use crate::{
    arithmetic,
    request::{GuidanceSchedule, job::Job},
};

/// The guidance of each step of `job`.
pub(crate) fn scales(job: &Job) -> Vec<f32> {
    let (schedule, steps) = (job.request.guidance_schedule, job.steps);
    (0..steps).map(|step| schedule.at(step, steps, job.guidance_scale)).collect()
}

impl GuidanceSchedule {
    /// The guidance of a step, from 0, of `steps`, when `scale` is the whole.
    pub(crate) fn at(self, step: usize, steps: usize, scale: f32) -> f32 {
        let part = match self {
            Self::Constant => 1.0,
            Self::Linear if steps <= 1 => 1.0,
            Self::Linear => step as f64 / (steps - 1) as f64,
            Self::Cosine => {
                let left = steps.saturating_sub(step + 1) as f64 / steps.max(1) as f64;
                arithmetic::cos(left * std::f64::consts::FRAC_PI_2)
            }
            Self::Late if 2 * (step + 1) > steps => 1.0,
            Self::Late => 0.0,
        };
        (1.0 + (f64::from(scale) - 1.0) * part) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_grows_from_none_to_the_whole() {
        use GuidanceSchedule::{Constant, Cosine, Late, Linear};
        let scales = |schedule: GuidanceSchedule, steps| -> Vec<f32> {
            (0..steps).map(|step| schedule.at(step, steps, 5.0)).collect()
        };
        assert_eq!(scales(Constant, 3), [5.0; 3]);
        assert_eq!(scales(Linear, 5), [1.0, 2.0, 3.0, 4.0, 5.0]);
        // [1 + 4 * math.cos(math.pi / 2 * (1 - (i + 1) / 3)) for i in range(3)]
        assert_eq!(scales(Cosine, 3), [3.0, 4.464_102, 5.0]);
        assert_eq!(scales(Late, 4), [1.0, 1.0, 5.0, 5.0]);
        assert_eq!(scales(Late, 5), [1.0, 1.0, 5.0, 5.0, 5.0]);
        for schedule in [Constant, Linear, Cosine, Late] {
            assert_eq!(scales(schedule, 1), [5.0], "one step has the whole");
        }
    }
}
