//! The command in a folder of its own, with a full-size checkpoint, and rows of what it took.

#[path = "../../tests/support/cost.rs"]
pub(crate) mod cost;

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use self::cost::Peaks;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The pocketmuse command in a folder of its own.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    library: PathBuf,
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) seconds: f64,
    pub(crate) peaks: Peaks,
}

impl Bench {
    /// `None` where it is only to be shown that it builds: nothing here is quick.
    pub(crate) fn new() -> Result<Option<Self>> {
        if env::args().any(|word| word == "--test") {
            return Ok(None);
        }
        let library = pocketmuse_cli::runtime::start(false)?.path().canonicalize()?;
        Ok(Some(Self { folder: tempfile::tempdir()?, library }))
    }

    /// The checkpoint that `POCKETMUSE_CHECKPOINT` names, or one of random weights.
    pub(crate) fn checkpoint(&self) -> Result<String> {
        if let Ok(checkpoint) = env::var("POCKETMUSE_CHECKPOINT") {
            return Ok(fs::canonicalize(checkpoint)?.display().to_string());
        }
        self.run(&["synth", "--preset", "amused-512", "-o", "amused-512"])?;
        Ok("amused-512".to_owned())
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<Ran> {
        self.run_as(Command::new(env!("CARGO_BIN_EXE_pocketmuse")), words)
    }

    pub(crate) fn run_as(&self, mut command: Command, words: &[&str]) -> Result<Ran> {
        eprintln!("pocketmuse {}", words.join(" "));
        command.args(words).current_dir(&self.folder);
        // What is prepared once goes where the bench's files go.
        command
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .env("ORT_DYLIB_PATH", &self.library);
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let peaks = Peaks::of(&mut child);
        let seconds = started.elapsed().as_secs_f64();
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("pocketmuse {} failed: {}", words.join(" "), output.status).into());
        }
        Ok(Ran { stdout: String::from_utf8(output.stdout)?, seconds, peaks })
    }
}

/// Begins the table.
pub(crate) fn head() {
    println!("| figure | must | aim | found |\n|---|---|---|---|");
}

pub(crate) fn row(figure: &str, must: &str, aim: &str, found: &str) {
    println!("| {figure} | {must} | {aim} | {found} |");
}

pub(crate) fn mb(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// A number of what a command printed.
pub(crate) fn number(from: &Value, name: &str) -> Result<f64> {
    from[name]
        .as_f64()
        .ok_or_else(|| format!("expected the number {name}, found {}", from[name]).into())
}
