//! What a package costs on this machine, stage by stage, and what share of the machine's own speed
//! that is.
//!
//! Images are made as [`Pipeline::generate`] makes them; the operations are counted from the
//! graphs and a profile; and the machine's own speed is that of single linear layers of the shapes
//! that the step graph has, each as often as it is run there, through the same ONNX Runtime, by turns
//! with the steps of one more image. Knows no operator beyond those of a linear layer.

mod layer;
mod machine;
mod operations;
mod repeats;
mod speed;

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use pocketmuse::{Options, Output, Pipeline, Report, Request, StageReport, internals::Package};
use pocketmuse_package::{Error, ErrorKind, Flavour, FlavourEntry, Manifest, Result, Stage, files};

use self::{
    operations::{Operations, Products},
    speed::Layers,
};

pub use self::{
    machine::{Machine, forget},
    repeats::{MOST_SPREAD, median, spread},
};

/// The most images that a bench makes.
pub const MAX_RUNS: usize = 1000;

/// Prepared loads of a stage that the median is of.
const PREPARED_LOADS: usize = 5;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// The machine that it was measured on.
    pub machine: Machine,
    /// The graphs that were run.
    pub flavour: Flavour,
    /// The request, with every default filled in.
    pub request: Request,
    /// Images that the medians are of; the first image, from files not in memory, comes before
    /// them.
    pub runs: usize,
    /// The time of the slowest of these images, divided by that of the fastest.
    pub spread: f64,
    /// The stages in the order they run.
    pub stages: Vec<StageBench>,
    /// Median time from a request to its image.
    pub total: Duration,
    /// The machine's own speed, between the steps of one more image.
    pub peak: Peak,
}

impl Bench {
    /// The share of a speed, in operations per second, that the image had which `peak` was measured
    /// with. Its stages count while they ran, no loading.
    pub fn share(&self, peak: f64) -> f64 {
        let operations: u64 = self.stages.iter().map(|stage| stage.operations).sum();
        let run = self.stages.iter().map(|stage| stage.run_by_turns).sum();
        speed(operations, run) / peak
    }
}

/// Operations per second.
fn speed(operations: u64, run: Duration) -> f64 {
    operations as f64 / run.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// What one stage costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageBench {
    /// The stage's name.
    pub name: &'static str,
    /// The first load, which reads and checks files that the system did not hold in memory; `None`
    /// where the system cannot be asked to forget them.
    pub cold_load: Option<Duration>,
    /// Median of the later loads, which check the files' digests.
    pub warm_load: Duration,
    /// Median of loads of files that are known to be whole: see [`prepared`](pocketmuse::prepared).
    pub prepared_load: Duration,
    /// Median time of all runs that an image needs.
    pub run: Duration,
    /// The same in the image that the machine's own speed was measured with.
    pub run_by_turns: Duration,
    /// Operations of all runs of an image: two for each multiply-add of a matrix product or convolution.
    pub operations: u64,
    /// The most memory the process held while the stage was there, in any run; `None` where the
    /// system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// As above without the pages of mapped files.
    pub peak_anonymous_bytes: Option<u64>,
}

impl StageBench {
    /// Operations per second, while it ran.
    pub fn speed(&self) -> f64 {
        speed(self.operations, self.run)
    }

    /// The share of a speed that it had in the image which `peak` was measured with.
    pub fn share(&self, peak: f64) -> f64 {
        speed(self.operations, self.run_by_turns) / peak
    }
}

/// How fast the machine multiplies: operations per second over the linear layers of the step graph,
/// one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// `DynamicQuantizeLinear` and `MatMulInteger`, fused.
    pub int8: f64,
    /// `MatMul` of f32.
    pub f32: f64,
}

/// How far a bench is, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps that are done.
    pub done: usize,
    /// Steps of all images.
    pub of: usize,
}

