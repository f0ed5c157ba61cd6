//! What a package costs on this machine, stage by stage, and what share of the machine's own speed
//! that is.
//!
//! Images are made as [`Pipeline::generate`] makes them; the operations are counted from the
//! graphs and a profile; and the machine's own speed is that of single linear layers of the shapes
//! that the step graph has, each as often as it is run there, through the same ONNX Runtime. Knows
//! no operator beyond those of a linear layer.

mod layer;
mod machine;
mod operations;

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use pocketmuse::{
    Options, Output, Pipeline, Report, Request, StageReport,
    internals::{Input, Package},
};
use pocketmuse_package::{Error, ErrorKind, Flavour, FlavourEntry, Manifest, Result, Stage, files};

use self::{
    layer::{Precision, linear_layer},
    operations::{Layer, Operations, Products},
};

pub use self::machine::{Machine, forget};

/// The most images that a bench makes.
pub const MAX_RUNS: usize = 1000;

/// A layer is run until this much time has passed, and at least [`LAYER_RUNS`] times.
const LAYER_TIME: Duration = Duration::from_millis(100);

/// See [`LAYER_TIME`].
const LAYER_RUNS: usize = 5;

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
    /// The stages in the order they run.
    pub stages: Vec<StageBench>,
    /// Median time from a request to its image.
    pub total: Duration,
    /// The machine's own speed.
    pub peak: Peak,
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
    /// Operations of all these runs: two for each multiply-add of a matrix product or convolution.
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
        self.operations as f64 / self.run.as_secs_f64().max(f64::MIN_POSITIVE)
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

/// How far a bench is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being measured.
    pub part: Part,
    /// Of this part: what is done.
    pub done: usize,
    /// Of this part: all there is.
    pub of: usize,
}

/// What a bench measures, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Whole images, counted in steps.
    Images,
    /// The machine's own speed, counted in layers.
    Machine,
}

/// Measures the package at `root`: makes the image of `request` once from files that are not in
/// memory and `runs` times more, once again to count operations, and measures the machine.
///
/// `watch` is called after every step and every layer; when it breaks, no further work is done.
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
    let steps = request.num_inference_steps.unwrap_or(manifest.defaults.num_inference_steps);
    let of = (runs + 2) * steps as usize;
    let mut done = 0;
    let mut make = |pipeline: &Pipeline| {
        let output = pipeline.generate(request, |_| {
            done += 1;
            watch(Progress { part: Part::Images, done, of })
        })?;
        Ok::<_, Error>(output)
    };
    let Output { report: first, request: resolved, .. } = make(&pipeline)?;
    // Each with a pipeline of its own: one that knows the prompt's text would not run the text
    // encoder again.
    let again = (0..runs).map(|_| Ok(make(&Pipeline::open_with(root, options)?)?.report));
    let later = again.collect::<Result<Vec<_>>>()?;
    let folder = folder.path();
    let operations = operations((root, folder), options, |pipeline| Ok(make(pipeline)?.report))?;
    let prepared = prepared_loads((root, folder), options, request, operations.keys())?;
    let peak = peak(&pipeline, &operations[&Stage::Step].layers, &mut watch)?;
    Ok(Bench {
        machine: Machine::this(),
        flavour: pipeline.package().flavour(),
        runs,
        stages: stages(&first, &later, is_cold, &operations, &prepared),
        total: median(later.iter().map(|report| report.total)),
        peak,
        request: resolved,
    })
}

fn stages(
    first: &Report,
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

/// The time that `layers` take one by one, as a speed.
fn peak(
    pipeline: &Pipeline,
    layers: &BTreeMap<Layer, u64>,
    watch: &mut impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Peak> {
    let (mut operations, mut int8, mut f32) = (0.0, 0.0, 0.0);
    for (done, (layer, count)) in layers.iter().enumerate() {
        if watch(Progress { part: Part::Machine, done, of: layers.len() }).is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "", "the bench was cancelled"));
        }
        operations +=
            2.0 * layer.iter().map(|extent| *extent as f64).product::<f64>() * *count as f64;
        int8 += time_of(pipeline, *layer, Precision::Int8)?.as_secs_f64() * *count as f64;
        f32 += time_of(pipeline, *layer, Precision::F32)?.as_secs_f64() * *count as f64;
    }
    Ok(Peak { int8: operations / int8, f32: operations / f32 })
}

/// Median time of one linear layer.
fn time_of(pipeline: &Pipeline, layer: Layer, precision: Precision) -> Result<Duration> {
    let [rows, inner, _] = layer;
    let mut session = linear_layer(pipeline.package(), layer, precision)?;
    let x: Vec<f32> = (0..rows * inner).map(|at| (at % 89) as f32 / 89.0 - 0.5).collect();
    let mut run = || -> Result<Duration> {
        let start = Instant::now();
        session.run(&[("x", Input::F32(&[rows, inner], &x))])?;
        Ok(start.elapsed())
    };
    run()?; // the first run takes memory
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < LAYER_RUNS || start.elapsed() < LAYER_TIME {
        times.push(run()?);
    }
    Ok(median(times))
}

fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
