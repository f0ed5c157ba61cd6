//! The values of `--preview`.

use clap::ValueEnum;

/// How pictures in the making are shown.
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
    /// As files NAME.step-01.png and so on beside the picture, named in the step events of --json
    Files,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn a_value_is_not_needed_and_takes_no_word() {
        let cases: [(&[&str], Option<Show>); 4] = [
            (&["a tree"], None),
            (&["--preview", "a tree"], Some(Show::Auto)),
            (&["a tree", "--preview=sixel"], Some(Show::Sixel)),
            (&["--preview=files", "a tree"], Some(Show::Files)),
        ];
        for (words, expected) in cases {
            let cli =
                Cli::try_parse_from(["pocketmuse", "generate"].iter().chain(words)).expect("valid");
            let Command::Generate(args) = cli.command else { panic!("expected generate") };
            assert_eq!(
                (args.watch.preview, args.prompt.as_deref()),
                (expected, Some("a tree")),
                "{words:?}"
            );
        }
        let wrong = Cli::try_parse_from(["pocketmuse", "generate", "a", "--preview=jpeg"])
            .expect_err("unknown");
        assert!(
            wrong
                .to_string()
                .contains("[possible values: auto, kitty, iterm, sixel, blocks, files]"),
            "{wrong}"
        );
    }
}
