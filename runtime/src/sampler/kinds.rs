//! The words for how tokens are chosen and how guidance is scheduled.

use std::{fmt, str::FromStr};

use pocketmuse_package::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::sampler::arithmetic;

/// Which tokens are chosen in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Those the model is surest of, with noise; the rest are masked again. As the reference does.
    #[default]
    Confidence,
    /// The next ones of the Halton order, spread evenly over the picture.
    Halton,
}

/// How guidance grows over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuidanceSchedule {
    /// The same at every step. As the reference does.
    #[default]
    Constant,
    /// From 1, no guidance, at the first step evenly to the whole at the last.
    Linear,
    /// From 1 to the whole along a quarter of a cosine: fast at first.
    Cosine,
}

impl GuidanceSchedule {
    /// The guidance of a step, from 0, of `steps`, when `scale` is the whole.
    pub fn at(self, step: usize, steps: usize, scale: f32) -> f32 {
        let part = match self {
            Self::Constant => 1.0,
            Self::Linear if steps <= 1 => 1.0,
            Self::Linear => step as f64 / (steps - 1) as f64,
            Self::Cosine => {
                let left = steps.saturating_sub(step + 1) as f64 / steps.max(1) as f64;
                arithmetic::cos(left * std::f64::consts::FRAC_PI_2)
            }
        };
        (1.0 + (f64::from(scale) - 1.0) * part) as f32
    }
}

impl Sampler {
    /// The name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confidence => "confidence",
            Self::Halton => "halton",
        }
    }
}

impl GuidanceSchedule {
    /// The name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
        }
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for GuidanceSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found =
            [Self::Confidence, Self::Halton].into_iter().find(|sampler| sampler.name() == text);
        found.ok_or_else(|| unknown("sampler", "confidence or halton", text))
    }
}

impl FromStr for GuidanceSchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = [Self::Constant, Self::Linear, Self::Cosine]
            .into_iter()
            .find(|schedule| schedule.name() == text);
        found.ok_or_else(|| unknown("guidance_schedule", "constant, linear or cosine", text))
    }
}

fn unknown(at: &str, expected: &str, found: &str) -> Error {
    Error::new(ErrorKind::BadRequest, at, format!("expected {expected}, found {found:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_grows_from_none_to_the_whole() {
        use GuidanceSchedule::{Constant, Cosine, Linear};
        let scales = |schedule: GuidanceSchedule, steps| -> Vec<f32> {
            (0..steps).map(|step| schedule.at(step, steps, 5.0)).collect()
        };
        assert_eq!(scales(Constant, 3), [5.0; 3]);
        assert_eq!(scales(Linear, 5), [1.0, 2.0, 3.0, 4.0, 5.0]);
        // [1 + 4 * math.cos(math.pi / 2 * (1 - (i + 1) / 3)) for i in range(3)]
        assert_eq!(scales(Cosine, 3), [3.0, 4.464_102, 5.0]);
        for schedule in [Constant, Linear, Cosine] {
            assert_eq!(scales(schedule, 1), [5.0], "one step has the whole");
        }
    }

    #[test]
    fn names_are_read_back() {
        for sampler in [Sampler::Confidence, Sampler::Halton] {
            assert_eq!(sampler.to_string().parse::<Sampler>().expect("its name"), sampler);
        }
        for schedule in
            [GuidanceSchedule::Constant, GuidanceSchedule::Linear, GuidanceSchedule::Cosine]
        {
            assert_eq!(
                schedule.to_string().parse::<GuidanceSchedule>().expect("its name"),
                schedule
            );
        }
        let error = "random".parse::<Sampler>().expect_err("unknown");
        assert_eq!(error.to_string(), "sampler: expected confidence or halton, found \"random\"");
    }
}
