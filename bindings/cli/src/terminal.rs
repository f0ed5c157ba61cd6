//! What the user and scripts see: lines on stdout and stderr, progress bars, errors and exit codes.
//! Knows nothing of models. Text from elsewhere reaches a terminal as text: see [`escaped`].

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::stop;

/// Where an error of [`print`] is.
pub(crate) const STDOUT: &str = "stdout";

/// Prints a line on stdout. A reader that went away is no failure: what was asked for is still
/// done.
///
/// # Errors
///
/// `Io` if it cannot be written, to a full disk for instance.
pub(crate) fn print(line: impl AsRef<str>) -> Result<()> {
    write_line(io::stdout().lock(), escaped(line.as_ref()).as_bytes())
}

/// Prints lines that this program made, with their line breaks.
///
/// # Errors
///
/// As for [`print`].
pub(crate) fn print_lines(lines: &str) -> Result<()> {
    lines.lines().try_for_each(print)
}

/// Prints what this program made, whatever its bytes: a script, an image.
///
/// # Errors
///
/// As for [`print`].
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    printed(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints a path on stdout: its own bytes for a script, as text for a terminal.
///
/// # Errors
///
/// As for [`print`].
pub(crate) fn print_path(path: &Path) -> Result<()> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return print(path.to_string_lossy());
    }
    write_line(stdout.lock(), &bytes_of(path))
}

#[cfg(unix)]
fn bytes_of(path: &Path) -> Cow<'_, [u8]> {
    Cow::Borrowed(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}

#[cfg(not(unix))]
fn bytes_of(path: &Path) -> Cow<'_, [u8]> {
    Cow::Owned(path.to_string_lossy().into_owned().into_bytes())
}

fn write_line(mut out: impl Write, line: &[u8]) -> Result<()> {
    printed(out.write_all(&[line, b"\n"].concat()).and_then(|()| out.flush()))
}

/// What became of printing on stdout by other means. A reader that went away is no failure.
///
/// # Errors
///
/// As for [`print`].
pub(crate) fn printed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let kind = error.kind();
            Err(Error::new(kind.into(), STDOUT, kind.to_string()).with_source(error))
        }
        _ => Ok(()),
    }
}

/// Prints a line for people on stderr.
pub(crate) fn note(line: impl AsRef<str>) {
    let line = escaped(line.as_ref());
    let _ = writeln!(io::stderr().lock(), "{line}"); // there is nowhere else to say it
}

/// Prints a warning on stderr.
pub(crate) fn warn(line: impl AsRef<str>) {
    note(format!("warning: {}", line.as_ref()));
}

/// Whether a terminal would act on a character, or show nothing of it: control characters, those
/// that turn the direction of text, breaks of lines and paragraphs, letters without a width, tags.
pub(crate) fn is_active(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}')
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(letter, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}') // empty letters
        || matches!(letter, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text from anywhere as a terminal can be given it: characters that it would act on are escapes
/// such as `\n` and `\u{1b}`.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => shown.extend(letter.escape_default()),
            letter if is_active(letter) => shown.extend(letter.escape_unicode()),
            letter => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// A bar on stderr that counts bytes; invisible where stderr is no terminal.
pub(crate) fn byte_bar(what: &'static str) -> ProgressBar {
    bar(what, "{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left")
}

/// A bar on stderr that counts steps; invisible where stderr is no terminal or if `hidden`.
pub(crate) fn step_bar(what: &'static str, hidden: bool) -> ProgressBar {
    let bar = bar(what, "{msg} [{bar:30}] {pos} of {len}, {eta} left");
    if hidden {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

fn bar(what: &'static str, template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).expect("the templates of this file are valid");
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(what)
}

/// Prints an error, one line on stderr, and returns the exit code it stands for.
pub(crate) fn fail(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Cancelled => note("stopped, nothing was written"),
        _ => tell(error),
    }
    exit_code(error.kind())
}

/// Prints an error, one line on stderr. A field of a request that has another flag is followed by
/// it.
pub(crate) fn tell(error: &Error) {
    let field = "without prompt_weighting";
    let line = format!("error: {error}");
    note(line.replace(field, &format!("{field} (--no-prompt-weighting)")));
}

/// What is wrong with a command line as one line, and the parser's tips, a line each: its paragraphs
/// before its advice to read the help.
pub(crate) fn usage_lines(text: &str) -> (String, Vec<String>) {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !["Usage:", "For more"].iter().any(|end| line.starts_with(end)));
    let (tips, error): (Vec<_>, Vec<_>) =
        lines.filter(|line| !line.is_empty()).partition(|line| line.starts_with("tip: "));
    (error.join(" "), tips.into_iter().map(str::to_owned).collect())
}

/// The exit code of a failure: 2 for a request that nobody could serve, 130 for Ctrl-C, else 1.
pub(crate) fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::BadRequest | ErrorKind::Unsupported | ErrorKind::NotEnoughMemory => 2,
        ErrorKind::Cancelled => stop::EXIT_CODE,
        _ => 1,
    }
}

/// A time as files and tables hold it, to the microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Bytes as people read them: `12.3 MB`.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A count as people read it: `603,537,664`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (603_537_664, "603,537,664")]
        {
            assert_eq!(thousands(count), text);
        }
        assert_eq!(megabytes(30_891_972), "30.9 MB");
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let text = "error: unexpected argument '--x' found\n\n  tip: to pass '--x' as a value, use \
                    '-- --x'\n\nUsage: pocketmuse generate [PROMPT]\n\nFor more information, try \
                    '--help'.\n";
        let (line, tips) = usage_lines(text);
        assert_eq!(line, "error: unexpected argument '--x' found");
        assert_eq!(tips, ["tip: to pass '--x' as a value, use '-- --x'"]);
    }

    #[test]
    fn exit_codes_tell_scripts_what_to_do() {
        let cases = [
            (ErrorKind::BadRequest, 2),
            (ErrorKind::Cancelled, 130),
            (ErrorKind::Io, 1),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::EngineMissing, 1),
        ];
        for (kind, code) in cases {
            assert_eq!(exit_code(kind), code);
        }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_shown() {
        for (text, shown) in [
            ("a red house, ein Haus, 漢字 🚀", "a red house, ein Haus, 漢字 🚀"),
            ("\x1b]0;owned\x07", "\\u{1b}]0;owned\\u{7}"),
            ("a\nerror: forged\r\t", "a\\nerror: forged\\r\\t"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("a\u{200b}b\u{200d}\u{feff}\u{ad}", "a\\u{200b}b\\u{200d}\\u{feff}\\u{ad}"),
            ("\u{e0041}\u{3164}\u{2060}", "\\u{e0041}\\u{3164}\\u{2060}"),
            ("\u{2066}a\u{2069}\u{200f}\u{2028}", "\\u{2066}a\\u{2069}\\u{200f}\\u{2028}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }

    #[test]
    fn only_a_reader_that_went_away_is_no_failure() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        write_line(Broken(io::ErrorKind::BrokenPipe), b"a").expect("a reader that went away");
        let error = write_line(Broken(io::ErrorKind::StorageFull), b"a").expect_err("a full disk");
        assert_eq!((error.kind(), error.at()), (ErrorKind::NoSpace, STDOUT));
    }

    proptest::proptest! {
        #[test]
        fn nothing_active_is_left(text: String) {
            proptest::prop_assert!(!escaped(&text).contains(is_active));
        }
    }
}
