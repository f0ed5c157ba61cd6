//! The kinds that a request chooses from, each with its name in files and flags.

use std::{fmt, str::FromStr};

use pocketmuse_package::{Error, ErrorKind, Model, Result, named_enum};
use serde::{Deserialize, Serialize};

/// Tokens of a margin, at least. With fewer the decoder still draws an edge where the image ends
/// (docs/tileable.md).
const MARGIN: usize = 8;

named_enum! {
    /// Which tokens are chosen in a step.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum Sampler at "sampler" {
        /// Those the model is surest of, with noise; the rest are masked again. As the reference
        /// does.
        #[default]
        Confidence = "confidence",
        /// The next ones of the Halton order, spread evenly over the image.
        Halton = "halton",
    }
}

named_enum! {
    /// How guidance grows over the steps.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum GuidanceSchedule at "guidance_schedule" {
        /// The same at every step. As the reference does.
        #[default]
        Constant = "constant",
        /// From 1, no guidance, at the first step evenly to the whole at the last.
        Linear = "linear",
        /// From 1 to the whole along a quarter of a cosine: fast at first.
        Cosine = "cosine",
        /// None in the first half of the steps, which takes half of their time, then the whole.
        Late = "late",
    }
}

named_enum! {
    /// Which generator draws the numbers of a request.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum RngKind at "rng" {
        /// Philox, a counter-based generator: the same numbers on every platform, whatever the
        /// order or the threads.
        #[default]
        Own = "own",
        /// Mersenne twister, drawn exactly as the reference pipeline does on a CPU: slow, for
        /// parity tests.
        Torch = "torch",
    }
}

named_enum! {
    /// Which edges of an image meet, so that copies of it can lie side by side.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum Tileable at "tileable" {
        /// None.
        #[default]
        No = "no",
        /// The left and the right.
        Across = "across",
        /// The top and the bottom.
        Down = "down",
        /// All four.
        Both = "both",
    }
}

impl Tileable {
    /// Rows above and below, and columns left and right, that the networks see besides an image's
    /// own.
    pub(crate) fn margin(self, model: &Model) -> [usize; 2] {
        let whole = MARGIN.next_multiple_of((model.grid_multiple as usize).max(1));
        let if_any = |wanted| if wanted { whole } else { 0 };
        [
            if_any(matches!(self, Self::Down | Self::Both)),
            if_any(matches!(self, Self::Across | Self::Both)),
        ]
    }
}

/// The temperature of the re-masking noise over the steps: finite, at least 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Written")]
pub enum Temperature {
    /// From the first value at the first step to the second at the last, evenly.
    Range([f32; 2]),
    /// From this value down to 0.01, as the reference does with a single number.
    Decaying(f32),
}

/// A temperature as it is read. Where a number or a list may stand, serde reads numbers as f64 and
/// makes infinity of those that f32 does not hold, which JSON could not be told of again.
#[derive(Deserialize)]
#[serde(untagged, expecting = "temperature: expected a number or a list of two")]
enum Written {
    Range([f64; 2]),
    Decaying(f64),
}

impl TryFrom<Written> for Temperature {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let held = |value: f64| {
            let held = value as f32;
            let error = || format!("temperature: expected a finite number in f32, found {value:e}");
            held.is_finite().then_some(held).ok_or_else(error)
        };
        Ok(match written {
            Written::Range([first, last]) => Self::Range([held(first)?, held(last)?]),
            Written::Decaying(first) => Self::Decaying(held(first)?),
        })
    }
}

impl Temperature {
    /// The values at the first and at the last step.
    pub fn range(self) -> [f32; 2] {
        match self {
            Self::Range(range) => range,
            Self::Decaying(first) => [first, 0.01],
        }
    }
}

impl fmt::Display for Temperature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range([first, last]) => write!(f, "{first},{last}"),
            Self::Decaying(first) => write!(f, "{first}"),
        }
    }
}

impl FromStr for Temperature {
    type Err = Error;

    /// Reads one number, or two with a comma between: `0.7`, `2,0`.
    fn from_str(text: &str) -> Result<Self> {
        let numbers: Result<Vec<f32>, _> =
            text.split(',').map(|number| number.trim().parse()).collect();
        match numbers.as_deref() {
            Ok([first]) => Ok(Self::Decaying(*first)),
            Ok([first, last]) => Ok(Self::Range([*first, *last])),
            _ => Err(bad(
                "temperature",
                format!("expected a number or two with a comma between, found {text:?}"),
            )),
        }
    }
}

/// A field of a request that is refused.
pub(super) fn bad(at: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadRequest, at, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for sampler in [Sampler::Confidence, Sampler::Halton] {
            assert_eq!(sampler.to_string().parse::<Sampler>().expect("its name"), sampler);
        }
        for schedule in [
            GuidanceSchedule::Constant,
            GuidanceSchedule::Linear,
            GuidanceSchedule::Cosine,
            GuidanceSchedule::Late,
        ] {
            assert_eq!(
                schedule.to_string().parse::<GuidanceSchedule>().expect("its name"),
                schedule
            );
        }
        let error = "random".parse::<Sampler>().expect_err("unknown");
        assert_eq!(error.to_string(), "sampler: expected confidence or halton, found \"random\"");
    }

    #[test]
    fn generators_are_read_back() {
        for kind in [RngKind::Own, RngKind::Torch] {
            assert_eq!(kind.to_string().parse::<RngKind>().expect("its name"), kind);
        }
        assert_eq!(
            "numpy".parse::<RngKind>().expect_err("unknown").to_string(),
            "rng: expected own or torch, found \"numpy\""
        );
    }

    #[test]
    fn tileable_is_read_back() {
        for tileable in Tileable::ALL {
            assert_eq!(tileable.to_string().parse::<Tileable>().expect("a name"), tileable);
            assert_eq!(
                serde_json::to_string(&tileable).expect("a name"),
                format!("\"{tileable}\"")
            );
        }
        let error = "x".parse::<Tileable>().expect_err("no name").to_string();
        assert_eq!(error, "tileable: expected no, across, down or both, found \"x\"");
    }

    #[test]
    fn temperatures_are_one_number_or_two() {
        for (text, expected) in [
            ("0.7", Temperature::Decaying(0.7)),
            ("2,0", Temperature::Range([2.0, 0.0])),
            ("2, 0.5", Temperature::Range([2.0, 0.5])),
        ] {
            let found: Temperature = text.parse().expect(text);
            assert_eq!(found, expected);
            assert_eq!(found.to_string().parse::<Temperature>().expect(text), expected);
            let stored = serde_json::to_string(&found).expect("plain data");
            assert_eq!(serde_json::from_str::<Temperature>(&stored).expect("stored"), expected);
        }
        for (stored, expected) in [
            ("1e39", "temperature: expected a finite number in f32, found 1e39"),
            ("[3.0, -1e110]", "temperature: expected a finite number in f32, found -1e110"),
            ("[1, 2, 3]", "temperature: expected a number or a list of two"),
            ("null", "temperature: expected a number or a list of two"),
        ] {
            let error = serde_json::from_str::<Temperature>(stored).expect_err(stored).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for text in ["", "a", "1,2,3", "1;2"] {
            let error = text.parse::<Temperature>().expect_err(text).to_string();
            assert!(
                error.starts_with("temperature: expected a number or two with a comma between"),
                "{error}"
            );
        }
    }
}
