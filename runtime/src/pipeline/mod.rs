//! The conductor: a request becomes a job, and [`Pipeline::run`] shows the order of the stages.

mod attention;
mod automatic;
mod compiled;
pub mod doctor;
mod edit;
mod effort;
mod exclusive;
mod kept;
mod made_by;
#[cfg(feature = "measure")]
pub(crate) mod measured;
mod meter;
mod output;
mod panics;
mod planner;
mod progress;
mod prompts;
mod proof;
mod rest;
mod running;
pub mod state;
mod state_bytes;
mod state_image;
mod steered;
mod steps;
pub mod trace;
mod tracker;
mod turns;
pub mod video;
pub(crate) mod warm;
mod watch;

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc};

use pocketmuse_package::{Manifest, Result, Stage};

pub use self::{
    compiled::Compiled,
    made_by::MadeBy,
    output::Output,
    progress::{Phase, Progress},
    proof::Candidate,
    watch::{Attention, Prediction, Step, Watch},
};
use self::{
    panics::caught,
    planner::Planner,
    proof::Prover,
    running::RunningJob,
    state::State,
    steered::{Means, Steered},
    trace::{Trace, Tracer},
    turns::Turns,
};
use crate::{
    memory::{metrics::Report, plan::Plan},
    package::{Package, capabilities::Capabilities},
    pixels::preview::Preview,
    request::{Control, Job, Options, Provider, Request, source::Source, video::Video},
    text::tokenizer::Tokenizer,
};

/// A package, ready to make images. Can be shared between threads: jobs take turns, so the memory
/// in use is that of one. All clones are one, but for what steers their jobs.
#[derive(Clone)]
pub struct Pipeline {
    package: Arc<Package>,
    planner: Arc<Planner>,
    turns: Arc<Turns>,
    /// Steers the jobs; without one, nobody does.
    control: Option<Control>,
    /// Proves other providers than the CPU; without one, this process does.
    prover: Option<Prover>,
}

/// What a job starts from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// Nothing: the prompt makes the images.
    Nothing,
    /// An image to edit.
    Image(&'a Source),
    /// What was saved after a step, and the source of an edit again unless it was saved, too.
    Saved(&'a State, Option<&'a Source>),
}

impl<'a> Origin<'a> {
    /// An image to edit, if there is one.
    pub fn image(source: Option<&'a Source>) -> Self {
        source.map_or(Self::Nothing, Self::Image)
    }
}

impl Pipeline {
    /// Opens a package folder with default [`Options`].
    ///
    /// # Errors
    ///
    /// As for [`Self::open_with`].
    pub fn open(package: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(package, &Options::default())
    }

    /// Opens a package folder and starts ONNX Runtime. Cheap: reads the manifest and every file's
    /// size, loads no graph.
    ///
    /// # Errors
    ///
    /// `Io`, `PackageDamaged` or `PackageTooNew` for the package, `Unsupported` for a flavour that
    /// it lacks or a provider that this build lacks, `BadRequest` for options out of range or a
    /// plug-in's library that is not there, `EngineMissing` if ONNX Runtime is not found or too old.
    /// A plug-in is loaded when a job wants it.
    pub fn open_with(package: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Ok(Self::of(Package::open(package.as_ref(), options)?, options))
    }

    fn of(package: Package, options: &Options) -> Self {
        Self {
            package: Arc::new(package),
            planner: Arc::new(Planner::new(options)),
            turns: Arc::default(),
            control: None,
            prover: None,
        }
    }

    /// The same pipeline, and `control` steers its jobs: a [`Cancel`](crate::Cancel) that stops
    /// them, or a [`Control`] that can do more. All that makes an image obeys it: [`Self::run`],
    /// [`Self::generate`], [`Self::edit`], [`Self::video`], [`Self::resume`] and the rest.
    ///
    /// One control is for one job: the next gets another.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use std::{ops::ControlFlow, thread};
    ///
    /// use pocketmuse::{Cancel, ErrorKind, Pipeline, Request};
    ///
    /// let pipeline = Pipeline::open("tiny-world-package")?;
    /// let cancel = Cancel::new();
    /// let button = cancel.clone();
    /// thread::spawn(move || button.cancel()); // while it runs, or waits, or even before
    /// let made = pipeline.with_control(&cancel).generate(&Request::default(), |step| {
    ///     println!("step {} of {}", step.step + 1, step.num_inference_steps);
    ///     ControlFlow::Continue(())
    /// });
    /// if let Err(error) = made {
    ///     assert_eq!(error.kind(), ErrorKind::Cancelled);
    /// }
    /// # Ok::<(), pocketmuse::Error>(())
    /// ```
    pub fn with_control(&self, control: impl Into<Control>) -> Self {
        Self { control: Some(control.into()), ..self.clone() }
    }