/// Measures the package at `root`: makes the image of `request` once from files that are not in
/// memory and `runs` times more, or twice as often if the slowest of these takes over 15 % longer than
/// the fastest; once again to count operations, and once by turns with the machine's own speed.
///
/// `watch` is called after every step; when it breaks, no further work is done.
///
/// # Errors
///
/// As for [`Pipeline::open_with`] and [`Pipeline::generate`]; `BadRequest` if `runs` is not 1 to
/// [`MAX_RUNS`]; `NoSpace` if the system's folder for temporary files has too little room for the
/// largest stage, which is checked first.
pub fn bench(
    root: &Path,
    options: &Options,
    request: &Request,
    runs: usize,
    mut watch: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Bench> {
    if !(1..=MAX_RUNS).contains(&runs) {
        let detail = format!("expected 1 to {MAX_RUNS}, found {runs}");
        return Err(Error::new(ErrorKind::BadRequest, "runs", detail));
    }
    let manifest = Manifest::read(root)?;
    let is_cold = manifest.files().all(|file| forget(&file.locate(root)));
    let options = &Options { measure_memory: true, ..options.clone() };
    let pipeline = Pipeline::open_with(root, options)?;
    pipeline.plan(request)?; // a wrong request fails here
    let folder = tempfile::tempdir().map_err(|error| Error::io(std::env::temp_dir(), error))?;
    files::check_room(
        &std::env::temp_dir(),
        room(manifest.flavour(pipeline.package().flavour())?),
    )?;
    let steps =
        request.num_inference_steps.unwrap_or(manifest.defaults.num_inference_steps) as usize;
    let of = Cell::new((runs + 3) * steps);
    let mut done = 0;
    let mut make = |pipeline: &Pipeline, between: &mut dyn FnMut() -> Result<()>| {
        let mut failed = None;
        let output = pipeline.generate(request, |_| {
            done += 1;
            failed = between().err();
            if failed.is_some() {
                ControlFlow::Break(())
            } else {
                watch(Progress { done, of: of.get() })
            }
        });
        failed.map_or(output, Err)
    };
    let nothing = &mut || Ok(());
    let Output { report: first, request: resolved, .. } = make(&pipeline, nothing)?;
    // Each with a pipeline of its own: one that knows the prompt's text would not run the text
    // encoder again.
    let mut again = || -> Result<Vec<_>> {
        (0..runs).map(|_| Ok(make(&Pipeline::open_with(root, options)?, nothing)?.report)).collect()
    };
    let spread =
        |reports: &[Report]| spread(reports.iter().map(|report| report.total.as_secs_f64()));
    let mut later = again()?;
    if spread(&later) > MOST_SPREAD {
        of.set(of.get() + runs * steps);
        later.extend(again()?);
    }
    let folder = folder.path();
    let operations =
        operations((root, folder), options, |pipeline| Ok(make(pipeline, nothing)?.report))?;
    let prepared = prepared_loads((root, folder), options, request, operations.keys())?;
    let mut layers = Layers::load(pipeline.package(), &operations[&Stage::Step].layers)?;
    let by_turns = make(&Pipeline::open_with(root, options)?, &mut || layers.turn())?.report;
    let mut stages = stages([&first, &by_turns], &later, is_cold, &operations, &prepared);
    for step in stages.iter_mut().filter(|stage| stage.name == Stage::Step.name()) {
        step.run_by_turns = step.run_by_turns.saturating_sub(layers.spent());
    }
    Ok(Bench {
        machine: Machine::this(),
        flavour: pipeline.package().flavour(),
        runs: later.len(),
        spread: spread(&later),
        stages,
        total: median(later.iter().map(|report| report.total)),
        peak: layers.peak(),
        request: resolved,
    })
}

fn stages(
    [first, by_turns]: [&Report; 2],
    later: &[Report],
    is_cold: bool,
    operations: &BTreeMap<Stage, Operations>,
    prepared: &BTreeMap<Stage, Duration>,
) -> Vec<StageBench> {
    let stage = |(index, stage): (usize, &StageReport)| {
        let known = Stage::ALL.into_iter().find(|known| known.name() == stage.name);
        let runs = || later.iter().filter_map(move |report| report.stages.get(index));
        StageBench {
            name: stage.name,
            cold_load: is_cold.then_some(stage.load),
            warm_load: median(runs().map(|stage| stage.load)),
            prepared_load: known
                .and_then(|stage| prepared.get(&stage))
                .copied()
                .unwrap_or_default(),
            run: median(runs().map(|stage| stage.run)),
            run_by_turns: by_turns.stages.get(index).map(|stage| stage.run).unwrap_or_default(),
            operations: known
                .and_then(|stage| operations.get(&stage))
                .map_or(0, |operations| operations.total),
            peak_rss_bytes: runs().map(|stage| stage.peak_rss_bytes).max().flatten(),
            peak_anonymous_bytes: runs().map(|stage| stage.peak_anonymous_bytes).max().flatten(),
        }
    };
    first.stages.iter().enumerate().map(stage).collect()
}

/// What is written at most at once: a stage's weights as ONNX Runtime saves them, and profiles.
fn room(flavour: &FlavourEntry) -> u64 {
    const PROFILES: u64 = 32 << 20;
    let bytes = flavour.stages.values().map(|stage| {
        stage.graph.bytes.saturating_add(stage.weights.as_ref().map_or(0, |weights| weights.bytes))
    });
    bytes.max().unwrap_or_default().saturating_add(PROFILES)
}

/// Median time to load each of `stages` of the package at `root` in a process that finds the files
/// checked, which `folder` says.
fn prepared_loads<'a>(
    (root, folder): (&Path, &Path),
    options: &Options,
    request: &Request,
    stages: impl Iterator<Item = &'a Stage>,
) -> Result<BTreeMap<Stage, Duration>> {
    let options = Options { prepared: Some(folder.join("prepared")), ..options.clone() };
    let plan = Pipeline::open_with(root, &options)?.plan(request)?;
    let load = |stage: Stage| {
        let package = Package::open(root, &options)?;
        let start = Instant::now();
        package.load(stage, plan.stage(stage).loading)?;
        Ok::<_, Error>(start.elapsed())
    };
    let median_of = |stage: &Stage| {
        load(*stage)?; // checks the files
        let times = (0..PREPARED_LOADS).map(|_| load(*stage)).collect::<Result<Vec<_>>>()?;
        Ok((*stage, median(times)))
    };
    stages.map(median_of).collect()
}

