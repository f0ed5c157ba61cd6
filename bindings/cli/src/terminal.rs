//! What the user and scripts see: lines on stdout and stderr, progress bars,
//! errors and exit codes. Knows nothing of models.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pocketmuse_package::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::stop;

/// Prints a line on stdout. A reader that went away is no failure: what was asked for is still
/// done.
pub(crate) fn print(line: impl AsRef<str>) {
    let _ = writeln!(io::stdout().lock(), "{}", line.as_ref());
}

/// Prints a line for people on stderr.
pub(crate) fn note(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// Prints a warning on stderr.
pub(crate) fn warn(line: impl AsRef<str>) {
    note(format!("warning: {}", line.as_ref()));
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
        _ => note(format!("error: {error}")),
    }
    exit_code(error.kind())
}

/// What is wrong with a command line as one line: the parser's paragraphs before its advice to read
/// the help.
pub(crate) fn usage_line(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !["Usage:", "For more"].iter().any(|end| line.starts_with(end)));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The exit code of a failure: 2 for a request that nobody could serve, 130 for Ctrl-C, else 1.
pub(crate) fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::BadRequest | ErrorKind::NotEnoughMemory => 2,
        ErrorKind::Cancelled => stop::EXIT_CODE,
        _ => 1,
    }
}

/// Plain data as JSON, its f32 numbers as short as they were typed.
pub(crate) fn plain_json(data: &impl serde::Serialize) -> Value {
    // Through text, because a value holds numbers as f64, where 0.7 becomes 0.699999988.
    let text = serde_json::to_string(data).expect("plain data with string keys always serializes");
    serde_json::from_str(&text).expect("what was just written is JSON")
}

/// An error as an event for scripts.
pub(crate) fn error_event(error: &Error) -> Value {
    json!({
        "event": "error",
        "kind": kind_name(error.kind()),
        "at": error.at(),
        "message": error.detail(),
        "exit_code": exit_code(error.kind()),
    })
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "io",
        ErrorKind::NoSpace => "no_space",
        ErrorKind::BadCheckpoint => "bad_checkpoint",
        ErrorKind::PackageDamaged => "package_damaged",
        ErrorKind::BadRequest => "bad_request",
        ErrorKind::NotEnoughMemory => "not_enough_memory",
        ErrorKind::BadInput => "bad_input",
        ErrorKind::Runtime => "runtime",
        ErrorKind::Cancelled => "cancelled",
        _ => "other",
    }
}

/// A time as files and tables hold it, to the microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Bytes as people read them: `12.3 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
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
        assert_eq!(mebibytes(30_891_972), "29.5 MiB");
    }

    #[test]
    fn short_numbers_stay_short() {
        assert_eq!(plain_json(&[0.7f32]).to_string(), "[0.7]");
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let text = "error: unexpected argument '--x' found\n\n  tip: to pass '--x' as a value, use '-- --x'\n\n\
                    Usage: pocketmuse generate [PROMPT]\n\nFor more information, try '--help'.\n";
        let expected =
            "error: unexpected argument '--x' found tip: to pass '--x' as a value, use '-- --x'";
        assert_eq!(usage_line(text), expected);
    }

    #[test]
    fn exit_codes_tell_scripts_what_to_do() {
        let cases = [
            (ErrorKind::BadRequest, 2),
            (ErrorKind::Cancelled, 130),
            (ErrorKind::Io, 1),
            (ErrorKind::Runtime, 1),
        ];
        for (kind, code) in cases {
            let error = Error::new(kind, "height", "expected a multiple of 16, found 17");
            assert_eq!(exit_code(kind), code);
            assert_eq!(error_event(&error)["exit_code"], code);
        }
    }
}
