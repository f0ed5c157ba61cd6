//! `pocketmuse generate` and `pocketmuse edit`: a prompt, and a picture to start from, become
//! picture files.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse::{Manifest, Options, Output, Pipeline, Plan, Report, Step, Trace};
use pocketmuse_package::Result;
use serde_json::{Value, json};

use super::{
    batch,
    job::Job,
    package::{self, Opened},
    tokens::TokenLog,
};
use crate::{
    args::{EditArgs, GenerateArgs, ResumeArgs},
    picture::Origin,
    preview::Previewer,
    stop,
    terminal::{self, mebibytes, milliseconds},
    trace,
};

/// What was typed.
#[derive(Clone, Copy)]
pub(crate) enum Order<'a> {
    Generate(&'a GenerateArgs),
    Edit(&'a EditArgs),
    Resume(&'a ResumeArgs),
}

impl Order<'_> {
    fn is_json(self) -> bool {
        match self {
            Self::Generate(args) => args.package.run.json,
            Self::Edit(args) => args.generate.package.run.json,
            Self::Resume(args) => args.run.json,
        }
    }
}

pub(crate) fn run(order: Order<'_>, offline: bool) -> Result<u8> {
    let console = Console { json: order.is_json() };
    let made = if batch::is_wanted(order) {
        batch::run(order, offline, &console)
    } else {
        Job::read(order)
            .and_then(|job| {
                package::mended(&job.package(), &console, || generate(&job, offline, &console))
            })
            .map(|()| 0)
    };
    made.inspect_err(|error| console.event(|| terminal::error_event(error)))
}

fn generate(job: &Job, offline: bool, console: &Console) -> Result<()> {
    let found = package::find(&job.package(), console)?;
    let request = job.check(&found.manifest)?; // a wrong request fails before anything is fetched
    let options = Options { staged: true, ..job.options() }; // one picture, after which the process ends
    if job.run.memory.is_some() || job.explain {
        let plan = Plan::new(&found.manifest, &request, &options)?; // nor is anything when the memory is too small
        if job.explain {
            console.explain(&plan);
            return Ok(());
        }
    }
    make(job, &found.open(&options, offline)?, console)
}

/// Makes a job's pictures.
pub(super) fn make(job: &Job, opened: &Opened, console: &Console) -> Result<()> {
    let Opened { folder, manifest, pipeline } = opened;
    if let Some(warning) = job.origin.as_ref().and_then(|origin| differs(origin, manifest)) {
        console.warning(&warning);
    }
    job.warnings.iter().for_each(|warning| console.warning(warning));
    job.keep(None)?;
    console.started(folder, manifest, job.kept.request.seed);

    let mut failed = Ok(());
    let mut log = job.save_tokens.as_ref().map(|_| TokenLog::default());
    let mut previewer = previewer(job, pipeline, console)?;
    let bar = terminal::step_bar("drawing", console.json);
    let on_step = |step: &Step<'_>| {
        let kept = job.keep(Some(&|| pipeline.state(step)));
        let mut show = |previewer: &mut Previewer| bar.suspend(|| previewer.show(step));
        let shown = kept.and_then(|()| previewer.as_mut().map_or(Ok(Vec::new()), &mut show));
        let previews = shown.unwrap_or_else(|error| {
            failed = Err(error);
            Vec::new()
        });
        bar.set_length(step.num_inference_steps as u64);
        bar.set_position(step.step as u64 + 1);
        console.event(|| step_event(step, &previews));
        if let Some(log) = &mut log {
            log.add(step, manifest.model.mask_token_id);
        }
        if failed.is_err() { ControlFlow::Break(()) } else { stop::flow() }
    };
    let made = draw(job, pipeline, on_step);
    bar.finish_and_clear();
    failed?;
    let (output, traced) = made?;
    stop::check()?;
    output
        .truncated
        .iter()
        .for_each(|cut| console.warning(&format!("too long for the model, cut off: {cut}")));

    let files = job.write(&output, manifest)?;
    if let (Some(path), Some(log)) = (&job.save_tokens, &log) {
        log.write(path, &output.request)?;
    }
    if let (Some(folder), Some(traced)) = (&job.watch.trace, &traced) {
        console.traced(&trace::write(folder, traced, &output, manifest)?, traced);
    }
    console.done(files, &output, job.watch.verbose);
    Ok(())
}

