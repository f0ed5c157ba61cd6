//! Other providers than the CPU are proved, and compile graphs ahead, in a process of their own,
//! which is this command again: a plug-in that crashes or hangs takes that one with it.

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    slice,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use pocketmuse::{
    Cancel, Candidate, Options,
    prepared::{Need, Verdict},
};
use pocketmuse_package::{ContextEntry, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::terminal;

/// How many seconds a proof of one stage may take, if somebody says so.
pub(crate) const SECONDS: &str = "POCKETMUSE_PROOF_SECONDS";

/// Else so many: QNN's simulator takes a minute for a stage, and is the slowest.
const DEFAULT_SECONDS: u64 = 180;

/// How often the wish to stop is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What the other process tells, as a line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// It came to the end of the proof.
    Verdict(Verdict),
    /// The provider failed; this is said of it.
    Failed(String),
    /// Something else is wrong, which is found again without a plug-in.
    Other,
    /// The stage was compiled; these are in the package now, and took so much memory.
    Compiled(Vec<ContextEntry>, Option<Need>),
    /// It was not: the exit code, where, and what is wrong.
    Refused(u8, String, String),
}

impl Told {
    pub(crate) fn of(done: &Result<Verdict>) -> Self {
        match done {
            Ok(verdict) => Self::Verdict(verdict.clone()),
            Err(error) => match Self::of_failed(error) {
                Self::Refused(..) => Self::Other,
                failed => failed,
            },
        }
    }

    /// What went wrong.
    pub(crate) fn of_failed(error: &Error) -> Self {
        let detail = error.detail();
        if error.kind() == ErrorKind::ProviderFailed {
            let said = error.provider().and_then(|name| detail.strip_prefix(name));
            return Self::Failed(said.unwrap_or(detail).trim_start().to_owned());
        }
        let code = terminal::exit_code(error.kind());
        Self::Refused(code, error.at().to_owned(), detail.to_owned())
    }

    /// The line that tells it, whatever else the process printed.
    fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// How the other process ended.
#[derive(Debug)]
enum End {
    Told(Told),
    Died(ExitStatus),
    TimedOut,
}

/// What proves the candidates of a package in other processes, for
/// [`Pipeline::with_prover`](pocketmuse::Pipeline::with_prover).
pub(crate) fn prover(
    folder: &Path,
    options: &Options,
) -> impl Fn(&Candidate, &Cancel) -> Result<Option<Verdict>> + Send + Sync + 'static {
    let (folder, options) = (folder.to_owned(), options.clone());
    move |candidate, cancel| prove(candidate, (&folder, &options), cancel)
}

fn prove(
    candidate: &Candidate,
    (folder, options): (&PathBuf, &Options),
    cancel: &Cancel,
) -> Result<Option<Verdict>> {
    let Candidate { stage, provider, .. } = candidate;
    let mut command = Command::new(program()?);
    command.args(words(slice::from_ref(candidate), folder, options));
    log::debug!("{stage}: {provider} is proved by {command:?}");
    Ok(match run(command, limit(), cancel)? {
        End::Told(Told::Verdict(verdict)) => Some(verdict),
        End::Told(Told::Failed(reason)) => {
            return Err(Error::provider_failed(provider.name(), stage.name(), &reason));
        }
        End::Told(_) => None,
        End::TimedOut => Some(Verdict::not_ended(format!(
            "did not come to the end of its proof within {} s",
            limit().as_secs()
        ))),
        End::Died(status) if is_killed(status) => {
            // By somebody, or for want of memory: that says nothing of the provider.
            let reason = "had its proof killed";
            return Err(Error::provider_failed(provider.name(), stage.name(), reason));
        }
        End::Died(status) => {
            Some(Verdict::not_ended(format!("crashed when it was proved: {status}")))
        }
    })
}

/// Has a stage compiled into its package for each size, by another process, which works in the
/// folder `work` and is ended when `cancel` says so.
pub(crate) fn compile(
    candidates: &[Candidate],
    (folder, options): (&Path, &Options),
    (work, cancel): (&Path, &Cancel),
) -> Result<(Vec<ContextEntry>, Option<Need>)> {
    let Some(Candidate { stage, provider, .. }) = candidates.first() else {
        return Ok((Vec::new(), None));
    };
    let mut command = Command::new(program()?);
    command.args(words(candidates, folder, options)).arg("--into").arg(work);
    let failed = |reason: &str| Err(Error::provider_failed(provider.name(), stage.name(), reason));
    match run(command, Duration::MAX, cancel)? {
        End::Told(Told::Compiled(contexts, need)) => Ok((contexts, need)),
        End::Told(Told::Failed(reason)) => failed(&reason),
        End::Told(Told::Refused(code, at, detail)) => {
            let is_request = code == terminal::exit_code(ErrorKind::BadRequest);
            let kind = if is_request { ErrorKind::BadRequest } else { ErrorKind::Io };
            Err(Error::new(kind, at, detail))
        }
        End::Died(status) => failed(&format!("crashed when it compiled: {status}")),
        other => failed(&format!("told something else than what it compiled: {other:?}")),
    }
}

fn program() -> Result<PathBuf> {
    env::current_exe().map_err(|error| {
        Error::new(ErrorKind::Io, "this program's file", error.to_string()).with_source(error)
    })
}

