//! The flags of `grid`: prompts, what differs between the columns and the rows, and what all
//! pictures share.

use std::path::PathBuf;

use clap::{Args, Parser};
use pocketmuse::Request;

use super::{Cli, Command, PackageArgs};

/// The settings that can differ, by their flags.
pub const FIELDS: [&str; 15] = [
    "prompt",
    "negative-prompt",
    "seed",
    "sampler",
    "masking-schedule",
    "guidance-schedule",
    "guidance-scale",
    "temperature",
    "num-inference-steps",
    "strength",
    "variation",
    "aesthetic-score",
    "crop-coordinates",
    "height",
    "width",
];

const GRID_HELP: &str = "\
A setting is any of these flags of generate: prompt, negative-prompt, seed, sampler, masking-schedule, guidance-schedule,
guidance-scale, temperature, num-inference-steps, strength (with --picture), variation, aesthetic-score, crop-coordinates,
height, width.
Its values have commas between, or semicolons where a value has a comma in it. Several prompts are the rows, or the columns if
--rows says something else. A PNG holds the request that its pictures share, for --from.

Examples:
  pocketmuse grid \"a red house\" \"a robot in the snow\" --columns sampler=confidence,halton -o samplers.png
  pocketmuse grid \"a red house\" --columns \"temperature=0,0;0.7,0;4,0\" --rows seed=1,2,3 --with guidance-scale=2 -o grid.png
  pocketmuse grid \"a blue house\" --picture house.png --columns strength=0.3,0.6,0.9 -o strengths.jpg";

/// The flags of `grid`.
#[derive(Clone, Debug, Args)]
#[command(after_help = GRID_HELP, allow_negative_numbers = true)]
pub struct GridArgs {
    /// What the pictures show, in English
    #[arg(value_name = "PROMPT", required = true)]
    pub prompts: Vec<String>,
    /// Where to write: a file ending in .png, .jpg or .webp
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// What differs from column to column
    #[arg(long, value_name = "SETTING=VALUES", value_parser = parse_axis)]
    pub columns: Option<Axis>,
    /// What differs from row to row
    #[arg(long, value_name = "SETTING=VALUES", value_parser = parse_axis)]
    pub rows: Option<Axis>,
    /// A setting of all pictures; may be given several times
    #[arg(long = "with", value_name = "SETTING=VALUE", value_parser = parse_setting)]
    pub settings: Vec<Setting>,
    /// The seed of all pictures [default: a random one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// A picture that all start from, as `edit` does
    #[arg(long, value_name = "PICTURE")]
    pub picture: Option<PathBuf>,
    /// The package and how it is run
    #[command(flatten)]
    pub package: PackageArgs,
}

/// A setting and its value, checked by the flag that it is named after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// One of [`FIELDS`].
    pub field: String,
    /// As it was typed.
    pub value: String,
}

/// A setting and the values that it has along a side of the grid; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis(pub Vec<Setting>);

impl Setting {
    fn new(field: &str, value: &str) -> Result<Self, String> {
        let (field, value) = (field.trim(), value.trim());
        if !FIELDS.contains(&field) {
            return Err(format!("expected one of {}, found {field:?}", FIELDS.join(", ")));
        }
        let setting = Self { field: field.to_owned(), value: value.to_owned() };
        setting.parsed(Request::default()).map(|_| setting)
    }

    /// `base` with this setting.
    pub fn request(&self, base: Request) -> Request {
        self.parsed(base).expect("checked when it was read")
    }

    fn parsed(&self, base: Request) -> Result<Request, String> {
        if self.field == "prompt" {
            return Ok(Request { prompt: self.value.clone(), ..base });
        }
        let flag = format!("--{}={}", self.field, self.value);
        let cli =
            Cli::try_parse_from(["pocketmuse", "edit", "-", "-", &flag]).map_err(|error| {
                let text = error.to_string();
                text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
            })?;
        let prompt = base.prompt.clone();
        match cli.command {
            Command::Edit(args) => Ok(Request { prompt, ..args.request(base) }),
            _ => Err("expected a setting of edit".to_owned()),
        }
    }
}

fn parse_setting(text: &str) -> Result<Setting, String> {
    let (field, value) =
        text.split_once('=').ok_or_else(|| format!("expected SETTING=VALUE, found {text:?}"))?;
    Setting::new(field, value)
}

fn parse_axis(text: &str) -> Result<Axis, String> {
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
    use pocketmuse::{Sampler, Temperature};

    use super::*;

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
            ("sampler=best", "invalid value 'best' for '--sampler <SAMPLER>'"),
            ("seed=", "invalid value '' for '--seed <NUMBER>'"),
            ("seed=1,,2", "invalid value '' for '--seed <NUMBER>'"),
        ] {
            let error = parse_axis(text).expect_err(text);
            assert!(error.starts_with(expected), "expected {expected}, found {error}");
        }
    }

    #[test]
    fn every_setting_changes_the_request() {
        for field in FIELDS {
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
}
