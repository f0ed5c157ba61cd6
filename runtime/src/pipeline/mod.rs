//! The conductor: the order of the stages, progress and cancel. The plan says when each is loaded
//! and dropped.

mod looking;
pub mod state;
mod state_bytes;
pub mod trace;
pub(crate) mod warm;

use std::{
    cell::RefCell,
    ops::ControlFlow,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use image::RgbImage;
use pocketmuse_package::{Digest, Error, ErrorKind, Manifest, Result, Stage};

use crate::{
    memory::metrics::{Meter, Report},
    memory::plan::Plan,
    package::{Options, Package},
    pipeline::state::State,
    pipeline::trace::{Traced, Tracer},
    pipeline::warm::{Slot, Warm},
    pixels,
    pixels::preview::Preview,
    request::source::{Source, Start},
    request::video::{self, Made, Moment, Video},
    request::{Request, Resolved},
    sampler,
    sampler::margin::{Surrounded, Wrapping},
    sampler::rng::Rng,
    sampler::variation,
    stages::{Decoder, Encoder, Predictor, Primed, Prologue, Text, TextEncoder},
    text::prompts::Prompts,
    text::tokenizer::Tokenizer,
};

/// A package, ready to make pictures. Can be shared between threads: requests take turns, so the
/// memory in use is that of one.
pub struct Pipeline {
    package: Package,
    options: Options,
    budget_bytes: u64,
    warm: Mutex<Warm>,
}

/// A request being served: how its stages are loaded, those that are, and what they took.
pub(crate) struct Turn<'a> {
    plan: Plan,
    warm: &'a mut Warm,
    meter: Meter,
}

