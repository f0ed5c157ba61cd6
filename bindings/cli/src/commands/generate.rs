//! `pocketmuse generate` and `pocketmuse edit`: a prompt, and a picture to start from, become picture files.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse::{Budget, Flavour, Manifest, Options, Output, Pipeline, Plan, Report, Step};
use pocketmuse_package::{ErrorKind, Result};
use serde_json::{Value, json};

use super::{batch, job::Job, tokens::TokenLog};
use crate::{
    args::{EditArgs, GenerateArgs, ResumeArgs},
    bundled,
    picture::Origin,
    preview::Previewer,
    runtime, stop,
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
            Self::Generate(args) => args.json,
            Self::Edit(args) => args.generate.json,
            Self::Resume(args) => args.json,
        }
    }
}

pub(crate) fn run(order: Order<'_>, offline: bool) -> Result<u8> {
    let console = Console { json: order.is_json() };
    let made = if batch::is_wanted(order) {
        batch::run(order, offline, &console)
    } else {
        Job::read(order).and_then(|job| mend_for(&job, &console, || generate(&job, offline, &console))).map(|()| 0)
    };
    made.inspect_err(|error| console.event(|| terminal::error_event(error)))
}

/// As [`mended`], for the package of a job.
pub(super) fn mend_for<T>(job: &Job, console: &Console, make: impl FnMut() -> Result<T>) -> Result<T> {
    mended(job.kept.package.is_none(), job.kept.flavour, console, make)
}

/// A damaged package in the cache is this command's own: it is made again, and so is the picture.
pub(super) fn mended<T>(
    is_built_in: bool,
    flavour: Option<Flavour>,
    console: &Console,
    mut make: impl FnMut() -> Result<T>,
) -> Result<T> {
    let made = make();
    match made {
        Err(error) if error.kind() == ErrorKind::PackageDamaged && is_built_in => {
            console.warning(&format!("the built-in model is made again, since its package is damaged: {error}"));
            bundled::discard(&bundled::cache_folder()?, built_in_flavour(flavour))?;
            make()
        }
        made => made,
    }
}

/// The bundled model's flavour where none is asked for: the yardstick, which is fast enough at its size.
fn built_in_flavour(flavour: Option<Flavour>) -> Flavour {
    flavour.unwrap_or(Flavour::F32)
}

/// A package that was opened for one job or several.
pub(super) struct Opened {
    package: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) pipeline: Pipeline,
}

impl Opened {
    /// Opens a package that was [`found`].
    pub(super) fn new((package, manifest): (PathBuf, Manifest), options: &Options, offline: bool) -> Result<Self> {
        runtime::start(offline)?;
        let pipeline = Pipeline::open_with(&package, options)?;
        Ok(Self { package, manifest, pipeline })
    }
}

/// The package of `job` and what it says about itself.
pub(super) fn found(job: &Job, console: &Console) -> Result<(PathBuf, Manifest)> {
    let package = package(job.kept.package.as_deref(), job.kept.flavour, console)?;
    let manifest = Manifest::read(&package)?;
    Ok((package, manifest))
}

/// The package asked for, or that of the built-in model.
pub(super) fn package(asked: Option<&Path>, flavour: Option<Flavour>, console: &Console) -> Result<PathBuf> {
    match asked {
        Some(package) => Ok(package.to_owned()),
        None => built_in(built_in_flavour(flavour), console),
    }
}

fn generate(job: &Job, offline: bool, console: &Console) -> Result<()> {
    let found = found(job, console)?;
    let request = job.check(&found.1)?; // a wrong request fails before anything is fetched
    let options = Options { staged: true, ..job.options() }; // one picture, after which the process ends
    if job.memory.is_some() || job.explain {
        let plan = Plan::new(&found.1, &request, &options)?; // nor is anything when the memory is too small
        if job.explain {
            console.explain(&plan);
            return Ok(());
        }
    }
    make(job, &Opened::new(found, &options, offline)?, console)
}

/// Makes a job's pictures.
pub(super) fn make(job: &Job, opened: &Opened, console: &Console) -> Result<()> {
    let Opened { package, manifest, pipeline } = opened;
    if let Some(warning) = job.origin.as_ref().and_then(|origin| differs(origin, manifest)) {
        console.warning(&warning);
    }
    job.keep(None)?;
    console.started(package, manifest, job.kept.request.seed);

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
    let (request, source, mut traced) = (&job.kept.request, job.source.as_ref(), None);
    let output = match (&job.kept.state, source) {
        (Some(state), source) => pipeline.resume(state, source, on_step),
        (None, source) if job.trace.is_some() => pipeline.trace(request, source, on_step).map(|(output, trace)| {
            traced = Some(trace);
            output
        }),
        (None, Some(source)) => pipeline.edit(request, source, on_step),
        (None, None) => pipeline.generate(request, on_step),
    };
    bar.finish_and_clear();
    failed?;
    let output = output?;
    stop::check()?;
    output.truncated.iter().for_each(|cut| console.warning(&format!("too long for the model, cut off: {cut}")));

    let files = job.write(&output, manifest)?;
    if let (Some(path), Some(log)) = (&job.save_tokens, &log) {
        log.write(path, &output.request)?;
    }
    if let (Some(folder), Some(traced)) = (&job.trace, &traced) {
        console.traced(&trace::write(folder, traced, &output, manifest)?, traced.has_attention);
    }
    console.done(files, &output, job.verbose);
    Ok(())
}

/// What shows previews, if they are wanted and the package has any.
fn previewer(job: &Job, pipeline: &Pipeline, console: &Console) -> Result<Option<Previewer>> {
    let Some(show) = job.preview else { return Ok(None) };
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

/// How a package is opened that several pictures are made with.
pub(super) fn options(flavour: Option<Flavour>, threads: Option<usize>, memory: Option<Budget>) -> Options {
    Options {
        flavour,
        threads,
        memory: memory.unwrap_or_default(),
        prepared: runtime::prepared_folder(),
        ..Options::default()
    }
}

/// The built-in model's package, exported first if this is its first use.
fn built_in(flavour: Flavour, console: &Console) -> Result<PathBuf> {
    let bar = terminal::byte_bar("preparing the built-in model, once");
    if console.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let package = bundled::package(&bundled::cache_folder()?, flavour, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.written_bytes);
        stop::flow()
    });
    bar.finish_and_clear();
    package
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

    fn traced(&self, page: &Path, has_attention: bool) {
        if !has_attention {
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
    let mut lines =
        vec![format!("{:<14}{:>10}{:>12}{:>16}{:>16}", "stage", "load ms", "run ms", "peak memory", "anonymous")];
    for stage in &report.stages {
        let (load, run) = (milliseconds(stage.load), milliseconds(stage.run));
        let (peak, anonymous) = (size(stage.peak_rss_bytes), size(stage.peak_anonymous_bytes));
        lines.push(format!("{:<14}{load:>10.1}{run:>12.1}{peak:>16}{anonymous:>16}", stage.name));
    }
    let peak = size(report.peak_rss_bytes);
    lines.push(format!("total {:.1} ms, peak memory {peak}", milliseconds(report.total)));
    lines
}
