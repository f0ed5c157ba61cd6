//! The flags that say what is told and shown while pictures are made.

use std::path::PathBuf;

use clap::Args;

use super::Show;

/// What is told and shown while pictures are made.
#[derive(Clone, Debug, Default, Args)]
pub struct WatchArgs {
    /// Print time and peak memory of each stage
    #[arg(long)]
    pub verbose: bool,
    /// Show the picture in the making after every step, without the decoder: in place in a terminal
    /// that can show it, else as files NAME.step-01.png and so on beside the picture, named in the
    /// step events of --json
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub preview: Option<Show>,
    /// Look inside: write which tokens each step fixed, how sure the model was and where it looked
    /// for each word of the prompt to this new folder, as index.html (a page that explains them),
    /// labelled PNGs and trace.json
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
}