/// A step that was just finished.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Which, from 0.
    pub step: usize,
    /// How many there are: those of the request, and for a variation those that are run anew after
    /// them.
    pub num_inference_steps: usize,
    /// The tokens of all pictures, picture after picture, row after row; `None` where still masked.
    pub tokens: &'a [Option<u32>],
    /// What all tokens would be if the pictures were finished now: tokens as the step drew them,
    /// before the unsure ones were masked again. `None` where nothing was drawn yet.
    pub guess: &'a [Option<u32>],
    /// Pictures in the making.
    pub images: usize,
    /// Rows of tokens in a picture.
    pub height: usize,
    /// Tokens in a row.
    pub width: usize,
    /// The generator as the step left it.
    pub rng: &'a Rng,
    /// The request with every default filled in.
    pub request: &'a Request,
    /// What stands for the picture and the mask of an edit.
    pub source: Option<Digest>,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Output {
    /// The pictures.
    pub images: Vec<RgbImage>,
    /// Time and memory.
    pub report: Report,
    /// What of a prompt did not fit the model and had no effect: for people, a line for each
    /// prompt.
    pub truncated: Vec<String>,
    /// The request with every default filled in: it makes the same pictures again.
    pub request: Request,
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
    /// `Io` or `PackageDamaged` for the package, `BadRequest` for options that do not suit it,
    /// `Runtime` if ONNX Runtime is not found or too old.
    pub fn open_with(package: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let package = Package::open(package.as_ref(), options)?;
        Ok(Self {
            package,
            options: options.clone(),
            budget_bytes: options.memory.bytes(),
            warm: Mutex::default(),
        })
    }

    /// What the package says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.package.manifest()
    }

    /// The same pipeline, whose stages write profiles into `folder`.
    pub(crate) fn with_profiles(self, folder: &Path) -> Self {
        Self { package: self.package.with_profiles(folder), ..self }
    }

    pub(crate) fn package(&self) -> &Package {
        &self.package
    }

    /// What makes previews of steps: see [`Preview::image`]. `None` if the package has none, since
    /// it was exported before they were possible.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the package's file of colours was changed.
    pub fn preview(&self) -> Result<Option<Preview>> {
        self.package.preview()
    }

    /// How [`Self::generate`] would serve a request, and what that would take. Loads nothing.
    ///
    /// # Errors
    ///
    /// `BadRequest` or `NotEnoughMemory`, as [`Self::generate`].
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        self.plan_of(&request.resolve(self.manifest())?)
    }

    fn plan_of(&self, job: &Resolved) -> Result<Plan> {
        Plan::within(self.manifest(), job, &self.options, self.budget_bytes)
    }

    /// Makes pictures. A stage is loaded, used and dropped before the next one is loaded, or stays
    /// for the next picture where the budget allows it (see [`Self::plan`]).
    ///
    /// `on_step` is called after every step; when it breaks, no further work is done.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a value out of range or a size that does not fit the model;
    /// `NotEnoughMemory` if the budget is too small; `PackageDamaged` if a file was changed;
    /// `Runtime` if a graph fails; `Cancelled` if `on_step` broke.
    pub fn generate(
        &self,
        request: &Request,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        request.check_starts_from_nothing()?;
        self.run(&request.resolve(self.manifest())?, None, None, None, on_step)
    }

    /// Makes pictures from a picture: the whole of it or what its mask says. Otherwise as
    /// [`Self::generate`].
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `BadRequest` too for a mask that asks for nothing and for a
    /// package without encoder.
    pub fn edit(
        &self,
        request: &Request,
        source: &Source,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let (job, start) = self.started(request, source)?;
        self.run(&job, Some(&start), None, None, on_step)
    }

    /// The job of an edit, and what it starts from.
    fn started(&self, request: &Request, source: &Source) -> Result<(Resolved, Start)> {
        let mut job = source.resolve(request, self.manifest())?;
        let start = source.fit(&mut job, &self.manifest().model)?;
        Ok((job, start))
    }

    /// Makes a video: the first frame as [`Self::generate`] makes a picture, every other from the
    /// tokens of the one before.
    ///
    /// `on_moment` is given every frame when it is finished, and told of every step; when it
    /// breaks, no further work is done. A frame is planned and made as a picture is, so a video
    /// takes the memory of one picture, however long it is.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `BadRequest` too for a motion that moves everything out of view
    /// in one frame, and for several pictures at once.
    pub fn video(
        &self,
        request: &Request,
        video: &Video,
        mut on_moment: impl FnMut(Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Made> {
        let started = Instant::now();
        let mut job = video.resolve(request, self.manifest())?;
        let pixels_per_token = self.manifest().model.pixels_per_token;
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let end =
            video.end.as_ref().map(|end| self.codes_of(end, &mut job, &mut warm)).transpose()?;
        let mut rng = Rng::new(request.rng, request.seed);
        let (mut tokens, mut truncated) = (vec![None; job.cells()], Vec::new());
        for frame in 0..video.frames {
            let mut now = job.clone();
            if frame > 0 {
                rng = video::frame_rng(rng, request.seed, frame);
                tokens = video.begin(
                    frame,
                    &tokens,
                    end.as_deref(),
                    (job.grid, pixels_per_token),
                    &mut rng,
                );
                now = video::frame_job(&job, &tokens);
            }
            let mut turn = self.turn(&now, &mut warm)?;
            let mut images;
            let step = |step: &Step<'_>| on_moment(Moment::Step { frame, step: *step });
            (images, truncated) =
                self.draw(&mut turn, &now, None, (&mut tokens, &mut rng), None, step)?;
            let image = images.pop().expect("one picture was asked for");
            if on_moment(Moment::Frame { frame, image }).is_break() {
                return Err(cancelled());
            }
        }
        Ok(Made { request: job.request, truncated, total: started.elapsed() })
    }

    /// The codes of a picture of any size, brought to the size of `job`.
    fn codes_of(&self, image: &RgbImage, job: &mut Resolved, warm: &mut Warm) -> Result<Vec<u32>> {
        let start = Source::new(image.clone()).fit(job, &self.manifest().model)?;
        self.codes(&mut self.turn(job, warm)?, &start)
    }

    /// What [`Self::resume`] needs to go on after `step`, which this pipeline has just finished.
    pub fn state(&self, step: &Step<'_>) -> State {
        State {
            package: self.manifest().digest(),
            flavour: self.package.flavour(),
            request: step.request.clone(),
            source: step.source,
            next_step: step.step + 1,
            tokens: step.tokens.to_vec(),
            rng: step.rng.clone(),
        }
    }

    /// Goes on after the step at which `state` was taken: the pictures are those of a job that was
    /// never stopped. An edit needs its `source` again.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `BadInput` if the state is of another package, flavour, picture
    /// or mask, or is one that no job can have.
    pub fn resume(
        &self,
        state: &State,
        source: Option<&Source>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let (job, start, _) = self.resumed(state, source)?;
        self.run(&job, start.as_ref(), Some(state), None, on_step)
    }

    /// What is left of a job, what it started from, and how many steps it has made.
    fn resumed(
        &self,
        state: &State,
        source: Option<&Source>,
    ) -> Result<(Resolved, Option<Start>, usize)> {
        let (mut job, start) = match source {
            Some(source) => {
                let (job, start) = self.started(&state.request, source)?;
                (job, Some(start))
            }
            None => (state.request.resolve(self.manifest())?, None),
        };
        let package = (self.manifest().digest(), self.package.flavour());
        state.check(&job, start.as_ref().map(Start::digest), package)?;
        let made = state.next_step - job.schedule.first_step;
        job.schedule.first_step = state.next_step;
        Ok((job, start, made))
    }

    fn run(
        &self,
        job: &Resolved,
        start: Option<&Start>,
        saved: Option<&State>,
        tracer: Option<&mut Tracer>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let source = start.map(Start::digest);
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = self.turn(job, &mut warm)?;
        let (mut tokens, mut rng) = match saved {
            Some(state) => (state.tokens.clone(), state.rng.clone()),
            None => self.begin(&mut turn, job, start)?,
        };
        let (images, truncated) =
            self.draw(&mut turn, job, source, (&mut tokens, &mut rng), tracer, on_step)?;
        let known = |image| if let Some(start) = start { start.paste(image) } else { image };
        let images = images.into_iter().map(known).collect();
        Ok(Output { images, report: turn.meter.finish(), truncated, request: job.request.clone() })
    }

    /// Chooses the masked tokens and decodes all. Returns the pictures and what of the prompts did
    /// not fit.
    fn draw(
        &self,
        turn: &mut Turn<'_>,
        job: &Resolved,
        source: Option<Digest>,
        (tokens, rng): (&mut [Option<u32>], &mut Rng),
        tracer: Option<&mut Tracer>,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Vec<RgbImage>, Vec<String>)> {
        let prompts = self.tokenize(job)?;
        let text = self.encode(turn, &prompts)?;
        let primed = self.prime(turn, text, job)?;
        let (plan, mut traced, is_traced) =
            (turn.plan.stage(Stage::Step), Slot::default(), tracer.is_some());
        turn.meter.stage(
            &plan,
            if is_traced { &mut traced } else { &mut turn.warm.step },
            |loading| match is_traced {
                true => Predictor::load_tapped(&self.package, loading, trace::WANTED),
                false => Predictor::load(&self.package, loading),
            },
            |predictor| {
                let surrounded = Surrounded::of(job);
                let model = predictor.with(&primed, &prompts.guidance, surrounded.outer())?;
                let (model, guess) =
                    (model.guided(job.guidance_scales()), RefCell::new(tokens.to_vec()));
                let mut model =
                    Wrapping { model: Traced { model, tracer, guess: &guess }, surrounded };
                let mut watch = |step, tokens: &[_], rng: &Rng| {
                    on_step(&job.step(step, [tokens, guess.borrow().as_slice()], rng, source))
                };
                let flow = match job.redone_from {
                    Some(first) => {
                        variation::sample(&mut model, tokens, (job, first), |step, tokens| {
                            watch(step, tokens, rng)
                        })?
                    }
                    None => sampler::sample(
                        &mut model,
                        tokens,
                        job.images(),
                        &job.schedule,
                        rng,
                        watch,
                    )?,
                };
                match flow {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(cancelled()),
                }
            },
        )?;
        drop((primed, traced));
        let images = turn.meter.stage(
            &turn.plan.stage(Stage::Decoder),
            &mut turn.warm.decoder,
            |loading| Decoder::load(&self.package, loading),
            |decoder| {
                tokens.chunks(job.cells()).map(|tokens| decode(decoder, tokens, job)).collect()
            },
        )?;
        Ok((images, prompts.truncated))
    }

    /// The tokens and the generator before the first step. The tokens are all masked, or what the
    /// encoder makes of the picture to start from.
    fn begin(
        &self,
        turn: &mut Turn<'_>,
        job: &Resolved,
        start: Option<&Start>,
    ) -> Result<(Vec<Option<u32>>, Rng)> {
        let mut rng = Rng::new(job.request.rng, job.request.seed);
        let Some(start) = start else { return Ok((vec![None; job.images() * job.cells()], rng)) };
        let codes = self.codes(turn, start)?;
        Ok((start.tokens(&codes, job, &mut rng), rng))
    }

    /// What the encoder makes of a picture. That of the last one is kept, since often the same is
    /// edited again.
    fn codes(&self, turn: &mut Turn<'_>, start: &Start) -> Result<Vec<u32>> {
        let picture = start.picture_digest();
        if let Some((_, codes)) = turn.warm.codes.as_ref().filter(|(known, _)| *known == picture) {
            turn.meter.skip(Stage::Encoder);
            return Ok(codes.clone());
        }
        let (pixels, size) = start.pixels();
        let codes = turn.meter.stage(
            &turn.plan.stage(Stage::Encoder),
            &mut Slot::default(),
            |loading| Encoder::load(&self.package, loading),
            |encoder| encoder.codes(&pixels, size),
        )?;
        turn.warm.codes = Some((picture, codes.clone()));
        Ok(codes)
    }

    /// Plans `job` and drops what would be in its way.
    pub(crate) fn turn<'a>(&self, job: &Resolved, warm: &'a mut Warm) -> Result<Turn<'a>> {
        let plan = self.plan_of(job)?;
        warm.fit(&plan);
        Ok(Turn { plan, warm, meter: Meter::start() })
    }

    /// The prompts as token ids.
    pub(crate) fn tokenize(&self, job: &Resolved) -> Result<Prompts> {
        Prompts::new(job, &Tokenizer::load(self.package.tokenizer_folder()?, self.manifest())?)
    }

    /// Each prompt is encoded by itself, so that its text does not depend on others and can be used
    /// again.
    pub(crate) fn encode(&self, turn: &mut Turn<'_>, prompts: &Prompts) -> Result<Text> {
        let Turn { plan, warm: Warm { texts, text_encoder, .. }, meter } = turn;
        let needed = prompts.needed();
        texts.make_room(needed.len());
        let missing: Vec<_> = needed.iter().filter(|ids| !texts.touch(ids)).collect();
        if missing.is_empty() {
            meter.skip(Stage::TextEncoder);
            return prompts.text(texts);
        }
        meter.stage(
            &plan.stage(Stage::TextEncoder),
            text_encoder,
            |loading| TextEncoder::load(&self.package, loading),
            |encoder| {
                for ids in missing {
                    if !texts.touch(ids) {
                        texts.keep(ids, encoder.encode(std::slice::from_ref(ids))?);
                    }
                }
                prompts.text(texts)
            },
        )
    }

    /// The text is dropped with the prologue.
    pub(crate) fn prime(&self, turn: &mut Turn<'_>, text: Text, job: &Resolved) -> Result<Primed> {
        turn.meter.stage(
            &turn.plan.stage(Stage::Prologue),
            &mut turn.warm.prologue,
            |loading| Prologue::load(&self.package, loading),
            |prologue| prologue.prime(&text, job.micro_conds()),
        )
    }
}

impl Resolved {
    fn step<'a>(
        &'a self,
        step: usize,
        [tokens, guess]: [&'a [Option<u32>]; 2],
        rng: &'a Rng,
        source: Option<Digest>,
    ) -> Step<'a> {
        let ([height, width], num_inference_steps) = (self.grid, self.steps());
        let (images, request) = (self.images(), &self.request);
        Step {
            step,
            num_inference_steps,
            tokens,
            guess,
            images,
            height,
            width,
            rng,
            request,
            source,
        }
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "", "the request was cancelled")
}

fn decode(decoder: &mut Decoder, tokens: &[Option<u32>], job: &Resolved) -> Result<RgbImage> {
    let tokens: Option<Vec<i64>> = tokens.iter().map(|token| token.map(i64::from)).collect();
    let tokens = tokens.expect("the last step leaves no token masked");
    let surrounded = Surrounded::of(job);
    let decoded = decoder.decode(&surrounded.wrapped(&tokens), surrounded.outer())?;
    let [height, width] = decoded.size();
    Ok(surrounded.cropped(pixels::to_image(decoded.values()?, height, width)?))
}
