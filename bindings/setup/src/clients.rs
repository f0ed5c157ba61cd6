//! The package clients that can bring ONNX Runtime: pip, npm, and apt to get pip. Knows how each is
//! called and how each says no, not what is brought.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use pocketmuse_package::{ErrorKind, Result};

use crate::{
    child,
    environment::Environment,
    event::{Event, Watch, watch},
    pinned::{NPM_PACKAGE, Release},
    work::{self, WorkFolder},
};

/// Free disk that pip takes at most: the wheel twice and the library.
const PIP_BYTES: u64 = 128 << 20;

/// Free disk that npm takes at most: its package carries every platform's library.
const NPM_BYTES: u64 = 512 << 20;

/// Characters of a client's own words that an error repeats.
const SHOWN_CHARACTERS: usize = 300;

/// Where pip may be. Python runs isolated, so that it imports what it brought itself.
#[cfg(not(windows))]
const PIPS: &[&[&str]] =
    &[&["python3", "-I", "-m", "pip"], &["python", "-I", "-m", "pip"], &["pip3"], &["pip"]];
#[cfg(windows)]
const PIPS: &[&[&str]] =
    &[&["py.exe", "-3", "-I", "-m", "pip"], &["python.exe", "-I", "-m", "pip"], &["pip.exe"]];

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// What a Python says that has no pip, or that knows no isolation and is too old for one.
const NO_PIP: [&str; 2] = ["No module named pip", "Unknown option: -I"];

/// What a client says that met a full disk.
const NO_ROOM: [&str; 5] = [
    "No space left on device",
    "ENOSPC",
    "Disk quota exceeded",
    "EDQUOT",
    "not enough space on the disk",
];

/// Why a client did not bring the library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is none on this machine.
    NotFound(&'static str),
    /// It tried something, and what it said.
    Said {
        /// The beginning of the command line.
        tried: String,
        /// The line that tells, escaped and bounded.
        text: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(client) => write!(f, "{client}: not found"),
            Self::Said { tried, text } => write!(f, "{tried}: {text}"),
        }
    }
}

/// What a client brought.
pub(crate) struct Brought {
    tried: String,
    file: PathBuf,
    /// Where the file lies; removed with it.
    _work: WorkFolder,
}

impl Brought {
    /// Hands the file to `place`. What is not the library is a refusal, since another client may do
    /// better.
    ///
    /// # Errors
    ///
    /// Whatever else `place` fails with.
    pub(crate) fn place(
        self,
        place: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Result<(), Refusal>> {
        match place(&self.file) {
            Err(error) if error.kind() == ErrorKind::BadInput => {
                Ok(Err(Refusal::Said { tried: self.tried, text: printable(error.detail()) }))
            }
            placed => placed.map(Ok),
        }
    }
}

/// What clients are run with.
pub(crate) struct Clients<'a> {
    pub(crate) environment: &'a Environment,
    /// Where the library goes: clients work in a folder of their own beside it.
    pub(crate) library: &'a Path,
}

