//! The flag that says what is written into an image's file, once for every command that makes
//! images.

use clap::Args;

/// What is written into an image's file.
#[derive(Clone, Debug, Default, Args)]
pub struct WrittenArgs {
    /// Keep the prompt to yourself: neither the image's file nor a name made for it tells what the
    /// image was made of, so --from cannot repeat it
    #[arg(long)]
    pub private: bool,
}
