//! Runs the command as scripts do.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

pub(crate) fn pocketmuse(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketmuse"));
    command
        .current_dir(folder)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn run(folder: &Path, words: &[&str]) -> Output {
    pocketmuse(folder, words).output().expect("started")
}

/// Runs a command that must succeed; returns its stdout.
pub(crate) fn succeed(folder: &Path, words: &[&str]) -> String {
    let output = run(folder, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
