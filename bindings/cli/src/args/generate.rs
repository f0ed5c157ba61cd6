//! The flags of `generate`, which `edit` takes too.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::{
    GuidanceSchedule, MaskingSchedule, Request, RngKind, Sampler, Temperature, Tileable,
};

use super::{PackageArgs, WatchArgs, parse_numbers};

const GENERATE_HELP: &str = "\
Prints the names of the files it wrote on stdout, everything else on stderr. With --json, stdout has one JSON object
per line instead, each with \"event\": start, warning, step, trace, done, plan or error. Times are milliseconds, sizes bytes.

Without -o the file is named after the prompt, in the current folder, and never replaces another. A file named with -o
is replaced. Several pictures are NAME-0.png, NAME-1.png and so on. With --prompts the line's number is in the name, with
--seeds the seed: NAME-LINE-SEED.png. Empty lines are skipped; a line that fails is reported, the others are made, and the
exit code is then 1.

Weights in a prompt: (word) is 1.1, ((word)) 1.21, [word] 1/1.1, (some words:1.3) the number, 0 to 10; nested ones
multiply. \\( \\) \\[ \\] are brackets in the text. A bracket without its partner is text too.

Examples:
  pocketmuse generate \"a red lighthouse by the sea at sunset\"
  pocketmuse generate \"a robot in the snow\" --seed 7 --num-images-per-prompt 4 -o robot.webp
  pocketmuse generate \"a robot in the snow\" --package amused-512.package --memory 560MB --explain
  pocketmuse generate \"a robot in the snow\" --trace why -o robot.png   # then open why/index.html
  pocketmuse generate --prompts prompts.txt --seeds 1,2,3 -o pictures/scene.png
  pocketmuse generate --from robot.png --guidance-scale 2 -o stronger.png
  pocketmuse generate \"mountains at night\" --tileable across -o border.png
  pocketmuse generate --from robot.png --variation 0.3 --num-images-per-prompt 4 -o like-it.png";

