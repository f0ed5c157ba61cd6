//! What the terminal at stderr can show and how large it is: from the environment and, where that
//! leaves it open, by asking the terminal, which is given half a second. Knows no image.

use std::{
    env,
    io::{self, IsTerminal},
    sync::OnceLock,
};

/// The most columns and lines that are drawn on.
const MOST: [u32; 2] = [80, 24];
/// The size of a terminal that does not tell.
const USUAL: [u32; 2] = [80, 24];
/// The pixels of a character where the terminal does not tell: small, so that an image never has
/// more lines than thought.
const SMALL_CELL: [u32; 2] = [6, 12];

/// What a terminal shows images by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Art {
    Kitty,
    Iterm,
    Sixel,
    Blocks,
}

/// What the terminal at stderr shows images by, `None` if there is none or it shows nothing. It
/// is asked once.
pub(super) fn art() -> Option<Art> {
    static FOUND: OnceLock<Option<Art>> = OnceLock::new();
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let found =
        || io::stderr().is_terminal().then(|| choose(variable, terminal::has_sixels)).flatten();
    *FOUND.get_or_init(found)
}

/// What the environment says; `has_sixels` asks the terminal.
fn choose(
    variable: impl Fn(&str) -> Option<String>,
    has_sixels: impl FnOnce() -> bool,
) -> Option<Art> {
    let is = |name: &str, values: &[&str]| {
        variable(name).is_some_and(|value| values.contains(&value.as_str()))
    };
    let term = variable("TERM").unwrap_or_default();
    let blocks = is("COLORTERM", &["truecolor", "24bit"]).then_some(Art::Blocks);
    let is_shared = ["TMUX", "STY", "ZELLIJ"].iter().any(|name| variable(name).is_some());
    // Perhaps started from kitty.
    let is_inner = ["XTERM_VERSION", "VTE_VERSION"].iter().any(|name| variable(name).is_some());
    let is_kitty = ["kitty", "ghostty"].iter().any(|name| term.contains(name))
        || !is_inner && (variable("KITTY_WINDOW_ID").is_some() || is("TERM_PROGRAM", &["ghostty"]));
    if term == "dumb" || term.is_empty() {
        None
    } else if is_shared || term.starts_with("tmux") || term.starts_with("screen") {
        blocks // an image would reach a terminal that is only partly ours
    } else if is_kitty {
        Some(Art::Kitty)
    } else if is("TERM_PROGRAM", &["iTerm.app", "WezTerm"]) || is("LC_TERMINAL", &["iTerm2"]) {
        Some(Art::Iterm)
    } else if has_sixels() {
        Some(Art::Sixel)
    } else {
        blocks
    }
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    columns: u32,
    rows: u32,
    /// Width and height of a character in pixels.
    cell: [u32; 2],
}

impl Screen {
    /// The part of the terminal at stderr that is drawn on: below an image, the progress has a
    /// line.
    pub(super) fn now() -> Self {
        let [columns, rows, width, height] = terminal::size().unwrap_or_default();
        let [columns, rows] = if columns > 0 && rows > 0 { [columns, rows] } else { USUAL };
        let cell = [width / columns, height / rows];
        Self {
            columns: columns.min(MOST[0]),
            rows: rows.saturating_sub(2).clamp(1, MOST[1]),
            cell: if cell.contains(&0) { SMALL_CELL } else { cell },
        }
    }

    /// How many lines an image takes that is as large as the screen allows, not larger than it is.
    pub(super) fn lines(&self, width: u32, height: u32) -> u32 {
        let [across, down] = [width.max(1), height].map(u64::from);
        let [cell_width, cell_height] = self.cell.map(u64::from);
        let for_width = u64::from(self.columns) * cell_width * down / (across * cell_height);
        let most = for_width.clamp(1, u64::from(self.rows)) as u32; // at most `rows`
        height.div_ceil(self.cell[1]).clamp(1, most)
    }

    /// The pixels that `lines` lines are high.
    pub(super) fn pixels(&self, lines: u32) -> u32 {
        lines * self.cell[1]
    }

    /// The most pixels of half blocks, across and down.
    pub(super) fn blocks(&self) -> [u32; 2] {
        [self.columns, 2 * self.rows]
    }
}

