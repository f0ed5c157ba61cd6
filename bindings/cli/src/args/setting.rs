//! The settings of a grid: a field of a request by its flag's name, and a value for it.

use std::str::FromStr;

use pocketmuse::Request;

use super::values;

/// Sets a field of a request to what a text says, or says what was expected.
type Set = fn(&mut Request, &str) -> Result<(), String>;

/// The settings that can differ, by the names of their flags.
pub const FIELDS: [(&str, Set); 15] = [
    ("prompt", |request, text| set(&mut request.prompt, Ok(text.to_owned()))),
    ("negative-prompt", |request, text| set(&mut request.negative_prompt, Ok(text.to_owned()))),
    ("seed", |request, text| set(&mut request.seed, values::seed(text))),
    ("sampler", |request, text| set(&mut request.sampler, read(text))),
    ("masking-schedule", |request, text| set(&mut request.masking_schedule, some(text))),
    ("guidance-schedule", |request, text| set(&mut request.guidance_schedule, read(text))),
    ("guidance-scale", |request, text| set(&mut request.guidance_scale, some(text))),
    ("temperature", |request, text| set(&mut request.temperature, some(text))),
    ("num-inference-steps", |request, text| set(&mut request.num_inference_steps, some(text))),
    ("strength", |request, text| set(&mut request.strength, some(text))),
    ("variation", |request, text| set(&mut request.variation, some(text))),
    ("aesthetic-score", |request, text| set(&mut request.aesthetic_score, read(text))),
    ("crop-coordinates", |request, text| set(&mut request.crop_coordinates, values::corner(text))),
    ("height", |request, text| set(&mut request.height, some(text))),
    ("width", |request, text| set(&mut request.width, some(text))),
];

fn set<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    value.map(|value| *field = value)
}

fn read<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn some<T: FromStr<Err: ToString>>(text: &str) -> Result<Option<T>, String> {
    read(text).map(Some)
}

/// A setting and its value, which was read once to check it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The name of its flag.
    pub field: &'static str,
    /// As it was typed.
    pub value: String,
    set: Set,
}

/// A setting and the values that it has along a side of the grid; never none.
#[derive(Clone, Debug)]
pub struct Axis(pub Vec<Setting>);

impl Setting {
    fn new(field: &str, value: &str) -> Result<Self, String> {
        let (name, value) = (field.trim(), value.trim());
        let Some((field, set)) = FIELDS.into_iter().find(|(field, _)| *field == name) else {
            let known = FIELDS.map(|(field, _)| field).join(", ");
            return Err(format!("expected one of {known}, found {name:?}"));
        };
        set(&mut Request::default(), value)
            .map_err(|error| format!("invalid value '{value}' for '{field}': {error}"))?;
        Ok(Self { field, value: value.to_owned(), set })
    }

    /// The prompt as a setting, every text of which is valid.
    pub fn prompt(text: &str) -> Self {
        let (field, set) = FIELDS[0];
        Self { field, value: text.to_owned(), set }
    }

    /// `base` with this setting.
    pub fn request(&self, mut base: Request) -> Request {
        (self.set)(&mut base, &self.value).expect("the value was read when the setting was made");
        base
    }
}

/// Reads `seed=3`.
pub(super) fn parse_setting(text: &str) -> Result<Setting, String> {
    let (field, value) =
        text.split_once('=').ok_or_else(|| format!("expected SETTING=VALUE, found {text:?}"))?;
    Setting::new(field, value)
}

/// Reads `seed=1,2,3`.
pub(super) fn parse_axis(text: &str) -> Result<Axis, String> {
    let (field, values) =
        text.split_once('=').ok_or_else(|| format!("expected SETTING=VALUES, found {text:?}"))?;
    let between = if values.contains(';') { ';' } else { ',' };
    values
        .split(between)
        .map(|value| Setting::new(field, value))
        .collect::<Result<_, _>>()
        .map(Axis)
}

#[cfg(test)]
mod tests {
    use clap::Args as _;
    use pocketmuse::{Sampler, Temperature};

    use super::*;
    use crate::args::RequestArgs;

    #[test]
    fn an_axis_is_a_setting_and_its_values() {
        let values = |text: &str| {
            parse_axis(text).map(|axis| axis.0.into_iter().map(|setting| setting.value).collect())
        };
        assert_eq!(values("seed=1, 2,3"), Ok(vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]));
        assert_eq!(values("temperature=2,0;0.7,0"), Ok(vec!["2,0".to_owned(), "0.7,0".to_owned()]));
        assert_eq!(
            values("prompt=a tree; a car, red"),
            Ok(vec!["a tree".to_owned(), "a car, red".to_owned()])
        );
        for (text, expected) in [
            ("seed", "expected SETTING=VALUES, found"),
            ("steps=3", "expected one of prompt, negative-prompt, seed"),
            ("json=true", "expected one of prompt"),
            ("sampler=best", "invalid value 'best' for 'sampler': "),
            ("seed=", "invalid value '' for 'seed'"),
            ("seed=1,,2", "invalid value '' for 'seed'"),
        ] {
            let error = parse_axis(text).expect_err(text);
            assert!(error.starts_with(expected), "expected {expected}, found {error}");
        }
    }

    #[test]
    fn every_setting_changes_the_request() {
        for (field, _) in FIELDS {
            let value = match field {
                "sampler" => "halton",
                "masking-schedule" | "guidance-schedule" => "linear",
                "crop-coordinates" => "3,4",
                _ => "64",
            };
            let base = Request { prompt: "a tree".to_owned(), ..Request::default() };
            let setting = parse_setting(&format!("{field}={value}")).expect(field);
            let changed = setting.request(base.clone());
            assert_ne!(changed, base, "{field}");
            assert!(field == "prompt" || changed.prompt == "a tree", "{field}");
        }
        let request = parse_setting("temperature=2,0").expect("valid").request(Request::default());
        assert_eq!(request.temperature, Some(Temperature::Range([2.0, 0.0])));
        let request = parse_setting("sampler=halton").expect("valid").request(request);
        assert_eq!(
            (request.temperature, request.sampler),
            (Some(Temperature::Range([2.0, 0.0])), Sampler::Halton)
        );
    }

    #[test]
    fn a_setting_is_named_and_read_as_its_flag_is() {
        let command = RequestArgs::augment_args(clap::Command::new("test"));
        let samples = ["64", "1,2", "2,0", "halton", "linear", "cosine", "-1", "x", "", "1e400"];
        for (field, set) in FIELDS.into_iter().filter(|(field, _)| *field != "prompt") {
            if field == "strength" {
                continue; // of `edit` alone
            }
            for sample in samples {
                let flag = format!("--{field}={sample}");
                let as_flag = command.clone().try_get_matches_from(["test", &flag]);
                assert_eq!(
                    set(&mut Request::default(), sample).is_ok(),
                    as_flag.is_ok(),
                    "{flag}: {as_flag:?}"
                );
            }
        }
    }
}