    /// What the package says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.package.manifest()
    }

    /// What this package can do with these options, before any request.
    pub fn capabilities(&self) -> &Capabilities {
        self.package.capabilities()
    }

    /// Who computes each stage that the flavour in use has.
    pub fn providers(&self) -> BTreeMap<Stage, Provider> {
        let stages = self.manifest().flavours.get(&self.package.flavour());
        let stages = stages.into_iter().flat_map(|flavour| flavour.stages.keys());
        stages.map(|stage| (*stage, self.package.provider(*stage))).collect()
    }

    /// What was chosen of the options of each provider.
    pub fn provider_options(&self) -> &BTreeMap<Provider, BTreeMap<String, String>> {
        &self.package.providers().options
    }

    /// What makes previews of steps: see [`Preview::image`]. `None` if the package has none, since
    /// it was exported before they were possible.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the package's file of colours was changed.
    pub fn preview(&self) -> Result<Option<Preview>> {
        let Some((path, bytes)) = self.package.preview()? else { return Ok(None) };
        let preview = Preview::parse(&bytes, self.manifest());
        preview.map(Some).map_err(|error| error.within(path.display()))
    }

    /// How a request would be served, and what that would take. Loads nothing.
    ///
    /// # Errors
    ///
    /// `BadRequest` or `NotEnoughMemory`, as [`Self::run`].
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        self.plan_job(&Job::new(request, self.manifest())?)
    }

    /// As [`Self::plan`], for any job: the images of an edit count, too, and those of a video.
    ///
    /// # Errors
    ///
    /// `NotEnoughMemory`, as [`Self::run`].
    pub fn plan_job(&self, job: &Job) -> Result<Plan> {
        self.plan_chosen(job)
    }

    /// Checks a request and fills in every default. An edit's source is brought to the size of the
    /// images.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a value out of range, a size that does not fit the model, or a mask that
    /// asks for nothing; `BadInput` if what was saved is of another request, package, flavour,
    /// provider, image or mask, or is what no job can have.
    pub fn job(&self, request: &Request, origin: Origin<'_>) -> Result<Job> {
        match origin {
            Origin::Nothing => {
                request.check_starts_from_nothing()?;
                Job::new(request, self.manifest())
            }
            Origin::Image(source) => edit::edit_job(request, source, self.manifest()),
            Origin::Saved(state, source) => {
                let job = |request: &Request| match source {
                    Some(source) => edit::edit_job(request, source, self.manifest()),
                    None => state.job(request, self.manifest()),
                };
                let saved = job(&state.request)?;
                state.check_by(&saved, &self.package)?;
                if *request != state.request {
                    State::check_request(&job(request)?, &saved)?;
                }
                Ok(Job { saved: Some(state.saved()), ..saved })
            }
        }
    }

    /// The job of a video: the first frame as the prompt makes an image, every other from the
    /// tokens of the one before. Each is handed to [`Watch::frame`].
    ///
    /// # Errors
    ///
    /// As for [`Self::job`]; `BadRequest` too for a motion that moves everything out of view in one
    /// frame, and for several images at once.
    pub fn video_job(&self, request: &Request, video: &Video) -> Result<Job> {
        edit::video_job(request, video, self.manifest())
    }

    /// Runs a job. A stage is loaded, used and dropped before the next one is loaded, or stays for
    /// the next job where the budget allows it (see [`Self::plan`]).
    ///
    /// Jobs of other threads wait until this one is done, and are served in their order.
    /// [`Self::with_control`] stops, halts and steers the job from any thread, also while it waits.
    ///
    /// # Errors
    ///
    /// `NotEnoughMemory` if the budget is too small; `PackageDamaged` if a file was changed;
    /// `EngineFailed` if a graph fails; `BadRequest` if a provider's library is no plug-in;
    /// `ProviderFailed` if another provider than the CPU does not take a stage whole, computes
    /// something else, or fails; `Cancelled` if `watch` breaks or the control says so;
    /// `BadRequest` if it is called from within a job of this pipeline; `Internal` after a panic,
    /// of `watch` too. After any of these the pipeline works as well as before.
    pub fn run(&self, job: &Job, watch: &mut dyn Watch) -> Result<Output> {
        caught(|| {
            let chosen = self.chosen(job, watch)?; // who computes what, if nobody said
            let mut running = chosen.pipeline.start(job, watch)?;
            running.prove()?; // other providers than the CPU, before anything is made
            let mut canvas = running.begin()?; // all masked, from the encoder, or saved
            let mut conditions = running.prime()?; // tokenizer, text encoder, prologue
            for pass in job.passes() {
                running.sample(&mut conditions, &pass, &mut canvas)?;
                if let Some(frame) = pass.frame() {
                    running.show(frame, &canvas)?;
                }
            }
            let output = running.finish(conditions, &canvas)?; // decoder
            Ok(Output { report: chosen.told(output.report), ..output })
        })
    }

    /// Checks and loads the stages that stay loaded for a job like this one, so that the next such
    /// job need not. Makes nothing. Loads nothing where the budget lets no stage stay.
    ///
    /// # Errors
    ///
    /// As for [`Self::run`].
    pub fn warm(&self, job: &Job, watch: &mut dyn Watch) -> Result<Report> {
        caught(|| {
            let chosen = self.chosen(job, watch)?;
            Ok(chosen.told(chosen.pipeline.start(job, watch)?.warm()?))
        })
    }

    /// Waits for its turn, and plans the job.
    fn start<'a>(&'a self, job: &'a Job, watch: &'a mut dyn Watch) -> Result<RunningJob<'a>> {
        let control = self.control.clone().unwrap_or_default();
        let turn = self.turns.take(&control, || watch.progress(&Progress::waiting()))?;
        let prover = self.prover.as_ref();
        let means = Means { package: &self.package, planner: &self.planner, prover };
        Steered::new(job, means, (control, watch), turn).map(RunningJob::new)
    }

    /// Drops all that stays loaded for the next job: at once if no job runs, else as soon as the
    /// running job has finished its step or image; the rest of that job loads every stage alone.
    /// Returns the bytes that were held, as [`Self::plan`] counts them. The next job loads what it
    /// needs again.
    pub fn trim(&self) -> u64 {
        self.turns.trim()
    }

    /// Makes images from a prompt. `on_step` is called after every step; when it breaks, no further
    /// work is done.
    ///
    /// # Errors
    ///
    /// As for [`Self::job`] and [`Self::run`].
    pub fn generate(
        &self,
        request: &Request,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        self.run(&self.job(request, Origin::Nothing)?, &mut on_step)
    }

    /// Makes images from an image: the whole of it or what its mask says. Otherwise as
    /// [`Self::generate`].
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `Unsupported` too for a package without encoder.
    pub fn edit(
        &self,
        request: &Request,
        source: &Source,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        self.run(&self.job(request, Origin::Image(source))?, &mut on_step)
    }

    /// Goes on after the step at which `state` was taken: the images are those of a job that was
    /// never stopped. An edit needs its `source` again if the state does not hold it: see
    /// [`State::to_bytes`].
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `BadRequest` too for a video.
    pub fn resume(
        &self,
        state: &State,
        source: Option<&Source>,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        state.check_is_no_video()?;
        self.run(&self.job(&state.request, Origin::Saved(state, source))?, &mut on_step)
    }

    /// Makes a video. `on_event` is given every frame when it is finished, and told of every step;
    /// when it breaks, no further work is done. A video takes the memory of one image, however long
    /// it is.
    ///
    /// # Errors
    ///
    /// As for [`Self::video_job`] and [`Self::run`].
    pub fn video(
        &self,
        request: &Request,
        video: &Video,
        on_event: impl FnMut(video::Event<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        self.run(&self.video_job(request, video)?, &mut video::Film::new(0, on_event))
    }

    /// Goes on with a video after the step at which `state` was taken. `on_event` is given the
    /// frame of that step and those after it; they are those of a video that was never stopped.
    ///
    /// # Errors
    ///
    /// As for [`Self::video`]; `BadInput` if `state` is of no video.
    pub fn resume_video(
        &self,
        state: &State,
        on_event: impl FnMut(video::Event<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let frame = state.frame()?;
        let job = self.job(&state.request, Origin::Saved(state, None))?;
        self.run(&job, &mut video::Film::new(frame, on_event))
    }

    /// As [`Self::generate`] or, with a source, [`Self::edit`], and tells what went on inside. The
    /// images are the same; the step graph is loaded for this job alone and, in a full-size model,
    /// takes 79 MB more.
    ///
    /// # Errors
    ///
    /// As for [`Self::edit`] and [`Self::tracer`].
    pub fn trace(
        &self,
        request: &Request,
        source: Option<&Source>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Output, Trace)> {
        self.run_traced(&self.job(request, Origin::image(source))?, on_step)
    }

    /// As [`Self::resume`], and tells what went on inside in the steps that were left:
    /// [`Trace::unseen_steps`] says how many were made before, which nobody can look into any more.
    ///
    /// # Errors
    ///
    /// As for [`Self::resume`] and [`Self::tracer`].
    pub fn trace_resumed(
        &self,
        state: &State,
        source: Option<&Source>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Output, Trace)> {
        self.run_traced(&self.job(&state.request, Origin::Saved(state, source))?, on_step)
    }

    fn run_traced(
        &self,
        job: &Job,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Output, Trace)> {
        let mut tracer = self.tracer(job)?;
        let output = self.run(job, &mut (&mut tracer, &mut on_step))?;
        Ok((output, tracer.finish()))
    }

    /// What collects a trace while it watches `job`.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a variation, a tileable image and a video; `PackageDamaged` if the
    /// tokenizer was changed.
    pub fn tracer(&self, job: &Job) -> Result<Tracer> {
        let tokenizer = Tokenizer::load(self.package.tokenizer_folder()?, self.manifest())?;
        let prompt = job.request.weighted("prompt", &job.request.prompt)?;
        Tracer::new(job, tokenizer.words(&prompt.text)?, &self.manifest().model)
    }

    /// What [`Self::resume`] and [`Self::resume_video`] need to go on after `step`, which this
    /// pipeline has just finished.
    pub fn state(&self, step: &Step<'_>) -> State {
        State::after(step, (self.manifest().digest(), self.package.flavour()))
    }
}
