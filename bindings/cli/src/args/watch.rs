//! The flags that say what is told and shown while images are made.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is told and shown while images are made.
#[derive(Clone, Debug, Default, Args)]
pub struct WatchArgs {
    /// Print time and peak memory of each stage
    #[arg(short, long)]
    pub verbose: bool,
    /// Show the image in the making after every step, without the decoder: in place in a terminal
    /// that can show it, else as files NAME.step-01.png and so on beside the image, named in the
    /// step events of --json
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true,
          default_missing_value = "auto")]
    pub preview: Option<Show>,
    /// Look inside: write which tokens each step fixed, how sure the model was and where it looked
    /// for each word of the prompt to this new folder, as index.html (a page that explains them),
    /// labelled PNGs and trace.json
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
}

/// How images in the making are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// As the terminal can: kitty, iterm, sixel or blocks; without a terminal, or with --json,
    /// files
    Auto,
    /// In place by kitty's protocol: kitty, Ghostty
    Kitty,
    /// In place by iTerm2's protocol: iTerm2, WezTerm
    Iterm,
    /// In place as sixels: foot, Konsole, mlterm, xterm as a vt340
    Sixel,
    /// In place as half blocks, two pixels to a character, in any terminal of all colours
    Blocks,
    /// As files NAME.step-01.png and so on beside the image, named in the step events of --json
    Files,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        prompt: String,
        #[command(flatten)]
        watch: WatchArgs,
    }

    #[test]
    fn a_value_is_not_needed_and_takes_no_word() {
        let cases: [(&[&str], Option<Show>); 4] = [
            (&["a tree"], None),
            (&["--preview", "a tree"], Some(Show::Auto)),
            (&["a tree", "--preview=sixel"], Some(Show::Sixel)),
            (&["--preview=files", "a tree"], Some(Show::Files)),
        ];
        for (words, expected) in cases {
            let line = Line::try_parse_from(["test"].iter().chain(words)).expect("valid");
            assert_eq!(
                (line.watch.preview, line.prompt.as_str()),
                (expected, "a tree"),
                "{words:?}"
            );
        }
        let wrong = Line::try_parse_from(["test", "a", "--preview=jpeg"]).expect_err("unknown");
        assert!(
            wrong
                .to_string()
                .contains("[possible values: auto, kitty, iterm, sixel, blocks, files]"),
            "{wrong}"
        );
    }
}