impl Clients<'_> {
    /// Has pip download the wheel of a release for the platform `tag`. Returns it.
    ///
    /// # Errors
    ///
    /// `NoSpace` for a full disk, `Cancelled`; as a refusal, what the pip that came furthest said.
    pub(crate) fn pip(
        &self,
        release: Release,
        tag: &str,
        watcher: Watch<'_>,
    ) -> Result<Result<Brought, Refusal>> {
        work::check_room(self.library, PIP_BYTES)?;
        let work = WorkFolder::beside(self.library)?;
        let package = requirement(release, "==");
        for pip in PIPS {
            let Some(program) = self.environment.find(pip[0]) else { continue };
            let mut command = self.command(&program, &work);
            command.args(&pip[1..]).args(["download", &package]);
            command.args([
                "--no-deps",
                "--only-binary=:all:",
                "--no-input",
                "--disable-pip-version-check",
                "--quiet",
            ]);
            command.args(["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"]);
            command.args(["--platform", tag, "--dest"]).arg(work.brought());
            let words = [&pip[1..], &["download", &package]].concat().join(" ");
            let tried = printable(&format!("{} {words}", program.display()));
            match self.run(command, &tried, PIP_BYTES, watcher)? {
                Ok(()) => {
                    return Ok(match find_wheel(&work.brought()) {
                        Ok(file) => Ok(Brought { tried, file, _work: work }),
                        Err(text) => Err(Refusal::Said { tried, text }),
                    });
                }
                Err((_, text)) if NO_PIP.iter().any(|no| text.contains(no)) => {}
                Err((refusal, _)) => return Ok(Err(refusal)), // another pip would meet the same
            }
        }
        Ok(Err(Refusal::NotFound("pip")))
    }

    /// Has npm unpack the pinned package, running none of its scripts. Returns the library, whose
    /// path in the package is `member`.
    ///
    /// # Errors
    ///
    /// `NoSpace` for a full disk, `Cancelled`; as a refusal, what npm said.
    pub(crate) fn npm(&self, member: &str, watcher: Watch<'_>) -> Result<Result<Brought, Refusal>> {
        let Some(program) = self.environment.find(NPM) else {
            return Ok(Err(Refusal::NotFound("npm")));
        };
        work::check_room(self.library, NPM_BYTES)?;
        let work = WorkFolder::beside(self.library)?;
        let package = requirement(NPM_PACKAGE, "@");
        let mut command = self.command(&program, &work);
        command.args([
            "install",
            "--ignore-scripts",
            "--no-global",
            "--no-save",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--prefix",
        ]);
        command.arg(work.brought()).arg(&package);
        let tried = printable(&format!("{} install {package}", program.display()));
        Ok(match self.run(command, &tried, NPM_BYTES, watcher)? {
            Ok(()) => {
                let modules = work.brought().join("node_modules");
                let file = modules.join(NPM_PACKAGE.name).join(member);
                Ok(Brought { tried, file, _work: work })
            }
            Err((refusal, _)) => Err(refusal),
        })
    }

    /// Whether there is an apt that could install pip.
    pub(crate) fn has_apt(&self) -> bool {
        self.environment.find_system("apt-get").is_some()
    }

    /// Installs pip through apt, as root or by a `sudo` that asks nothing. It says so before.
    ///
    /// # Errors
    ///
    /// `NoSpace` for a full disk, `Cancelled`; as a refusal, what apt said, or that it is not there.
    pub(crate) fn apt(&self, watcher: Watch<'_>) -> Result<Result<(), Refusal>> {
        let Some(apt) = self.environment.find_system("apt-get") else {
            return Ok(Err(Refusal::NotFound("apt-get")));
        };
        let sudo = self.environment.find_system("sudo");
        if !is_root() && sudo.is_none() {
            return Ok(Err(Refusal::NotFound("sudo, for apt-get")));
        }
        let note = "installing python3-pip through apt-get, to bring ONNX Runtime";
        watch(watcher, Event::Note(note))?;
        let work = WorkFolder::beside(self.library)?;
        let install = ["install", "-y", "--no-install-recommends", "python3-pip"];
        for arguments in [&["update"][..], &install] {
            let mut command = match &sudo {
                Some(sudo) if !is_root() => {
                    let mut command = self.command(sudo, &work);
                    command.arg("-n").arg(&apt);
                    command
                }
                _ => self.command(&apt, &work),
            };
            command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            command.env("PATH", self.environment.system_path());
            let tried = printable(&format!("{} {}", apt.display(), arguments.join(" ")));
            if let Err((refusal, _)) = self.run(command, &tried, PIP_BYTES, watcher)? {
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(()))
    }

    fn command(&self, program: &Path, work: &WorkFolder) -> Command {
        self.environment.command(program, &work.empty(), &work.temporary())
    }

    /// Runs a client. What it said comes as a refusal and in full.
    fn run(
        &self,
        command: Command,
        tried: &str,
        needed: u64,
        watcher: Watch<'_>,
    ) -> Result<Result<(), (Refusal, String)>> {
        let Err(child::Failure { text }) = child::run(command, watcher)? else {
            return Ok(Ok(()));
        };
        if NO_ROOM.iter().any(|no| text.contains(no)) {
            return Err(work::no_room(self.library, needed, None));
        }
        let line = printable(telling_line(&text));
        Ok(Err((Refusal::Said { tried: tried.to_owned(), text: line }, text)))
    }
}

fn requirement(release: Release, is: &str) -> String {
    format!("{}{is}{}", release.name, release.version)
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// The first line in which a client says what went wrong, else its last line.
fn telling_line(text: &str) -> &str {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tells = |line: &&str| {
        ["ERROR:", "E:", "npm error", "error:"].iter().any(|start| line.starts_with(start))
    };
    lines().find(tells).or(lines().next_back()).unwrap_or_default()
}

/// A program's words as a terminal may show them: control and direction characters as escapes, and
/// not too many.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN_CHARACTERS {
            shown.push_str("...");
            break;
        }
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

/// The wheel in `folder`, or what is there instead.
fn find_wheel(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let wheel = paths.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    wheel.ok_or_else(|| "expected a wheel, found none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_line_that_tells() {
        let cases = [
            (
                "Looking in links: x\nERROR: No matching distribution\nhint\n",
                "ERROR: No matching distribution",
            ),
            ("npm error code E404\nnpm error 404 Not Found", "npm error code E404"),
            ("/usr/bin/python3: No module named pip\n", "/usr/bin/python3: No module named pip"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(telling_line(text), expected);
        }
    }

    #[test]
    fn what_a_client_says_is_shown_as_plain_text() {
        let cases = [
            ("E: \u{1b}[2J\u{7}gone", "E: \\u{1b}[2J\\u{7}gone"),
            ("a\u{202e}b\u{9b}31m\r", "a\\u{202e}b\\u{9b}31m\\r"),
            (r#"C:\a "b" 'c' größer 猫"#, r#"C:\a "b" 'c' größer 猫"#),
        ];
        for (said, shown) in cases {
            assert_eq!(printable(said), shown);
        }
        let long = printable(&"x".repeat(100_000));
        assert_eq!(long, "x".repeat(SHOWN_CHARACTERS) + "...");
    }

    #[test]
    fn what_pip_brings_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(find_wheel(folder.path()).is_err());
        fs::write(folder.path().join("onnxruntime-1.whl"), "").expect("written");
        assert!(find_wheel(folder.path()).is_ok());
    }
}
