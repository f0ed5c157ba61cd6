//! What a command says while it makes images: lines for people on stderr and file names on stdout,
//! or events on stdout.

use std::{
    cell::RefCell,
    collections::HashSet,
    path::{Path, PathBuf},
};

use pocketmuse::{Manifest, Output, Pipeline, Plan, Report, Trace};
use pocketmuse_package::{Error, Result};

use crate::{
    args::RunArgs,
    events::{self, Event, PathText, Place},
    terminal::{self, megabytes, milliseconds},
};

/// Words that a model knows of which people are told.
const MOST_SHOWN: usize = 10;

/// Who is spoken to. Every method fails as [`terminal::print`] does.
#[derive(Debug)]
pub(crate) struct Console {
    /// Whether it is a script that reads events.
    pub(crate) json: bool,
    /// Whether people are told of errors alone.
    quiet: bool,
    /// The warnings that were said.
    warned: RefCell<HashSet<String>>,
}

impl Console {
    pub(crate) fn new(args: &RunArgs) -> Self {
        Self { json: args.json, quiet: args.quiet, warned: RefCell::default() }
    }

    /// Whether nobody looks at bars.
    pub(crate) fn hides_bars(&self) -> bool {
        self.json || self.quiet
    }

    /// Tells people how things go.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        if !self.hides_bars() {
            terminal::note(line);
        }
    }

    /// Says an event to a script.
    pub(crate) fn event(&self, event: &Event<'_>) -> Result<()> {
        if self.json { terminal::print(event.line()) } else { Ok(()) }
    }

    /// Says a warning, once.
    pub(crate) fn warning(&self, message: &str) -> Result<()> {
        if !self.warned.borrow_mut().insert(message.to_owned()) {
            return Ok(());
        }
        if !self.hides_bars() {
            terminal::warn(message);
        }
        self.event(&Event::Warning { message })
    }

    /// Tells a script of a failure. People hear of it where the command ends.
    pub(crate) fn error(&self, error: &Error) {
        let _ = self.event(&Event::error(error)); // a stdout that is full is not worth more
    }

    /// Says that the package is open.
    pub(crate) fn start(
        &self,
        (package, manifest, pipeline): (&Path, &Manifest, &Pipeline),
        seed: u64,
        files: &[PathBuf],
        place: Option<Place>,
    ) -> Result<()> {
        self.note(format!("seed {seed}"));
        let (model, digest) = (&manifest.model.name, manifest.digest());
        let (flavour, providers) = (pipeline.capabilities().flavour, pipeline.providers());
        let (package, files) = (PathText(package), events::paths(files));
        let provider_options = pipeline.provider_options().clone();
        self.event(&Event::Start {
            package,
            model,
            digest,
            flavour,
            providers,
            provider_options,
            seed,
            files,
            place,
        })
    }

    /// Says that images are there already.
    pub(crate) fn skipped(&self, files: &[PathBuf], place: Option<Place>) -> Result<()> {
        for file in files {
            self.note(format!("{}: there already", file.display()));
        }
        self.event(&Event::Skipped { files: events::paths(files), place })
    }

    /// Says which words of prompts had no effect.
    pub(crate) fn truncated(&self, texts: &[String]) -> Result<()> {
        let mut warnings =
            texts.iter().map(|cut| format!("too long for the model, cut off: {cut}"));
        warnings.try_for_each(|warning| self.warning(&warning))
    }

    /// Says which words the model hardly knows.
    pub(crate) fn unknown(&self, words: &[String], manifest: &Manifest) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let (model, words) = (&manifest.model.name, words.join(", "));
        let known: Vec<_> = manifest.knows.iter().take(MOST_SHOWN).map(String::as_str).collect();
        self.warning(&match known[..] {
            [] => format!("{model} hardly knows: {words}. It may draw something else"),
            _ => format!("{model} does not know: {words}. It draws {} ...", known.join(", ")),
        })
    }

    /// Says where a trace is and what it lacks.
    pub(crate) fn trace(&self, page: &Path, trace: &Trace) -> Result<()> {
        if trace.unseen_steps > 0 {
            self.warning(
                "the trace is of the steps that were left: those made before the job was resumed \
                 are not in it",
            )?;
        }
        if !trace.has_attention && trace.images.iter().any(|steps| !steps.is_empty()) {
            self.warning(
                "the trace has no maps of words: export the package again, since this one is older \
                 than they are",
            )?;
        }
        self.note(format!("trace {}", page.display()));
        self.event(&Event::Trace { page: PathText(page) })
    }

    /// Shows a plan.
    pub(crate) fn plan(&self, plan: &Plan) -> Result<()> {
        if self.json {
            return self.event(&Event::plan(plan));
        }
        terminal::print_lines(&plan.to_string())
    }

    /// Says what was made.
    pub(crate) fn images(&self, files: &[PathBuf], output: &Output, verbose: bool) -> Result<()> {
        if verbose && !self.json {
            lines(&output.report).iter().for_each(terminal::note);
        }
        self.done(files, &Event::images(files, output))
    }

    /// Says what labels stand for that an image cannot show.
    pub(crate) fn legend(&self, legend: &[String]) {
        if !self.json {
            legend.iter().for_each(terminal::note);
        }
    }

    /// Names the files that were made: to people each, to a script the event.
    pub(crate) fn done(&self, files: &[PathBuf], event: &Event<'_>) -> Result<()> {
        if self.json {
            return self.event(event);
        }
        files.iter().try_for_each(|file| terminal::print_path(file))
    }
}

/// The graphs of each stage, who computed it, its time and its peak memory, a line each.
fn lines(report: &Report) -> Vec<String> {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), megabytes);
    let mut lines = vec![format!(
        "{:<14}{:<9}{:<9}{:>10}{:>12}{:>16}{:>16}",
        "stage", "flavour", "provider", "load ms", "run ms", "peak memory", "anonymous"
    )];
    for stage in &report.stages {
        let (load, run) = (milliseconds(stage.load), milliseconds(stage.run));
        let (peak, anonymous) = (size(stage.peak_rss_bytes), size(stage.peak_anonymous_bytes));
        let (name, flavour, provider) = (stage.name, stage.flavour.name(), stage.provider.name());
        lines.push(format!(
            "{name:<14}{flavour:<9}{provider:<9}{load:>10.1}{run:>12.1}{peak:>16}{anonymous:>16}"
        ));
    }
    for stage in &report.stages {
        if stage.is_context {
            lines.push(format!("{}: {} took a context", stage.name, stage.provider));
        } else if let Some(nodes) = &stage.nodes {
            lines.push(format!("{}: {} took {nodes}", stage.name, stage.provider));
        }
    }
    for stage in &report.stages {
        if let Some(tried) = &stage.tried {
            lines.push(format!("{}: auto took {}: {tried}", stage.name, stage.provider));
        }
    }
    let peak = size(report.peak_rss_bytes);
    lines.push(format!("total {:.1} ms, peak memory {peak}", milliseconds(report.total)));
    lines
}
