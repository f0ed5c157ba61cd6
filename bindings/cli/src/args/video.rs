//! The flags of `video`: those of `generate` that suit it, and how the picture moves.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::{Request, Temperature};

use super::PackageArgs;

const VIDEO_HELP: &str = "\
The first frame is the picture that `generate` makes. Each next one begins with the tokens of the frame before, shifted by
whole tokens; what came into view and a few others (--remask) are drawn by the same prompt. --motion says how the view moves
from frame to frame, so with -15,0 the picture moves to the right; motion below a token adds up. With --end the video becomes
that picture, which is encoded and comes in with the motion.

The ending of -o chooses the format: .gif (256 colours), .webp (exact), or .png for one file a frame, NAME-0000.png and so on.
Frames are written as they are made; nothing is left if the command is stopped. Memory does not grow with the frames.

Examples:
  pocketmuse video \"a red lighthouse by the sea at sunset\" --frames 16 --motion -15,0 -o sea.gif
  pocketmuse video \"a robot in the snow\" --end robot.png --frames 12 -o robot.webp";

/// The flags of `video`.
#[derive(Clone, Debug, Args)]
#[command(after_help = VIDEO_HELP, allow_negative_numbers = true)]
pub struct VideoArgs {
    /// What the video shows, in English; (word:1.3) weighs more, [word] less
    #[arg(value_name = "PROMPT")]
    pub prompt: String,
    /// Where to write: a file ending in .gif, .webp or .png
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How many frames
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    pub frames: u32,
    /// How far the view moves from frame to frame: pixels to the right and down
    #[arg(long, value_name = "X,Y", default_value = "0,0", value_parser = parse_motion, allow_hyphen_values = true)]
    pub motion: [f32; 2],
    /// The part of the tokens that is drawn anew in every frame, besides what came into view
    #[arg(long, value_name = "PART", default_value_t = 0.13)]
    pub remask: f32,
    /// A picture that the video becomes
    #[arg(long, value_name = "PICTURE")]
    pub end: Option<PathBuf>,
    /// Frames in a second, 0.1 to 100
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = parse_fps)]
    pub fps: f64,
    /// The package and how it is run
    #[command(flatten)]
    pub package: PackageArgs,
    /// What the video is guided away from
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// How strongly the prompt steers [default: the package's]
    #[arg(long, value_name = "NUMBER")]
    pub guidance_scale: Option<f32>,
    /// Steps of every frame [default: the package's]
    #[arg(long, value_name = "COUNT")]
    pub num_inference_steps: Option<u32>,
    /// Noise of the choice of tokens, as for generate [default: the package's]
    #[arg(long, value_name = "FIRST,LAST")]
    pub temperature: Option<Temperature>,
    /// Height in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u32>,
    /// Width in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u32>,
    /// The same seed makes the same video [default: a random one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

impl VideoArgs {
    /// What the flags say, with `seed` if they name none.
    pub fn request(&self, seed: u64) -> Request {
        Request {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone().unwrap_or_default(),
            guidance_scale: self.guidance_scale,
            num_inference_steps: self.num_inference_steps,
            temperature: self.temperature,
            height: self.height,
            width: self.width,
            seed: self.seed.unwrap_or(seed),
            ..Request::default()
        }
    }
}

/// Reads `-15,0`.
fn parse_motion(text: &str) -> Result<[f32; 2], String> {
    let numbers: Option<Vec<f32>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| <[f32; 2]>::try_from(numbers).ok());
    numbers.ok_or_else(|| format!("expected two numbers with a comma between, found {text:?}"))
}

fn parse_fps(text: &str) -> Result<f64, String> {
    let fps = text.parse().ok().filter(|fps| (0.1..=100.0).contains(fps));
    fps.ok_or_else(|| format!("expected a number of 0.1 to 100, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn video(words: &[&str]) -> Result<VideoArgs, clap::Error> {
        match Cli::try_parse_from(["pocketmuse", "video", "a tree"].iter().chain(words))?.command {
            Command::Video(args) => Ok(*args),
            other => panic!("expected video, found {other:?}"),
        }
    }

    #[test]
    fn motion_may_be_negative() {
        let args = video(&["--motion", "-15,0.5", "-o", "a.gif", "--fps", "12.5"]).expect("valid");
        assert_eq!((args.motion, args.fps, args.frames), ([-15.0, 0.5], 12.5, 16));
        assert_eq!(
            args.request(3),
            Request { prompt: "a tree".to_owned(), seed: 3, ..Request::default() }
        );
        let wrong: [&[&str]; 4] = [
            &[],
            &["-o", "a.gif", "--motion", "1"],
            &["-o", "a", "--fps", "0"],
            &["-o", "a", "--fps", "NaN"],
        ];
        for words in wrong {
            assert_eq!(video(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
