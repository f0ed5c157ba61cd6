//! Programs of others that slow tests check with: brought by package clients on the first use. Also
//! for the tests of the command.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Runs a command that must succeed; returns its stdout.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A Python that has `module`, from a package with its version (`onnx==1.19.1`), in a folder of its
/// own.
pub(crate) fn python(module: &str, package: &str) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{package}"));
    let python = folder.join("bin/python");
    let is_there = || run(Command::new(&python).args(["-c", &format!("import {module}")]));
    if is_there().is_ok() {
        return Ok(python);
    }
    let venv = || run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    if venv().is_err() {
        debian("python3-venv")?; // a bare Debian has no Python, or one without venv
        venv()?;
    }
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", package];
    run(Command::new(&python).args(pip))?;
    is_there()?;
    Ok(python)
}

/// Brings a package of Debian.
pub(crate) fn debian(package: &str) -> Result<String, String> {
    run(Command::new("apt-get").args(["update", "-q"]))?;
    let install = ["install", "-y", "-q", "--no-install-recommends", package];
    run(Command::new("apt-get").args(install))
}
