//! How long a job of aMUSEd-512 takes to stop, by stage: `cargo bench -p pocketmuse-cli --bench
//! stop`. Makes a full-size checkpoint of random weights, exports it as int8 and stops an image and
//! an edit at 40 moments, spread evenly over each stage's run. After each stage the same image is
//! made again and compared. Takes about ten minutes and 9 GB of disk on an idle machine.
//!
//! `POCKETMUSE_PACKAGE` names a package to use instead.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use pocketmuse::{
    Control, ErrorKind, Flavour, Job, Options, Origin, Phase, Pipeline, Progress, Request, Source,
    Stage, Step, Watch,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Moments of each stage: 40 of all five.
const MOMENTS: u32 = 8;
const MUST: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    if env::args().any(|word| word == "--test") {
        return Ok(()); // nothing here is quick
    }
    let folder = tempfile::tempdir()?;
    let library = pocketmuse_cli::runtime::start(false)?.path().canonicalize()?;
    let package = match env::var_os("POCKETMUSE_PACKAGE") {
        Some(package) => PathBuf::from(package),
        None => export(folder.path())?,
    };
    let options = Options {
        flavour: Some(Flavour::Int8),
        threads: Some(2),
        library: Some(library),
        prepared: Some(folder.path().join("prepared")),
        ..Options::default()
    };
    let pipeline = Pipeline::open_with(package, &options)?;
    let mut worst = Duration::ZERO;
    println!("| stage | a run | stopped after, mean | worst |\n|---|---|---|---|");
    for stage in [Stage::Encoder, Stage::TextEncoder, Stage::Prologue, Stage::Step, Stage::Decoder]
    {
        let found = stops(&pipeline, stage)?;
        let most = found.stops.iter().max().copied().unwrap_or_default();
        let mean = found.stops.iter().sum::<Duration>() / (found.stops.len().max(1) as u32);
        println!("| {stage} | {:.0?} | {mean:.0?} | {most:.0?} |", found.run);
        worst = worst.max(most);
    }
    println!("worst of all: {worst:.0?}, must be at most {MUST:?}");
    if worst > MUST { Err("a stop took too long".into()) } else { Ok(()) }
}

/// A full-size package of random weights.
fn export(folder: &Path) -> Result<PathBuf> {
    for words in [
        &["synth", "--preset", "amused-512", "-o", "amused-512"][..],
        &["export", "amused-512", "-o", "int8"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketmuse"));
        let status = command.args(words).current_dir(folder).status()?;
        if !status.success() {
            return Err(format!("pocketmuse {} failed: {status}", words.join(" ")).into());
        }
    }
    Ok(folder.join("int8"))
}

/// How long the stops of a stage took.
struct Stops {
    /// A run of its graph that is not stopped.
    run: Duration,
    stops: Vec<Duration>,
}

/// Stops jobs at moments of a stage, each with a prompt or image of its own, so that the stage runs.
fn stops(pipeline: &Pipeline, stage: Stage) -> Result<Stops> {
    let is_edit = stage == Stage::Encoder; // that only edits run
    let job = |number: u32| -> Result<Job> {
        // New for each stage: of a known prompt the text encoder and the prologue need not run.
        let prompt = format!("a red lighthouse, {stage} {number}");
        let strength = is_edit.then_some(1.0);
        let num_inference_steps = Some(1);
        let request = Request { prompt, strength, num_inference_steps, ..Request::default() };
        let source = is_edit.then(|| {
            let blue = number as u8;
            Source::new(RgbImage::from_fn(512, 512, |x, y| Rgb([x as u8, y as u8, blue])))
        });
        Ok(pipeline.job(&request, Origin::image(source.as_ref()))?)
    };
    let mut nobody = |_: &Step<'_>| ControlFlow::Continue(());
    let expected = pipeline.run(&job(0)?, &mut nobody)?;
    let report = pipeline.run(&job(1)?, &mut nobody)?.report; // with all that stays warm
    let runs: BTreeMap<_, _> = report.stages.iter().map(|stage| (stage.name, stage.run)).collect();
    let run = runs.get(stage.name()).copied().unwrap_or_default();
    let (mut stops, mut within) = (Vec::new(), run);
    let mut number = 2;
    while stops.len() < MOMENTS as usize {
        let after = within * (stops.len() as u32 * 2 + 1) / (MOMENTS * 2);
        match stop(pipeline, &job(number)?, stage, after)? {
            Some(took) => stops.push(took),
            None if number > 10 * MOMENTS => {
                return Err(format!("{stage}: a run of {run:?} is over before {after:?}").into());
            }
            None => within = within * 15 / 16, // this run was faster
        }
        number += 1;
    }
    let again = pipeline.run(&job(0)?, &mut nobody)?;
    if again.images != expected.images {
        return Err(format!("{stage}: another image after a stop").into());
    }
    Ok(Stops { run, stops })
}

/// Stops a job so long after the graph of `stage` began to run. Returns how long that took; `None`
/// if the run came to its end before.
fn stop(pipeline: &Pipeline, job: &Job, stage: Stage, after: Duration) -> Result<Option<Duration>> {
    let control = Control::new();
    let (tell, told) = mpsc::channel();
    let mut begun = Begun { stage, tell: Some(tell), later: 0 };
    let (made, ended, asked) = thread::scope(|scope| {
        let control = &control;
        let canceller = scope.spawn(move || {
            let began: Instant = told.recv().ok()?;
            thread::sleep((began + after).saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            control.cancel();
            Some(asked)
        });
        let made = pipeline.with_control(control).run(job, &mut begun);
        begun.tell = None; // if the stage did not run, nobody is to wait for that
        (made, Instant::now(), canceller.join().ok().flatten())
    });
    match (made, asked) {
        (Err(error), Some(asked)) if error.kind() == ErrorKind::Cancelled => {
            Ok((begun.later == 0).then(|| ended - asked))
        }
        (Err(error), _) => Err(error.into()),
        (Ok(_), _) => Ok(None),
    }
}

/// Tells when the graph of a stage begins to run.
struct Begun {
    stage: Stage,
    tell: Option<mpsc::Sender<Instant>>,
    /// What was heard since then.
    later: usize,
}

impl Watch for Begun {
    fn progress(&mut self, progress: &Progress) {
        let stage = match progress.phase {
            Phase::Running { stage } => Some(stage),
            Phase::Step { .. } => Some(Stage::Step),
            Phase::Decoding { .. } => Some(Stage::Decoder),
            _ => None,
        };
        match self.tell.take_if(|_| stage == Some(self.stage)) {
            Some(tell) => tell.send(Instant::now()).unwrap_or_default(), // or nobody stops it
            None => self.later += usize::from(self.tell.is_none()),
        }
    }
}
