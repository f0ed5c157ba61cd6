//! Runs the command as scripts do.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
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

/// The bundled model's package in the user's cache, which is never written to.
pub(crate) fn bundled(flavour: pocketmuse::Flavour) -> PathBuf {
    let cache = pocketmuse_cli::bundled::cache_folder().expect("a cache of this user");
    pocketmuse_cli::bundled::package(&cache, flavour, |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Puts the bundled model's package into a new cache, `cache`: where it lies there.
pub(crate) fn fill_cache(cache: &Path, flavour: pocketmuse::Flavour) -> PathBuf {
    let package = bundled(flavour);
    let folder = cache.join("pocketmuse").join(pocketmuse_cli::bundled::NAME);
    let target = folder.join(package.file_name().expect("a name"));
    link_folder(&package, &target);
    target
}

/// A folder with the same files to be changed, but for large ones: those are links, which are
/// removed before others take their place.
pub(crate) fn link_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            link_folder(&path, &target);
            continue;
        }
        let is_large = path.metadata().expect("a file").len() > 1 << 20;
        let linked = is_large && link(&path, &target);
        assert!(linked || fs::copy(&path, &target).is_ok(), "{}", target.display());
    }
}

/// Makes a symbolic link, where there are such: a hard one would change the file's own times.
fn link(from: &Path, to: &Path) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(from, to).is_ok();
    #[cfg(not(unix))]
    false
}
