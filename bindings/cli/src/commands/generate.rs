//! `pocketmuse generate`: a prompt becomes picture files.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use pocketmuse::{Flavour, Manifest, Options, Output, Pipeline, Plan, Report, Request};
use pocketmuse_package::{Error, ErrorKind, Result, place};
use serde_json::{Value, json};

use super::tokens::TokenLog;
use crate::{
    args::GenerateArgs,
    bundled, outputs,
    picture::{self, Origin},
    runtime, stop,
    terminal::{self, mebibytes, milliseconds},
};

pub(crate) fn run(args: &GenerateArgs, offline: bool) -> Result<u8> {
    let console = Console { json: args.json };
    let made = generate(args, offline, &console).or_else(|error| mend(error, args, offline, &console));
    made.map(|()| 0).inspect_err(|error| console.event(|| terminal::error_event(error)))
}

/// A damaged package in the cache is this command's own: it is made again, and so is the picture.
fn mend(error: Error, args: &GenerateArgs, offline: bool, console: &Console) -> Result<()> {
    if error.kind() != ErrorKind::PackageDamaged || args.package.is_some() {
        return Err(error);
    }
    console.warning(&format!("the built-in model is made again, since its package is damaged: {error}"));
    bundled::discard(&bundled::cache_folder()?, built_in_flavour(args))?;
    generate(args, offline, console)
}

/// The bundled model's flavour where none is asked for: the yardstick, which is fast enough at its size.
fn built_in_flavour(args: &GenerateArgs) -> Flavour {
    args.flavour.unwrap_or(Flavour::F32)
}

fn generate(args: &GenerateArgs, offline: bool, console: &Console) -> Result<()> {
    let job = Job::read(args)?;
    let package = match &args.package {
        Some(package) => package.clone(),
        None => built_in(built_in_flavour(args), console)?,
    };
    let manifest = Manifest::read(&package)?;
    job.request.resolve(&manifest)?; // a wrong request fails before anything is fetched
    if let Some(warning) = job.origin.as_ref().and_then(|origin| differs(origin, &manifest)) {
        console.warning(&warning);
    }
    let options = options(args);
    if args.memory.is_some() || args.explain {
        let plan = Plan::new(&manifest, &job.request, &options)?; // nor is anything when the memory is too small
        if args.explain {
            console.explain(&plan);
            return Ok(());
        }
    }
    runtime::start(offline)?;
    let pipeline = Pipeline::open_with(&package, &options)?;
    console.started(&package, &manifest, &job);

    let mut log = args.save_tokens.as_ref().map(|_| TokenLog::default());
    let bar = terminal::step_bar("drawing", args.json);
    let output = pipeline.generate(&job.request, |step| {
        bar.set_length(step.num_inference_steps as u64);
        bar.set_position(step.step as u64 + 1);
        console
            .event(|| json!({"event": "step", "step": step.step + 1, "num_inference_steps": step.num_inference_steps}));
        if let Some(log) = &mut log {
            log.add(step, manifest.model.mask_token_id);
        }
        stop::flow()
    });
    bar.finish_and_clear();
    let output = output?;
    stop::check()?;
    output.truncated.iter().for_each(|cut| console.warning(&format!("too long for the model, cut off: {cut}")));

    let files = job.write(&output, &manifest, args.flavour)?;
    if let (Some(path), Some(log)) = (&args.save_tokens, &log) {
        log.write(path, &output.request)?;
    }
    console.done(&files, &output, args.verbose);
    Ok(())
}

/// How the package is opened: for one picture, after which the process ends.
fn options(args: &GenerateArgs) -> Options {
    Options {
        flavour: args.flavour,
        threads: args.threads,
        library: None,
        memory: args.memory.unwrap_or_default(),
        staged: true,
        prepared: runtime::prepared_folder(),
    }
}

/// What is to be made, and where it goes.
struct Job {
    request: Request,
    /// What made the picture that the request was read from.
    origin: Option<Origin>,
    files: Vec<PathBuf>,
    /// The one picture to write of those that the request makes; `None` for all.
    only: Option<usize>,
}

impl Job {
    /// Reads the request from the flags and from the picture they name, and tries every place that will be written to.
    fn read(args: &GenerateArgs) -> Result<Self> {
        let (base, origin) = match &args.from {
            Some(path) => picture::read(path)?,
            None => (Request { seed: random_seed(), ..Request::default() }, None),
        };
        let request = args.request(base);
        let images = request.num_images_per_prompt as usize;
        let only = origin.as_ref().filter(|_| args.num_images_per_prompt.is_none());
        let only = only.map(|origin| origin.image as usize).filter(|only| *only < images);
        let count = if only.is_some() { 1 } else { images.min(pocketmuse::request::MAX_IMAGES as usize) };
        let files = outputs::plan(args.output.as_deref(), &request.prompt, count)?;
        if let Some(path) = &args.save_tokens {
            place::neighbour(path)?;
        }
        Ok(Self { request, origin, files, only })
    }

    fn write(&self, output: &Output, manifest: &Manifest, flavour: Option<Flavour>) -> Result<Vec<PathBuf>> {
        let images = output.images.iter().enumerate().filter(|(index, _)| self.only.is_none_or(|only| only == *index));
        for ((index, image), path) in images.zip(&self.files) {
            let origin = Origin {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                model: manifest.model.name.clone(),
                package: manifest.digest(),
                flavour,
                image: index as u32,
            };
            picture::write(image, path, &output.request, &origin)?;
        }
        Ok(self.files.clone())
    }
}

/// A seed short enough to be typed again.
fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
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
struct Console {
    json: bool,
}

impl Console {
    fn event(&self, event: impl FnOnce() -> Value) {
        if self.json {
            terminal::print(event().to_string());
        }
    }

    fn warning(&self, text: &str) {
        if self.json {
            terminal::print(json!({"event": "warning", "message": text}).to_string());
        } else {
            terminal::warn(text);
        }
    }

    fn started(&self, package: &Path, manifest: &Manifest, job: &Job) {
        self.event(|| {
            json!({
                "event": "start",
                "package": package,
                "model": manifest.model.name,
                "digest": manifest.digest(),
                "seed": job.request.seed,
            })
        });
        if !self.json {
            terminal::note(format!("seed {}", job.request.seed));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_short_and_differ() {
        let seeds: std::collections::HashSet<_> = (0..8).map(|_| random_seed()).collect();
        assert!(seeds.len() > 1 && seeds.iter().all(|seed| *seed < 1 << 32), "{seeds:?}");
    }

    #[test]
    fn a_request_comes_from_the_flags_and_the_picture() {
        let folder = tempfile::tempdir().expect("a folder");
        let png = folder.path().join("tree-1.png");
        let made = Request { prompt: "a tree".to_owned(), seed: 5, num_images_per_prompt: 3, ..Request::default() };
        let package = pocketmuse_package::Digest::of(b"");
        let origin = Origin { version: "1".to_owned(), model: "tiny".to_owned(), package, flavour: None, image: 1 };
        picture::write(&image::RgbImage::new(2, 2), &png, &made, &origin).expect("written");

        let output = Some(folder.path().join("again.png"));
        let args = GenerateArgs { from: Some(png.clone()), output: output.clone(), ..GenerateArgs::default() };
        let job = Job::read(&args).expect("read");
        assert_eq!((job.request, job.only, job.files.len()), (made, Some(1), 1));

        let args = GenerateArgs { from: Some(png), output, num_images_per_prompt: Some(2), ..GenerateArgs::default() };
        let job = Job::read(&args).expect("read");
        assert_eq!((job.request.seed, job.only, job.files.len()), (5, None, 2));
    }
}