fn limit() -> Duration {
    let said = env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(said.unwrap_or(DEFAULT_SECONDS))
}

/// The words that have this command prove or compile candidates of one stage.
fn words(candidates: &[Candidate], folder: &Path, options: &Options) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["--offline", "prove", "--package"].map(Into::into).into();
    words.push(folder.into());
    let mut flag = |name: &str, value: String| words.push(format!("--{name}={value}").into());
    for Candidate { grid: [rows, columns], branches, .. } in candidates {
        flag("size", format!("{rows},{columns},{branches}"));
    }
    let Some(Candidate { stage, provider, threads, .. }) = candidates.first() else { return words };
    flag("stage", stage.to_string());
    flag("threads", threads.to_string());
    flag("provider", format!("{stage}={provider}"));
    if let Some(flavour) = options.flavour {
        flag("flavour", flavour.to_string());
    }
    for (key, value) in options.providers.options.get(provider).into_iter().flatten() {
        flag("provider-option", format!("{provider}.{key}={value}"));
    }
    if options.providers.allow_fallback {
        words.push("--allow-fallback".into());
    }
    if let Some(library) = options.providers.libraries.get(provider) {
        words.push("--provider-library".into());
        let mut named = OsString::from(format!("{provider}="));
        named.push(library);
        words.push(named);
    }
    words
}

/// Runs the other process to its end, but no longer than `limit`.
///
/// # Errors
///
/// `Io` if it does not start; `Cancelled` if it is to stop.
fn run(mut command: Command, limit: Duration, cancel: &Cancel) -> Result<End> {
    // What a plug-in prints as it dies is not for people, unless they want to see everything.
    let stderr = if env::var_os("RUST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let program = command.get_program().to_owned();
    let at = |error| Error::io(&program, error);
    let mut child = Running(command.spawn().map_err(at)?);
    let stdout = child.0.stdout.take();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
        let mut lines = lines.map_while(std::io::Result::ok);
        let _ = tell.send(lines.find_map(|line| Told::read(&line))); // nobody may wait any more
    });
    let started = Instant::now();
    let last = loop {
        match told.recv_timeout(LOOK) {
            Ok(last) => break last,
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) if started.elapsed() > limit => {
                return Ok(End::TimedOut);
            }
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                return Err(Error::new(ErrorKind::Cancelled, "", "stopped"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    match last {
        Some(told) => Ok(End::Told(told)), // however it ends after that
        None => Ok(End::Died(child.0.wait().map_err(at)?)),
    }
}

/// A process that is ended when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// Whether somebody killed the process.
#[cfg(unix)]
fn is_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;

    status.signal() == Some(9)
}

#[cfg(not(unix))]
fn is_killed(_status: ExitStatus) -> bool {
    false
}

/// Ends this process when a proof in it takes too long, should nobody else be there to do so.
pub(crate) fn watch_over() {
    let late = limit() + Duration::from_secs(5);
    thread::spawn(move || {
        thread::sleep(late);
        std::process::abort();
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser as _;
    use pocketmuse::{Flavour, Provider, Providers, Stage};

    use super::*;
    use crate::args::{Cli, Command as Typed};

    #[test]
    fn the_words_of_another_process_are_read_as_they_are_meant() {
        let providers = Providers {
            stages: [(Stage::Step, Provider::OpenVino), (Stage::Decoder, Provider::OpenVino)]
                .into(),
            libraries: [(Provider::OpenVino, "/a b.so".into())].into(),
            options: [(
                Provider::OpenVino,
                BTreeMap::from([("precision".to_owned(), "bf16".to_owned())]),
            )]
            .into(),
            allow_fallback: true,
        };
        let options = Options {
            flavour: Some(Flavour::F16),
            providers: providers.clone(),
            ..Options::default()
        };
        let candidate = Candidate {
            stage: Stage::Step,
            provider: Provider::OpenVino,
            grid: [16, 24],
            branches: 2,
            threads: 3,
        };
        let candidates = [candidate, Candidate { grid: [8, 8], branches: 1, ..candidate }];
        let words = words(&candidates, Path::new("/a package"), &options);
        let line = std::iter::once(OsString::from("pocketmuse")).chain(words);
        let Typed::Prove(args) = Cli::try_parse_from(line).expect("read").command else {
            panic!("another command")
        };
        assert_eq!(args.candidates().expect("the same"), candidates);
        assert_eq!(args.package.folder.as_deref(), Some(Path::new("/a package")));
        assert_eq!(args.package.flavour, Some(Flavour::F16));
        let stages = [(Stage::Step, Provider::OpenVino)].into();
        assert_eq!(args.package.run.providers(), Providers { stages, ..providers });
    }

    #[test]
    fn a_line_tells_whatever_else_was_printed() {
        let verdict = Verdict { is_right: true, ..Verdict::not_ended("near") };
        let failed = Error::provider_failed("openvino", "step", "failed: no device");
        for (done, expected) in [
            (Ok(verdict.clone()), Told::Verdict(verdict)),
            (Err(failed), Told::Failed("failed: no device".to_owned())),
            (Err(Error::new(ErrorKind::BadRequest, "a", "b")), Told::Other),
        ] {
            let line = serde_json::to_string(&Told::of(&done)).expect("plain data");
            assert_eq!(Told::read(&line), Some(expected));
        }
        assert_eq!(Told::read("OpenVINO 2026.4.1"), None);
    }
}