#[cfg(unix)]
mod terminal {
    use std::{
        fs::File,
        io::{self, Read, Write},
        time::{Duration, Instant},
    };

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::getpgrp,
        termios::{
            LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcgetpgrp, tcgetwinsize,
            tcsetattr,
        },
    };

    /// The time that a terminal has to answer. Nearly all do at once.
    const PATIENCE: Duration = Duration::from_millis(500);
    /// The question which features a terminal has, "primary device attributes".
    const QUESTION: &[u8] = b"\x1b[c";
    /// The feature of showing sixels.
    const SIXELS: &str = "4";

    /// Columns, lines and both in pixels, of stderr.
    pub(super) fn size() -> Option<[u32; 4]> {
        let size = tcgetwinsize(io::stderr()).ok()?;
        Some([size.ws_col, size.ws_row, size.ws_xpixel, size.ws_ypixel].map(u32::from))
    }

    /// Whether the terminal says that it shows sixels.
    pub(super) fn has_sixels() -> bool {
        let answer = File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .and_then(|mut terminal| ask(&mut terminal));
        answer.is_ok_and(|answer| {
            features(&answer).is_some_and(|features| features.split(';').any(|one| one == SIXELS))
        })
    }

    /// The numbers of an answer `ESC [ ? NUMBERS c`, whatever was typed before it.
    pub(super) fn features(answer: &[u8]) -> Option<&str> {
        let start = answer.windows(3).position(|bytes| bytes == b"\x1b[?")? + 3;
        let end = start + answer[start..].iter().position(|byte| *byte == b'c')?;
        std::str::from_utf8(&answer[start..end]).ok()
    }

    /// Asks, without an echo; the terminal is as before afterwards. Nothing is asked where the
    /// answer could be taken from somebody: in the background, or when something was typed ahead.
    pub(super) fn ask(terminal: &mut File) -> io::Result<Vec<u8>> {
        if tcgetpgrp(&*terminal)? != getpgrp() {
            return Ok(Vec::new());
        }
        let before = tcgetattr(&*terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO; // Ctrl-C still stops
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&*terminal, OptionalActions::Now, &quiet)?;
        let answer = converse(terminal);
        tcsetattr(&*terminal, OptionalActions::Now, &before)?;
        answer
    }

    fn converse(terminal: &mut File) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        if is_readable(terminal, Duration::ZERO)? {
            return Ok(answer);
        }
        terminal.write_all(QUESTION)?;
        let start = Instant::now();
        while features(&answer).is_none()
            && is_readable(terminal, PATIENCE.saturating_sub(start.elapsed()))?
        {
            let mut bytes = [0; 64];
            let count = terminal.read(&mut bytes)?;
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&bytes[..count]);
        }
        Ok(answer)
    }

    fn is_readable(terminal: &File, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        Ok(poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&limit))? > 0)
    }
}

#[cfg(not(unix))]
mod terminal {
    //! Where a terminal cannot be asked.

    pub(super) fn size() -> Option<[u32; 4]> {
        None
    }

    pub(super) fn has_sixels() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_and_then_the_terminal() {
        const TRUE: (&str, &str) = ("COLORTERM", "truecolor");
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<bool>, Option<Art>);
        // What is set, what the terminal answers if it may be asked, and what is chosen.
        let cases: [Case<'_>; 17] = [
            (&[("TERM", "xterm-kitty"), TRUE], None, Some(Art::Kitty)),
            (&[("TERM", "xterm-256color"), ("KITTY_WINDOW_ID", "1")], None, Some(Art::Kitty)),
            (
                &[("TERM", "xterm"), ("KITTY_WINDOW_ID", "1"), ("XTERM_VERSION", "XTerm(379)")],
                Some(true),
                Some(Art::Sixel),
            ),
            (&[("TERM", "xterm-ghostty")], None, Some(Art::Kitty)),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "ghostty")], None, Some(Art::Kitty)),
            (
                &[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app"), TRUE],
                None,
                Some(Art::Iterm),
            ),
            (&[("TERM", "xterm-256color"), ("LC_TERMINAL", "iTerm2")], None, Some(Art::Iterm)),
            (&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "WezTerm")], None, Some(Art::Iterm)),
            (&[("TERM", "mlterm")], Some(true), Some(Art::Sixel)),
            (&[("TERM", "xterm")], Some(false), None),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "24bit")], Some(false), Some(Art::Blocks)),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "yes")], Some(false), None),
            (
                &[("TERM", "tmux-256color"), ("TMUX", "x"), ("KITTY_WINDOW_ID", "1"), TRUE],
                None,
                Some(Art::Blocks),
            ),
            (&[("TERM", "screen"), ("STY", "x")], None, None),
            (&[("TERM", "xterm-256color"), ("ZELLIJ", "0"), TRUE], None, Some(Art::Blocks)),
            (&[("TERM", "dumb"), TRUE], None, None),
            (&[TRUE], None, None),
        ];
        for (set, answer, expected) in cases {
            let variable = |name: &str| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            };
            let found =
                choose(variable, || answer.unwrap_or_else(|| panic!("nothing to ask: {set:?}")));
            assert_eq!(found, expected, "{set:?}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn an_answer_is_found_behind_what_was_typed() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"\x1b[?63;1;2;4;6c", Some("63;1;2;4;6")), // xterm -ti vt340
            (b"\x1b[?62;c", Some("62;")),               // kitty
            (b"ls\n\x1b[?1;4c\n", Some("1;4")),
            (b"\x1b[?63;1", None),
            (b"c", None),
            (b"", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(terminal::features(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn an_image_fits_the_screen_and_is_not_enlarged() {
        let screen = Screen { columns: 80, rows: 22, cell: [10, 20] };
        for (sides, lines) in [
            ((128, 128), 7),   // 140 of 128 pixels
            ((512, 512), 22),  // 440
            ((1536, 512), 13), // 780 x 260 of 800
            ((20_000, 16), 1),
            ((1, 1), 1),
        ] {
            assert_eq!(screen.lines(sides.0, sides.1), lines, "{sides:?}");
        }
        assert_eq!((screen.pixels(7), screen.blocks()), (140, [80, 44]));
    }
}
