//! What `--json` prints: one object per line, described in docs/events.md. Keys stand in
//! alphabetical order.

mod stages;

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

use pocketmuse::{Flavour, Output, Plan, Provider, Report, Request, Stage};
use pocketmuse_package::{Digest, Error, ErrorKind};
use serde::{Serialize, Serializer};
use serde_json::Value;

use self::stages::{PlannedStage, RunStage};
use crate::terminal::{self, milliseconds};

/// What happens while images are made.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    /// The package is open.
    Start {
        package: PathText<'a>,
        model: &'a str,
        digest: Digest,
        flavour: Flavour,
        providers: BTreeMap<Stage, Provider>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        provider_options: BTreeMap<Provider, BTreeMap<String, String>>,
        seed: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        files: Vec<PathText<'a>>,
        #[serde(flatten)]
        place: Option<Place>,
    },
    /// Images of one of several jobs are there already.
    Skipped {
        files: Vec<PathText<'a>>,
        #[serde(flatten)]
        place: Option<Place>,
    },
    /// Several jobs are over.
    Batch { made: usize, skipped: usize, failed: usize, total: usize, total_ms: f64 },
    /// Something that does not stop the command.
    Warning { message: &'a str },
    /// A step is done, counted from 1; `preview` names the files that show it.
    Step {
        step: usize,
        num_inference_steps: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        preview: Option<Vec<PathText<'a>>>,
    },
    /// So many images of a grid are done.
    Picture { picture: usize, pictures: usize },
    /// So many frames of a video are done.
    Frame { frame: u32, frames: u32 },
    /// A trace is written.
    Trace { page: PathText<'a> },
    /// What `--explain` shows.
    Plan(PlanOf),
    /// `generate`, `edit` and `resume` are done.
    #[serde(rename = "done")]
    Images(ImagesDone<'a>),
    /// `grid` is done.
    #[serde(rename = "done")]
    Grid { files: Vec<PathText<'a>>, request: &'a Request, legend: Vec<String> },
    /// `video` is done.
    #[serde(rename = "done")]
    Video {
        files: Vec<PathText<'a>>,
        frames: u32,
        request: &'a Request,
        #[serde(flatten)]
        took: Took<'a>,
    },
    /// The command, or a job of several, failed.
    Error {
        kind: &'static str,
        at: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<&'static str>,
        exit_code: u8,
    },
}

/// Which of several jobs: its line in the file of prompts, from 1, and how many there are.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// From 1.
    pub(crate) job: usize,
    pub(crate) total: usize,
}

/// How stages are loaded and what that takes.
#[derive(Debug, Serialize)]
pub(crate) struct PlanOf {
    budget_bytes: u64,
    threads: usize,
    held_bytes: u64,
    prompt_bytes: u64,
    stages: Vec<PlannedStage>,
    peak_rss_bytes: u64,
    peak_anonymous_bytes: u64,
}

/// What was made and what it took.
#[derive(Debug, Serialize)]
pub(crate) struct ImagesDone<'a> {
    files: Vec<PathText<'a>>,
    seed: u64,
    request: &'a Request,
    truncated: &'a [String],
    #[serde(flatten)]
    took: Took<'a>,
}

/// What a job took, and who computed it.
#[derive(Debug, Serialize)]
pub(crate) struct Took<'a> {
    stages: Vec<RunStage<'a>>,
    total_ms: f64,
    peak_rss_bytes: Option<u64>,
}

impl<'a> Took<'a> {
    /// What the report of it says.
    pub(crate) fn of(report: &'a Report) -> Self {
        Self {
            stages: report.stages.iter().map(RunStage::of).collect(),
            total_ms: milliseconds(report.total),
            peak_rss_bytes: report.peak_rss_bytes,
        }
    }
}

/// A path as JSON can hold it: what is no UTF-8 becomes U+FFFD.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathText<'a>(pub(crate) &'a Path);

impl Serialize for PathText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string_lossy())
    }
}

/// Paths as JSON can hold them.
pub(crate) fn paths(paths: &[PathBuf]) -> Vec<PathText<'_>> {
    paths.iter().map(|path| PathText(path)).collect()
}