/// Runs what is left of a job, and looks inside if that is wanted.
fn draw(
    job: &Job,
    pipeline: &Pipeline,
    on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> Result<(Output, Option<Trace>)> {
    let (request, source) = (&job.kept.request, job.source.as_ref());
    if job.watch.trace.is_some() {
        let traced = match &job.kept.state {
            Some(state) => pipeline.trace_resumed(state, source, on_step),
            None => pipeline.trace(request, source, on_step),
        };
        return traced.map(|(output, trace)| (output, Some(trace)));
    }
    let output = match (&job.kept.state, source) {
        (Some(state), source) => pipeline.resume(state, source, on_step),
        (None, Some(source)) => pipeline.edit(request, source, on_step),
        (None, None) => pipeline.generate(request, on_step),
    };
    output.map(|output| (output, None))
}

/// What shows previews, if they are wanted and the package has any.
fn previewer(job: &Job, pipeline: &Pipeline, console: &Console) -> Result<Option<Previewer>> {
    let Some(show) = job.watch.preview else { return Ok(None) };
    let Some(preview) = pipeline.preview()? else {
        console.warning("this package has no previews: export it again to have them");
        return Ok(None);
    };
    let files = job.places().map(|(image, file)| (image, file.to_owned())).collect();
    Ok(Some(Previewer::new(preview, files, show, console.json)))
}

fn step_event(step: &Step<'_>, previews: &[PathBuf]) -> Value {
    let mut event = json!({"event": "step", "step": step.step + 1, "num_inference_steps": step.num_inference_steps});
    if !previews.is_empty() {
        event["preview"] = json!(previews);
    }
    event
}

/// Why a picture may come out another than the one its request was read from.
fn differs(origin: &Origin, manifest: &Manifest) -> Option<String> {
    let found = manifest.digest();
    (origin.package != found).then(|| {
        format!(
            "the picture was made with another package, {} {}, and not with {} {found}: expect another picture",
            origin.model, origin.package, manifest.model.name
        )
    })
}

/// What is printed: lines for people on stderr and file names on stdout, or events on stdout.
pub(super) struct Console {
    pub(super) json: bool,
}

impl Console {
    pub(super) fn event(&self, event: impl FnOnce() -> Value) {
        if self.json {
            terminal::print(event().to_string());
        }
    }

    pub(super) fn warning(&self, text: &str) {
        if self.json {
            terminal::print(json!({"event": "warning", "message": text}).to_string());
        } else {
            terminal::warn(text);
        }
    }

    pub(super) fn started(&self, package: &Path, manifest: &Manifest, seed: u64) {
        self.event(|| {
            json!({
                "event": "start",
                "package": package,
                "model": manifest.model.name,
                "digest": manifest.digest(),
                "seed": seed,
            })
        });
        if !self.json {
            terminal::note(format!("seed {seed}"));
        }
    }

    fn traced(&self, page: &Path, trace: &Trace) {
        if trace.unseen_steps > 0 {
            self.warning(
                "the trace is of the steps that were left: those made before the job was resumed are not in it",
            );
        }
        if !trace.has_attention && trace.pictures.iter().any(|steps| !steps.is_empty()) {
            self.warning(
                "the trace has no maps of words: export the package again, since this one is older than they are",
            );
        }
        self.event(|| json!({"event": "trace", "page": page}));
        if !self.json {
            terminal::note(format!("trace {}", page.display()));
        }
    }

    fn explain(&self, plan: &Plan) {
        if self.json {
            return terminal::print(plan_event(plan).to_string());
        }
        terminal::print(plan.to_string());
    }

    fn done(&self, files: &[PathBuf], output: &Output, verbose: bool) {
        if self.json {
            return terminal::print(done_event(files, output).to_string());
        }
        if verbose {
            report(&output.report).iter().for_each(terminal::note);
        }
        files.iter().for_each(|file| terminal::print(file.display().to_string()));
    }
}

fn plan_event(plan: &Plan) -> Value {
    let stages = plan.stages.iter().map(|stage| {
        json!({
            "name": stage.stage.name(),
            "warm": stage.warm,
            "prepacking": stage.loading.prepacking,
            "arena": stage.loading.arena,
            "weights_bytes": stage.weights_bytes,
            "working_bytes": stage.working_bytes,
            "peak_rss_bytes": stage.peak_rss_bytes,
            "peak_anonymous_bytes": stage.peak_anonymous_bytes,
        })
    });
    json!({
        "event": "plan",
        "budget_bytes": plan.budget_bytes,
        "threads": plan.threads,
        "stages": stages.collect::<Vec<_>>(),
        "peak_rss_bytes": plan.peak_rss_bytes(),
        "peak_anonymous_bytes": plan.peak_anonymous_bytes(),
    })
}

fn done_event(files: &[PathBuf], output: &Output) -> Value {
    let stages = output.report.stages.iter().map(|stage| {
        json!({
            "name": stage.name,
            "load_ms": milliseconds(stage.load),
            "run_ms": milliseconds(stage.run),
            "peak_rss_bytes": stage.peak_rss_bytes,
            "peak_anonymous_bytes": stage.peak_anonymous_bytes,
        })
    });
    json!({
        "event": "done",
        "files": files,
        "seed": output.request.seed,
        "request": terminal::plain_json(&output.request),
        "truncated": output.truncated,
        "stages": stages.collect::<Vec<_>>(),
        "total_ms": milliseconds(output.report.total),
        "peak_rss_bytes": output.report.peak_rss_bytes,
    })
}

/// Time and peak memory of each stage, a line each.
fn report(report: &Report) -> Vec<String> {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), mebibytes);
    let mut lines = vec![format!(
        "{:<14}{:>10}{:>12}{:>16}{:>16}",
        "stage", "load ms", "run ms", "peak memory", "anonymous"
    )];
    for stage in &report.stages {
        let (load, run) = (milliseconds(stage.load), milliseconds(stage.run));
        let (peak, anonymous) = (size(stage.peak_rss_bytes), size(stage.peak_anonymous_bytes));
        lines.push(format!("{:<14}{load:>10.1}{run:>12.1}{peak:>16}{anonymous:>16}", stage.name));
    }
    let peak = size(report.peak_rss_bytes);
    lines.push(format!("total {:.1} ms, peak memory {peak}", milliseconds(report.total)));
    lines
}