/// The flags of `generate`.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = GENERATE_HELP, allow_negative_numbers = true)]
pub struct GenerateArgs {
    /// What the picture shows, in English; (word:1.3) weighs more, [word] less. What does not fit
    /// the model's 77 tokens is cut off
    #[arg(value_name = "PROMPT", required_unless_present_any = ["from", "prompts"])]
    pub prompt: Option<String>,
    /// Make a picture for each line of this text file, the model loaded once
    #[arg(long, value_name = "FILE.txt", conflicts_with_all = ["prompt", "job", "save_tokens", "trace", "explain"])]
    pub prompts: Option<PathBuf>,
    /// What the picture is guided away from
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Take brackets in both prompts as text, and not as weights
    #[arg(long)]
    pub no_prompt_weighting: bool,
    /// How strongly the prompt steers; up to 1 guidance is off and a step costs half [default: the
    /// package's]
    #[arg(long, value_name = "NUMBER")]
    pub guidance_scale: Option<f32>,
    /// Steps from all tokens masked to all chosen [default: the package's]
    #[arg(long, value_name = "COUNT")]
    pub num_inference_steps: Option<u32>,
    /// Noise of the choice of tokens: FIRST,LAST step, or one number that falls to 0.01 [default:
    /// the package's]
    #[arg(long, value_name = "FIRST,LAST")]
    pub temperature: Option<Temperature>,
    /// Height in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u32>,
    /// Width in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u32>,
    /// Pictures to make [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub num_images_per_prompt: Option<u32>,
    /// The same seed makes the same picture [default: a random one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Make a picture for each of these seeds, the model loaded once
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',',
          conflicts_with_all = ["seed", "job", "save_tokens", "trace", "explain"])]
    pub seeds: Vec<u64>,
    /// The aesthetic score that the model is told its picture has, about 0 to 10 [default: 6]
    #[arg(alias = "micro-conditioning-aesthetic-score", long, value_name = "NUMBER")]
    pub aesthetic_score: Option<f32>,
    /// The corner that the model is told its picture was cropped at [default: 0,0]
    #[arg(alias = "micro-conditioning-crop-coord", long, value_name = "LEFT,TOP", value_parser = parse_corner)]
    pub crop_coordinates: Option<[u32; 2]>,
    /// Random numbers: own (the same on every machine) or torch (as the reference pipeline, slow)
    /// [default: own]
    #[arg(long, value_name = "KIND")]
    pub rng: Option<RngKind>,
    /// Which tokens a step chooses: confidence (the surest, with noise), or halton (spread evenly,
    /// a fixed order in which each token is asked for once; --temperature has no effect) [default:
    /// confidence]
    #[arg(long, value_name = "SAMPLER")]
    pub sampler: Option<Sampler>,
    /// How guidance grows over the steps: constant, linear from none, or cosine, faster at first
    /// [default: constant]
    #[arg(long, value_name = "SCHEDULE")]
    pub guidance_schedule: Option<GuidanceSchedule>,
    /// How the number of masked tokens falls: cosine or linear [default: the package's; linear with
    /// a mask]
    #[arg(long, value_name = "SCHEDULE")]
    pub masking_schedule: Option<MaskingSchedule>,
    /// Make edges meet, so that copies of the picture can lie side by side: across (left and
    /// right), down (top and bottom), both, or no. Takes more time and memory [default: no]
    #[arg(long, value_name = "EDGES")]
    pub tileable: Option<Tileable>,
    /// Vary the picture that the other flags ask for: this share of its steps, 0 to 1, is run once
    /// more with other random numbers for each of --num-images-per-prompt; 0 is the picture itself.
    /// With --from it is the picture in that file
    #[arg(long, value_name = "SHARE")]
    pub variation: Option<f64>,
    /// The package and how it is run
    #[command(flatten)]
    pub package: PackageArgs,
    /// Print how each stage would be loaded and the memory that would take, and make nothing
    #[arg(long)]
    pub explain: bool,
    /// Where to write: a file ending in .png, .jpg or .webp, or a folder; only a PNG holds its
    /// request
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Repeat the request that made this PNG; other flags change it
    #[arg(long, value_name = "PICTURE.png")]
    pub from: Option<PathBuf>,
    /// What is told and shown meanwhile
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Keep the job in this file after every step, so that `pocketmuse resume FILE.json` can go on
    /// after a kill
    #[arg(long, value_name = "FILE.json")]
    pub job: Option<PathBuf>,
    /// Write the token ids after every step to this file
    #[arg(long, value_name = "FILE.json")]
    pub save_tokens: Option<PathBuf>,
    /// The line of the prompt file, from 1, that this is for.
    #[arg(skip)]
    pub line: Option<usize>,
    /// The seed, if files are named after it.
    #[arg(skip)]
    pub named_seed: Option<u64>,
}

impl GenerateArgs {
    /// `base` with everything the flags say changed; a seed stays `base`'s if none is given.
    pub fn request(&self, base: Request) -> Request {
        Request {
            prompt: self.prompt.clone().unwrap_or(base.prompt),
            negative_prompt: self.negative_prompt.clone().unwrap_or(base.negative_prompt),
            prompt_weighting: if self.no_prompt_weighting {
                false
            } else {
                base.prompt_weighting || self.prompt.is_some() // a new prompt is read as prompts are read now
            },
            guidance_scale: self.guidance_scale.or(base.guidance_scale),
            num_inference_steps: self.num_inference_steps.or(base.num_inference_steps),
            temperature: self.temperature.or(base.temperature),
            height: self.height.or(base.height),
            width: self.width.or(base.width),
            num_images_per_prompt: self.num_images_per_prompt.unwrap_or(base.num_images_per_prompt),
            seed: self.seed.unwrap_or(base.seed),
            rng: self.rng.unwrap_or(base.rng),
            aesthetic_score: self.aesthetic_score.unwrap_or(base.aesthetic_score),
            crop_coordinates: self.crop_coordinates.unwrap_or(base.crop_coordinates),
            sampler: self.sampler.unwrap_or(base.sampler),
            guidance_schedule: self.guidance_schedule.unwrap_or(base.guidance_schedule),
            masking_schedule: self.masking_schedule.or(base.masking_schedule),
            tileable: self.tileable.unwrap_or(base.tileable),
            variation: self.variation.or(base.variation),
            ..base
        }
    }
}