impl<'a> Event<'a> {
    /// A failure.
    pub(crate) fn error(error: &'a Error) -> Self {
        Self::Error {
            kind: kind_name(error.kind()),
            at: error.at(),
            message: error.detail(),
            provider: error.provider(),
            exit_code: terminal::exit_code(error.kind()),
        }
    }

    /// A plan.
    pub(crate) fn plan(plan: &Plan) -> Self {
        Self::Plan(PlanOf {
            budget_bytes: plan.budget_bytes,
            threads: plan.threads,
            held_bytes: plan.held_bytes,
            prompt_bytes: plan.prompt_bytes,
            stages: plan.stages.iter().map(PlannedStage::of).collect(),
            peak_rss_bytes: plan.peak_rss_bytes(),
            peak_anonymous_bytes: plan.peak_anonymous_bytes(),
        })
    }

    /// Images that were made.
    pub(crate) fn images(files: &'a [PathBuf], output: &'a Output) -> Self {
        Self::Images(ImagesDone {
            files: paths(files),
            seed: output.request.seed,
            request: &output.request,
            truncated: &output.truncated,
            took: Took::of(&output.report),
        })
    }

    /// The event as a line. `lossy_paths` is in it if a path of it is not as the system has it.
    pub(crate) fn line(&self) -> String {
        let mut value = plain_json(self);
        if self.paths().any(|path| path.0.to_str().is_none()) {
            value["lossy_paths"] = Value::Bool(true);
        }
        line(&value)
    }

    fn paths(&self) -> impl Iterator<Item = PathText<'a>> {
        let (one, several) = match self {
            Self::Start { package: path, files, .. } => (Some(*path), Some(files)),
            Self::Trace { page: path } => (Some(*path), None),
            Self::Step { preview, .. } => (None, preview.as_ref()),
            Self::Images(ImagesDone { files, .. })
            | Self::Skipped { files, .. }
            | Self::Grid { files, .. }
            | Self::Video { files, .. } => (None, Some(files)),
            _ => (None, None),
        };
        one.into_iter().chain(several.cloned().into_iter().flatten())
    }
}

/// Plain data as JSON, its keys sorted and its f32 numbers as short as they were typed.
pub(crate) fn plain_json(data: &impl Serialize) -> Value {
    // Through text, because a value holds numbers as f64, where 0.7 becomes 0.699999988.
    let text = serde_json::to_string(data).expect("plain data with string keys always serializes");
    serde_json::from_str(&text).expect("what was just written is JSON")
}

