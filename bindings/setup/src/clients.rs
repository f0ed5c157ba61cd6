//! The package clients that can bring ONNX Runtime: pip, npm, and apt to get
//! pip. Knows how each is called and how each says no, not what is brought.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::pinned::{NPM_PACKAGE, Source, WHEEL};

/// Why a client did not bring it, one line for people.
pub(super) type Refusal = String;

/// Where pip may be.
#[cfg(not(windows))]
const PIPS: &[&[&str]] =
    &[&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
#[cfg(windows)]
const PIPS: &[&[&str]] = &[&["py", "-3", "-m", "pip"], &["python", "-m", "pip"], &["pip"]];

/// Has pip download the pinned wheel into `folder`; returns the wheel.
///
/// # Errors
///
/// What the pip that came furthest said.
pub(super) fn pip(wheel: &Source, folder: &Path) -> Result<PathBuf, Refusal> {
    let mut refusal = "pip: not found".to_owned();
    for pip in PIPS {
        let mut command = Command::new(pip[0]);
        command.args(&pip[1..]).args(["download", &format!("{}=={}", WHEEL.0, WHEEL.1)]);
        command.args([
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--disable-pip-version-check",
            "--quiet",
        ]);
        command.args(["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"]);
        command.args(["--platform", wheel.tag, "--dest"]).arg(folder);
        match run(&mut command) {
            Ok(()) => return find_wheel(folder),
            Err(Failure::Missing) => {}
            Err(Failure::Said(text)) if text.contains("No module named pip") => {}
            Err(Failure::Said(text)) => {
                refusal = format!("{}: {text}", pip.join(" "));
                break; // another pip on this machine would meet the same
            }
        }
    }
    Err(refusal)
}

/// Has npm unpack the pinned package under `folder`, running none of its scripts; returns the
/// library.
///
/// # Errors
///
/// What npm said.
pub(super) fn npm(library: &Source, folder: &Path) -> Result<PathBuf, Refusal> {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.args([
        "install",
        "--ignore-scripts",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--prefix",
    ]);
    command.arg(folder).arg(format!("{}@{}", NPM_PACKAGE.0, NPM_PACKAGE.1));
    match run(&mut command) {
        Ok(()) => Ok(folder.join("node_modules").join(NPM_PACKAGE.0).join(library.member)),
        Err(Failure::Missing) => Err("npm: not found".to_owned()),
        Err(Failure::Said(text)) => Err(format!("npm: {text}")),
    }
}

/// Installs pip through apt, as root or by a `sudo` that asks nothing. `say` is told before
/// anything is installed.
///
/// # Errors
///
/// What apt said, or that it is not there.
pub(super) fn apt(say: &mut dyn FnMut(&str)) -> Result<(), Refusal> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err("apt-get: not found".to_owned());
    }
    let prefix: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
    say("installing python3-pip through apt-get, to bring ONNX Runtime");
    for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", "python3-pip"]]
    {
        let words: Vec<_> = prefix.iter().chain(&["apt-get", "-qq"]).chain(arguments).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command).map_err(|failure| match failure {
            Failure::Missing => format!("{}: not found", words[0]),
            Failure::Said(text) => format!("apt-get {}: {text}", arguments[0]),
        })?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

enum Failure {
    /// There is no such program.
    Missing,
    /// What it said last.
    Said(String),
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing),
        Err(error) => return Err(Failure::Said(error.to_string())),
    };
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stderr, output.stdout]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    Err(Failure::Said(telling_line(&text).unwrap_or_else(|| output.status.to_string())))
}

/// The first line in which a client says what went wrong, else its last line.
fn telling_line(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tells = |line: &&str| {
        ["ERROR:", "E:", "npm error", "error:"].iter().any(|start| line.starts_with(start))
    };
    lines().find(tells).or(lines().next_back()).map(str::to_owned)
}

fn find_wheel(folder: &Path) -> Result<PathBuf, Refusal> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("pip: {}: {error}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let wheel = paths.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    wheel.ok_or_else(|| "pip: it said yes and brought no wheel".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_line_that_tells() {
        let cases = [
            (
                "Looking in links: x\nERROR: No matching distribution\nhint\n",
                Some("ERROR: No matching distribution"),
            ),
            ("npm error code E404\nnpm error 404 Not Found", Some("npm error code E404")),
            (
                "/usr/bin/python3: No module named pip\n",
                Some("/usr/bin/python3: No module named pip"),
            ),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(telling_line(text).as_deref(), expected);
        }
    }

    #[test]
    fn what_pip_brings_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(find_wheel(folder.path()).is_err());
        fs::write(folder.path().join("onnxruntime-1.whl"), "").expect("written");
        assert!(find_wheel(folder.path()).is_ok());
    }
}
