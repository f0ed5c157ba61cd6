//! The flags of `resume`.

use std::path::PathBuf;

use clap::Args;

use super::{package::RunArgs, watch::WatchArgs, written::WrittenArgs};

const RESUME_HELP: &str = "\
The images are those of a job that was never stopped, byte for byte, and go where the job was to \
put them: to names that nothing has, or in place of images that the same job made, or of whatever \
is there with --force. An image to edit and its mask must still be there, unchanged. The file stays until you \
remove it; with nothing left to do its images are decoded once more. A file that was changed by \
hand is refused, and so is one of another package.

A video goes on within the frame in the making, and is the one that was never stopped. Once it is \
finished its frames lie nowhere else, and `resume` makes it again from its first frame.

--preview and --trace show the steps that are left. What went on in those before is lost: a trace \
says how many they were.

Example:
  pocketmuse generate \"a big purple robot in the snow\" --job robot.json -o robot.png
  pocketmuse resume robot.json";

/// The flags of `resume`.
#[derive(Debug, Args)]
#[command(after_help = RESUME_HELP)]
pub struct ResumeArgs {
    /// The job's file
    #[arg(value_name = "FILE.json")]
    pub job: PathBuf,
    /// Replace files that have the images' names, whatever they are
    #[arg(long)]
    pub force: bool,
    /// How it is run
    #[command(flatten)]
    pub run: RunArgs,
    /// What is written into the image's file, besides what the job says
    #[command(flatten)]
    pub written: WrittenArgs,
    /// What is told and shown meanwhile
    #[command(flatten)]
    pub watch: WatchArgs,
}