/// JSON as a line. Characters that a terminal would act on are escaped, also those that JSON
/// allows.
pub(crate) fn line(value: &Value) -> String {
    let json = value.to_string();
    let mut line = String::with_capacity(json.len());
    for letter in json.chars() {
        if terminal::is_active(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(line, "\\u{unit:04x}"); // a string takes everything
            }
        } else {
            line.push(letter);
        }
    }
    line
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "io",
        ErrorKind::NotFound => "not_found",
        ErrorKind::NotAllowed => "not_allowed",
        ErrorKind::NoSpace => "no_space",
        ErrorKind::BadCheckpoint => "bad_checkpoint",
        ErrorKind::PackageDamaged => "package_damaged",
        ErrorKind::PackageTooNew => "package_too_new",
        ErrorKind::BadRequest => "bad_request",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::NotEnoughMemory => "not_enough_memory",
        ErrorKind::BadInput => "bad_input",
        ErrorKind::EngineMissing => "engine_missing",
        ErrorKind::EngineFailed => "engine_failed",
        ErrorKind::ProviderFailed => "provider_failed",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Internal => "internal",
        _ => "other",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub(crate) const DOCUMENT: &str = include_str!("../../../docs/events.md");

    /// One of each, with every key that it can have.
    fn events<'a>(
        (request, report): (&'a Request, &'a Report),
        error: &'a Error,
    ) -> Vec<Event<'a>> {
        let (files, digest) = (vec![PathText(Path::new("a.png"))], Digest::of(b""));
        vec![
            Event::Start {
                package: files[0],
                model: "tiny",
                digest,
                flavour: Flavour::F32,
                providers: BTreeMap::new(),
                provider_options: [(Provider::OpenVino, BTreeMap::new())].into(),
                seed: 3,
                files: files.clone(),
                place: Some(Place { line: Some(1), job: 1, total: 2 }),
            },
            Event::Skipped {
                files: files.clone(),
                place: Some(Place { line: Some(1), job: 1, total: 2 }),
            },
            Event::Batch { made: 1, skipped: 0, failed: 0, total: 1, total_ms: 1.5 },
            Event::Warning { message: "a" },
            Event::Step { step: 1, num_inference_steps: 2, preview: Some(files.clone()) },
            Event::Picture { picture: 1, pictures: 2 },
            Event::Frame { frame: 1, frames: 2 },
            Event::Trace { page: files[0] },
            Event::Plan(PlanOf {
                budget_bytes: 1,
                threads: 2,
                held_bytes: 3,
                prompt_bytes: 4,
                stages: vec![],
                peak_rss_bytes: 3,
                peak_anonymous_bytes: 4,
            }),
            Event::Images(ImagesDone {
                files: files.clone(),
                seed: 3,
                request,
                truncated: &[],
                took: Took::of(report),
            }),
            Event::Grid { files: files.clone(), request, legend: vec![] },
            Event::Video { files, frames: 2, request, took: Took::of(report) },
            Event::error(error),
        ]
    }

    /// The keys in the document's tables below the heading `name`.
    pub(crate) fn documented(name: &str) -> BTreeSet<String> {
        let (_, section) = DOCUMENT.split_once(&format!("\n### {name}\n")).expect(name);
        let rows = section.lines().take_while(|line| !line.starts_with('#'));
        let keys = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
        keys.map(str::to_owned).collect()
    }

    /// The keys of an object.
    pub(crate) fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    }

    #[test]
    fn every_event_and_every_key_is_in_the_document() {
        let request = Request::default();
        let error = Error::provider_failed("openvino", "step", "b");
        let mut found: Vec<(String, BTreeSet<String>)> = Vec::new();
        for event in events((&request, &Report::default()), &error) {
            let value: Value = serde_json::from_str(&event.line()).expect("JSON");
            let name = value["event"].as_str().expect("a name").to_owned();
            let mut keys = keys(&value);
            keys.remove("event");
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.extend(keys),
                None => found.push((name, keys)),
            }
        }
        for (name, keys) in found {
            assert_eq!(documented(&name), keys, "{name}");
        }
    }

    #[test]
    fn kinds_of_errors_are_in_the_document() {
        let (_, row) = DOCUMENT.split_once("| `kind` | text | `io`").expect("of errors");
        let row = row.lines().next().unwrap_or_default();
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::NotAllowed,
            ErrorKind::NoSpace,
            ErrorKind::BadCheckpoint,
            ErrorKind::PackageDamaged,
            ErrorKind::PackageTooNew,
            ErrorKind::BadRequest,
            ErrorKind::Unsupported,
            ErrorKind::NotEnoughMemory,
            ErrorKind::BadInput,
            ErrorKind::EngineMissing,
            ErrorKind::EngineFailed,
            ErrorKind::ProviderFailed,
            ErrorKind::Cancelled,
            ErrorKind::Internal,
        ] {
            assert!(row.contains(&format!("`{}`", kind_name(kind))), "{kind:?}");
        }
    }

    #[test]
    fn short_numbers_stay_short_and_keys_are_sorted() {
        assert_eq!(plain_json(&[0.7f32]).to_string(), "[0.7]");
        let line = Event::Step { step: 1, num_inference_steps: 2, preview: None }.line();
        assert_eq!(line, r#"{"event":"step","num_inference_steps":2,"step":1}"#);
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_and_means_the_same() {
        let message = "\x1b[2J\u{9b}2J\u{7f}\u{202e}gpj \u{e000} ü🚀";
        let line = Event::Warning { message }.line();
        assert!(!line.contains(terminal::is_active), "{line}");
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["message"], message);
    }

    #[test]
    #[cfg(unix)]
    fn a_path_that_is_no_text_is_marked() {
        use std::os::unix::ffi::OsStrExt;

        let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        let line = Event::Trace { page: PathText(path) }.line();
        assert_eq!(line, "{\"event\":\"trace\",\"lossy_paths\":true,\"page\":\"caf\u{fffd}\"}");
        let line = Event::Trace { page: PathText(Path::new("café")) }.line();
        assert_eq!(line, r#"{"event":"trace","page":"café"}"#);
    }
}
