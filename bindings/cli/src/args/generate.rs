//! The flags of `generate`, which `edit` takes too.

use std::{ops::RangeInclusive, path::PathBuf};

use clap::Args;

use super::{
    package::PackageArgs, request::RequestArgs, values, watch::WatchArgs, written::WrittenArgs,
};

const IN_SHORT: &str = "\
The built-in model draws a house, tree, car, balloon, tent, sailboat, lighthouse, mushroom, robot \
or rocket in ten colours and simple scenes (models/tiny-world/README.md lists all).
Without -o the file is named after the prompt and replaces no other. `pocketmuse man generate` \
tells of names, weights such as (word:1.3), and events of --json.

Examples:
  pocketmuse \"a red lighthouse by the sea at sunset\"
  pocketmuse generate \"a big purple robot in the snow at night\" -s 7 -b 4 -o robot.webp
  pocketmuse generate \"a white sailboat on the ocean\" --package amused-512.package --explain
  pocketmuse generate --prompts prompts.txt --seeds 1-3 -o 'out/{line:03}-{seed}.png'
  pocketmuse generate --from robot.png --variation 0.3 -b 4 -o like-it.png";

const GENERATE_HELP: &str = "\
Prints the names of the files it wrote on stdout, everything else on stderr. With --json, stdout \
has one JSON object per line instead, each with \"event\": start, warning, step, trace, done, \
plan or error. Times are milliseconds, sizes bytes. docs/events.md describes every event.

Without -o the file is named after the prompt, in the current folder, and never replaces another. \
A file named with -o is replaced. Several images are NAME-0.png, NAME-1.png and so on. With \
--prompts the line's number is in the name, with --seeds the seed: NAME-LINE-SEED.png; or a \
template says it: -o 'out/{line:03}-{seed}.png', also {image} and {prompt}. Empty lines and those \
that begin with # are skipped; a line that fails is reported, the others are made, and the exit \
code is then 1.

Weights in a prompt: (word) is 1.1, ((word)) 1.21, [word] 1/1.1, (some words:1.3) the number, 0 \
to 10; nested ones multiply. \\( \\) \\[ \\] are brackets in the text. A bracket without its \
partner is text too, and so is what is no weight: (at 12:30), (16:9). docs/prompts.md says the rule.

The built-in model draws a house, tree, car, balloon, tent, sailboat, lighthouse, mushroom, robot \
or rocket in ten colours and simple scenes (models/tiny-world/README.md has the list). Of words \
that a model hardly knows there is a warning.

Examples:
  pocketmuse generate \"a red lighthouse by the sea at sunset\"
  pocketmuse generate \"a robot in the snow\" --seed 7 --num-images-per-prompt 4 -o robot.webp
  pocketmuse generate \"a robot in the snow\" --package amused-512.package --memory 560MB --explain
  pocketmuse generate \"a robot in the snow\" --trace why -o robot.png   # then open why/index.html
  pocketmuse generate --prompts prompts.txt --seeds 1-3 -o images/scene.png
  pocketmuse generate --from robot.png --guidance-scale 2 -o stronger.png
  pocketmuse generate \"mountains at night\" --tileable across -o border.png
  pocketmuse generate --from robot.png --variation 0.3 --num-images-per-prompt 4 -o like-it.png";

/// The flags of `generate`.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = IN_SHORT, after_long_help = GENERATE_HELP, allow_negative_numbers = true)]
pub struct GenerateArgs {
    /// What the image shows, in English; also as -p PROMPT
    ///
    /// (word:1.3) weighs more, [word] less. What does not fit the model's 77 tokens is cut off.
    #[arg(value_name = "PROMPT", required_unless_present_any = ["from", "prompts"])]
    pub prompt: Option<String>,
    /// Make an image for each line of this file; - is stdin
    ///
    /// The model is loaded once. Empty lines are skipped, and those that begin with #.
    #[arg(long, value_name = "FILE.txt",
          conflicts_with_all = ["prompt", "job", "save_tokens", "trace", "explain"])]
    pub prompts: Option<PathBuf>,
    /// What the image is to be
    #[command(flatten)]
    pub request: RequestArgs,
    /// Images to make [default: 1]
    #[arg(short = 'b', long, aliases = ["batch-count", "batch-size", "num-images", "n-iter"],
          value_name = "COUNT")]
    pub num_images_per_prompt: Option<u32>,
    /// Make an image for each of these seeds, such as 1-3,7
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = values::seeds,
          conflicts_with_all = ["seed", "job", "save_tokens", "trace", "explain"])]
    pub seeds: Vec<RangeInclusive<u64>>,
    /// Repeat the request that made this image; other flags change it
    #[arg(long, value_name = "IMAGE")]
    pub from: Option<PathBuf>,
    /// A .png, .jpg or .webp, a folder, a template, or - for stdout
    ///
    /// FOLDER/ is made. A template such as 'out/{line:03}-{seed}.png' may also name {image} and
    /// {prompt}.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Leave an image that is there and holds the same request
    ///
    /// A batch that was stopped goes on by the same line.
    #[arg(long, conflicts_with_all = ["private", "job", "save_tokens", "trace", "explain"])]
    pub skip_existing: bool,
    /// What is written into the image's file
    #[command(flatten)]
    pub written: WrittenArgs,
    /// The package and how it is run
    #[command(flatten)]
    pub package: PackageArgs,
    /// Print what memory it would take, and make nothing
    #[arg(long)]
    pub explain: bool,
    /// What is told and shown meanwhile
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Keep the job here, for `pocketmuse resume` after a kill
    ///
    /// The file is written after every step. If it holds this very job, unfinished, that goes on.
    #[arg(long, value_name = "FILE.json")]
    pub job: Option<PathBuf>,
    /// Write the tokens after every step to this file
    #[arg(long, value_name = "FILE.json")]
    pub save_tokens: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        generate: GenerateArgs,
    }

    fn parse(words: &[&str]) -> Result<GenerateArgs, clap::Error> {
        Line::try_parse_from(["test"].iter().chain(words)).map(|line| line.generate)
    }

    #[test]
    fn a_prompt_may_come_from_elsewhere() {
        for words in [["--from", "a.png"], ["--prompts", "a.txt"]] {
            assert_eq!(parse(&words).expect("valid").prompt, None);
        }
        let args = parse(&["a", "--seeds", "1,2", "--num-images-per-prompt=3"]).expect("valid");
        assert_eq!((args.seeds, args.num_images_per_prompt), (vec![1..=1, 2..=2], Some(3)));
        let args = parse(&["a", "--seeds", "1-3,9", "-b3", "-n", "fog"]).expect("valid");
        assert_eq!((args.seeds, args.num_images_per_prompt), (vec![1..=3, 9..=9], Some(3)));
    }

    #[test]
    fn wrong_lines_are_refused_as_usage() {
        let cases: [&[&str]; 6] = [
            &[],
            &["a", "b"],
            &["a", "--flavour", "int3"],
            &["a", "--seed", "1", "--seeds", "2"],
            &["a", "--prompts", "a.txt"],
            &["--prompts", "a.txt", "--job", "a.json"],
        ];
        for words in cases {
            assert_eq!(parse(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
