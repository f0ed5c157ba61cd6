//! The flag that says what is written into an image's file, once for every command that makes
//! images.

use clap::Args;

/// What is written into an image's file.
#[derive(Clone, Debug, Default, Args)]
pub struct WrittenArgs {
    /// Tell nothing of the prompt in the file or its name
    ///
    /// --from cannot repeat such an image.
    #[arg(long)]
    pub private: bool,
}
