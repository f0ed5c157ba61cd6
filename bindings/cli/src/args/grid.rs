//! The flags of `grid`: prompts, what differs between the columns and the rows, and what all images
//! share.

use std::path::PathBuf;

use clap::Args;

use super::{
    package::PackageArgs,
    request::RequestArgs,
    setting::{Axis, Setting, parse_axis, parse_setting},
    written::WrittenArgs,
};

const GRID_HELP: &str = "\
A setting is any of these flags of generate: prompt, negative-prompt, seed, sampler, \
masking-schedule, guidance-schedule, guidance-scale, temperature, num-inference-steps, strength \
(with --image), variation, aesthetic-score, crop-coordinates, height, width. Its values have \
commas between, or semicolons where a value has a comma in it. Several prompts are the rows, or \
the columns if --rows says something else. A label that the sheet's font cannot show is a number, \
and what it stands for is printed. The file holds the request that its images share, for --from.

Examples:
  pocketmuse grid \"a red house\" \"a robot in the snow\" \
--columns sampler=confidence,halton -o a.png
  pocketmuse grid \"a red house\" --columns \"temperature=0,0;0.7,0;4,0\" --rows seed=1,2,3 -o b.png
  pocketmuse grid \"a blue house\" --image house.png --columns strength=0.3,0.6,0.9 -o c.jpg";

/// The flags of `grid`.
#[derive(Clone, Debug, Args)]
#[command(after_help = GRID_HELP, allow_negative_numbers = true)]
pub struct GridArgs {
    /// What the images show, in English
    #[arg(value_name = "PROMPT", required = true)]
    pub prompts: Vec<String>,
    /// Where to write: a file ending in .png, .jpg or .webp
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// What is written into the sheet's file
    #[command(flatten)]
    pub written: WrittenArgs,
    /// What differs from column to column
    #[arg(long, value_name = "SETTING=VALUES", value_parser = parse_axis)]
    pub columns: Option<Axis>,
    /// What differs from row to row
    #[arg(long, value_name = "SETTING=VALUES", value_parser = parse_axis)]
    pub rows: Option<Axis>,
    /// A setting of all images, as its flag; may be given several times
    #[arg(long = "with", value_name = "SETTING=VALUE", value_parser = parse_setting)]
    pub settings: Vec<Setting>,
    /// An image that all start from, as `edit` does
    #[arg(long, alias = "picture", value_name = "IMAGE")]
    pub image: Option<PathBuf>,
    /// What all images are to be
    #[command(flatten)]
    pub request: RequestArgs,
    /// The package and how it is run
    #[command(flatten)]
    pub package: PackageArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        grid: GridArgs,
    }

    #[test]
    fn the_old_name_of_a_flag_still_works() {
        for flag in ["--image", "--picture"] {
            let line = ["test", "a", "-o", "b.png", flag, "a.png", "--seed", "3"];
            let args = Line::try_parse_from(line).expect("valid").grid;
            assert_eq!(args.image, Some(PathBuf::from("a.png")), "{flag}");
            assert_eq!(args.request.seed, Some(3));
        }
    }
}
