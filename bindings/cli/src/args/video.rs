//! The flags of `video`: those of a request, and how the image moves.

use std::path::PathBuf;

use clap::Args;

use super::{package::PackageArgs, request::RequestArgs, values, written::WrittenArgs};

const VIDEO_HELP: &str = "\
The first frame is the image that `generate` makes. Each next one begins with the tokens of the \
frame before, shifted by whole tokens; what came into view and a few others (--remask) are drawn \
by the same prompt. --motion says how the view moves from frame to frame, so with -15,0 the image \
moves to the right; motion below a token adds up. With --end the video becomes that image, which \
is encoded and comes in with the motion.

The ending of -o chooses the format: .gif (256 colours), .webp (exact), or .png for one file a \
frame, NAME-0000.png and so on. Frames are written as they are made; nothing is left if the \
command is stopped. Memory does not grow with the frames.

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
    /// What is written into the video's file, which never holds its request
    #[command(flatten)]
    pub written: WrittenArgs,
    /// How many frames
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    pub frames: u32,
    /// How far the view moves from frame to frame: pixels to the right and down
    #[arg(long, value_name = "X,Y", default_value = "0,0", value_parser = values::motion,
          allow_hyphen_values = true)]
    pub motion: [f32; 2],
    /// The part of the tokens that is drawn anew in every frame, besides what came into view
    #[arg(long, value_name = "PART", default_value_t = 0.13)]
    pub remask: f32,
    /// An image that the video becomes
    #[arg(long, value_name = "IMAGE")]
    pub end: Option<PathBuf>,
    /// Keep the job in this file after every step, so that `pocketmuse resume FILE.json` can go on
    /// after a kill; frames that are made lie in FILE.json.frames until the video is finished
    #[arg(long, value_name = "FILE.json")]
    pub job: Option<PathBuf>,
    /// Frames in a second, 0.1 to 100
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = values::fps)]
    pub fps: f64,
    /// What every frame is to be
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
        video: VideoArgs,
    }

    fn parse(words: &[&str]) -> Result<VideoArgs, clap::Error> {
        Line::try_parse_from(["test", "a tree"].iter().chain(words)).map(|line| line.video)
    }

    #[test]
    fn motion_may_be_negative() {
        let args = parse(&["--motion", "-15,0.5", "-o", "a.gif", "--fps", "12.5"]).expect("valid");
        assert_eq!((args.motion, args.fps, args.frames), ([-15.0, 0.5], 12.5, 16));
        let wrong: [&[&str]; 4] = [
            &[],
            &["-o", "a.gif", "--motion", "1"],
            &["-o", "a", "--fps", "0"],
            &["-o", "a", "--fps", "NaN"],
        ];
        for words in wrong {
            assert_eq!(parse(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