/// The operations of every stage of the package at `root`, from the profiles of one more image that
/// `make` makes, in `folder`.
fn operations(
    (root, folder): (&Path, &Path),
    options: &Options,
    make: impl FnOnce(&Pipeline) -> Result<Report>,
) -> Result<BTreeMap<Stage, Operations>> {
    let pipeline = Pipeline::open_with_profiles(root, options, folder)?;
    let report = make(&pipeline)?;
    let ran = |stage: &&Stage| report.stages.iter().any(|report| report.name == stage.name());
    let graph = |stage: &Stage| Ok((*stage, pipeline.package().graph(*stage)?));
    let graphs = Stage::ALL.iter().filter(ran).map(graph).collect::<Result<Vec<_>>>()?;
    drop(pipeline); // whatever it still holds writes its profile now
    let mut found = BTreeMap::new();
    for (stage, graph) in &graphs {
        let wrong = |kind, detail| Error::new(kind, stage.name(), detail);
        let damaged =
            || wrong(ErrorKind::PackageDamaged, "expected a graph, found none".to_owned());
        let products = Products::of(graph).ok_or_else(damaged)?;
        // Another provider's tells of none of the graph's own nodes; the CPU's, which proved it, does.
        let none = Err("expected a profile of its runs, found none".to_owned());
        let profiles = profiles(folder, *stage)?;
        let counts = profiles.iter().map(|profile| products.count(profile));
        let operations = counts.fold(none, Result::or);
        let operations = operations.map_err(|detail| wrong(ErrorKind::EngineFailed, detail));
        found.insert(*stage, operations?);
    }
    Ok(found)
}

/// The profiles of a stage in `folder`: their names are the stage's and the time.
fn profiles(folder: &Path, stage: Stage) -> Result<Vec<String>> {
    let (prefix, mut found) = (format!("{stage}_"), Vec::new());
    for entry in fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
            found.push(fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?);
        }
    }
    Ok(found)
}