/// Reads `0,0`.
fn parse_corner(text: &str) -> Result<[u32; 2], String> {
    parse_numbers(text)
        .ok_or_else(|| format!("expected two whole numbers with a comma between, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn generate(words: &[&str]) -> Result<GenerateArgs, clap::Error> {
        let cli = Cli::try_parse_from(["pocketmuse", "generate"].iter().chain(words))?;
        match cli.command {
            Command::Generate(args) => Ok(*args),
            other => panic!("expected generate, found {other:?}"),
        }
    }

    #[test]
    fn every_flag_reaches_the_request() {
        type Changed = fn(&mut Request);
        let cases: [(&[&str], Changed); 18] = [
            (&["--tileable", "across"], |r| r.tileable = Tileable::Across),
            (&["--variation", "0.3"], |r| r.variation = Some(0.3)),
            (&["--no-prompt-weighting"], |r| r.prompt_weighting = false),
            (&["--negative-prompt", "fog"], |r| r.negative_prompt = "fog".to_owned()),
            (&["--guidance-scale", "2.5"], |r| r.guidance_scale = Some(2.5)),
            (&["--guidance-scale", "-1"], |r| r.guidance_scale = Some(-1.0)), // refused later, with its range
            (&["--num-inference-steps=4"], |r| r.num_inference_steps = Some(4)),
            (&["--temperature", "2,0"], |r| r.temperature = Some(Temperature::Range([2.0, 0.0]))),
            (&["--temperature", "1.5"], |r| r.temperature = Some(Temperature::Decaying(1.5))),
            (&["--height", "128", "--width", "64"], |r| {
                (r.height, r.width) = (Some(128), Some(64))
            }),
            (&["--num-images-per-prompt", "3"], |r| r.num_images_per_prompt = 3),
            (&["--seed", "18446744073709551615"], |r| r.seed = u64::MAX),
            (&["--aesthetic-score", "7"], |r| r.aesthetic_score = 7.0),
            (&["--crop-coordinates", "8, 16"], |r| r.crop_coordinates = [8, 16]),
            (&["--rng", "torch"], |r| r.rng = RngKind::Torch),
            (&["--sampler", "halton"], |r| r.sampler = Sampler::Halton),
            (&["--guidance-schedule", "cosine"], |r| {
                r.guidance_schedule = GuidanceSchedule::Cosine
            }),
            (&["--masking-schedule", "linear"], |r| {
                r.masking_schedule = Some(MaskingSchedule::Linear)
            }),
        ];
        for (words, change) in cases {
            let mut expected =
                Request { prompt: "a tree".to_owned(), seed: 5, ..Request::default() };
            let args = generate(&[&["a tree"], words].concat()).expect("valid");
            let found = args.request(Request {
                prompt: "another".to_owned(),
                seed: 5,
                ..Request::default()
            });
            change(&mut expected);
            assert_eq!(found, expected, "{words:?}");
        }
    }

    #[test]
    fn a_picture_can_stand_for_the_prompt() {
        let base = Request {
            prompt: "a tree".to_owned(),
            seed: 9,
            height: Some(64),
            ..Request::default()
        };
        assert_eq!(generate(&["--from", "a.png"]).expect("valid").request(base.clone()), base);
    }

    #[test]
    fn wrong_lines_are_refused_as_usage() {
        let cases: [&[&str]; 8] = [
            &[],
            &["a", "b"],
            &["a", "--temperature", "1,2,3"],
            &["a", "--crop-coordinates", "0"],
            &["a", "--crop-coordinates", "-1,0"],
            &["a", "--seed", "x"],
            &["a", "--rng", "numpy"],
            &["a", "--flavour", "int3"],
        ];
        for words in cases {
            assert_eq!(generate(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
