//! Runs the command as scripts do.
#![allow(dead_code, reason = "each test binary uses a part")]

#[path = "../../../../tests/integration/folders.rs"]
pub(crate) mod folders;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use self::folders::{flavoured_package, link_folder};

/// One thread for each process: tests run side by side, and threads that wait for each other spin.
/// Without it a small image takes twice the processor's time.
pub(crate) const ONE_THREAD: (&str, &str) = ("POCKETMUSE_THREADS", "1");

pub(crate) fn pocketmuse(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketmuse"));
    command
        .current_dir(folder)
        .args(words)
        .envs([ONE_THREAD])
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

/// What is in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Puts the bundled model's package into a new cache, `cache`: where it lies there.
pub(crate) fn fill_cache(cache: &Path, flavour: pocketmuse::Flavour) -> PathBuf {
    let package = flavoured_package(flavour);
    let folder = cache.join("pocketmuse").join(pocketmuse_cli::bundled::NAME);
    let target = folder.join(package.file_name().expect("a name"));
    link_folder(&package, &target);
    target
}
