//! Computes the part of the key of the built-in model's cached package that is known at build time:
//! it changes with the model and with every source that turns it into a package. And says what is
//! built: the commit, where there is one, and the target.

#[path = "src/sources.rs"]
mod sources;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> io::Result<()> {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    for source in sources::FOLDERS.iter().chain([&sources::LOCK]) {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rustc-env=POCKETMUSE_BUNDLED_KEY={}", sources::digest(&root)?);
    println!("cargo::rustc-env=POCKETMUSE_TARGET={}", env::var("TARGET").expect("cargo sets it"));
    // Not watched: every commit would build the command anew, and all that depends on it. What a
    // clean clone builds says the right one; what is built again and again may say an older one.
    if let Some(commit) = git(&root, &["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=POCKETMUSE_COMMIT={commit}");
    }
    Ok(())
}

/// What git says in one line; `None` without git or outside a repository.
fn git(root: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(words).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !said.trim().is_empty()).then(|| said.trim().to_owned())
}
