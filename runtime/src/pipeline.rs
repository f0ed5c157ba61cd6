//! The conductor: the order of the stages, progress and cancel. The plan says when each is loaded and dropped.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Mutex, PoisonError},
};

use image::RgbImage;
use pocketmuse_package::{Error, ErrorKind, Manifest, Result, Stage};

use crate::{
    metrics::{Meter, Report},
    package::{Options, Package},
    pixels,
    plan::Plan,
    request::{Request, Resolved},
    rng::Rng,
    sampler,
    stages::{Decoder, Predictor, Primed, Prologue, Text, TextEncoder},
    tokenize::Tokenizer,
    warm::Warm,
};

/// A package, ready to make pictures. Can be shared between threads: requests take turns, so the memory in use is that
/// of one.
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
    /// How many there are.
    pub num_inference_steps: usize,
    /// The tokens of all pictures, picture after picture, row after row; `None` where still masked.
    pub tokens: &'a [Option<u32>],
    /// Pictures in the making.
    pub images: usize,
    /// Rows of tokens in a picture.
    pub height: usize,
    /// Tokens in a row.
    pub width: usize,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Output {
    /// The pictures.
    pub images: Vec<RgbImage>,
    /// Time and memory.
    pub report: Report,
    /// What of a prompt did not fit the model and had no effect: for people, a line for each prompt.
    pub truncated: Vec<String>,
    /// The request with every default filled in: it makes the same pictures again.
    pub request: Request,
}

/// The prompts as token ids, in the order of the guidance branches, and their weights.
pub(crate) struct Prompts {
    ids: Vec<Vec<u32>>,
    pub(crate) guidance: Vec<f32>,
    truncated: Vec<String>,
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

    /// Opens a package folder and starts ONNX Runtime. Cheap: reads the manifest and every file's size, loads no graph.
    ///
    /// # Errors
    ///
    /// `Io` or `PackageDamaged` for the package, `BadRequest` for options that do not suit it, `Runtime` if ONNX
    /// Runtime is not found or too old.
    pub fn open_with(package: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let package = Package::open(package.as_ref(), options)?;
        Ok(Self { package, options: options.clone(), budget_bytes: options.memory.bytes(), warm: Mutex::default() })
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

    /// Makes pictures. A stage is loaded, used and dropped before the next one is loaded, or stays for the next picture
    /// where the budget allows it (see [`Self::plan`]).
    ///
    /// `on_step` is called after every step; when it breaks, no further work is done.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a value out of range or a size that does not fit the model; `NotEnoughMemory` if the budget is
    /// too small; `PackageDamaged` if a file was changed; `Runtime` if a graph fails; `Cancelled` if `on_step` broke.
    pub fn generate(&self, request: &Request, mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>) -> Result<Output> {
        let job = request.resolve(self.manifest())?;
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = self.turn(&job, &mut warm)?;
        let prompts = self.tokenize(&job)?;
        let text = self.encode(&mut turn, &prompts)?;
        let primed = self.prime(&mut turn, text, &job)?;
        let tokens = turn.meter.stage(
            &turn.plan.stage(Stage::Step),
            &mut turn.warm.step,
            |loading| Predictor::load(&self.package, loading),
            |predictor| {
                let mut model = predictor.with(&primed, &prompts.guidance, job.grid)?;
                let mut tokens = vec![None; job.images() * job.grid[0] * job.grid[1]];
                let mut rng = Rng::new(job.request.rng, job.request.seed);
                let watch = |step, tokens: &[_]| on_step(&job.step(step, tokens));
                match sampler::sample(&mut model, &mut tokens, job.images(), &job.schedule, &mut rng, watch)? {
                    ControlFlow::Continue(()) => Ok(tokens),
                    ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "", "the request was cancelled")),
                }
            },
        )?;
        drop(primed);
        let images = turn.meter.stage(
            &turn.plan.stage(Stage::Decoder),
            &mut turn.warm.decoder,
            |loading| Decoder::load(&self.package, loading),
            |decoder| tokens.chunks(job.grid[0] * job.grid[1]).map(|tokens| decode(decoder, tokens, &job)).collect(),
        )?;
        Ok(Output { images, report: turn.meter.finish(), truncated: prompts.truncated, request: job.request })
    }

    /// Plans `job` and drops what would be in its way.
    pub(crate) fn turn<'a>(&self, job: &Resolved, warm: &'a mut Warm) -> Result<Turn<'a>> {
        let plan = self.plan_of(job)?;
        warm.fit(&plan);
        Ok(Turn { plan, warm, meter: Meter::start() })
    }

    /// The prompt, and the negative prompt before it if there is guidance.
    pub(crate) fn tokenize(&self, job: &Resolved) -> Result<Prompts> {
        let tokenizer = Tokenizer::load(self.package.tokenizer_folder()?, self.manifest())?;
        let (prompt, negative) = (("prompt", &job.request.prompt), ("negative prompt", &job.request.negative_prompt));
        let g = job.guidance_scale;
        let (texts, guidance) =
            if job.is_guided() { (vec![negative, prompt], vec![1.0 - g, g]) } else { (vec![prompt], vec![1.0]) };
        let mut prompts = Prompts { ids: Vec::new(), guidance, truncated: Vec::new() };
        for (name, text) in texts {
            let encoded = tokenizer.encode(text)?;
            prompts.ids.push(encoded.ids);
            prompts.truncated.extend(encoded.truncated.map(|rest| format!("{name}: {rest}")));
        }
        Ok(prompts)
    }

    /// Each prompt is encoded by itself, so that its text does not depend on others and can be used again.
    pub(crate) fn encode(&self, turn: &mut Turn<'_>, prompts: &Prompts) -> Result<Text> {
        let Turn { plan, warm: Warm { texts, text_encoder, .. }, meter } = turn;
        let missing: Vec<_> = prompts.ids.iter().filter(|ids| !texts.touch(ids)).collect();
        if missing.is_empty() {
            meter.skip(Stage::TextEncoder);
            return texts.join(&prompts.ids);
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
                texts.join(&prompts.ids)
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
    fn step<'a>(&self, step: usize, tokens: &'a [Option<u32>]) -> Step<'a> {
        let ([height, width], num_inference_steps) = (self.grid, self.schedule.steps);
        Step { step, num_inference_steps, tokens, images: self.images(), height, width }
    }
}

fn decode(decoder: &mut Decoder, tokens: &[Option<u32>], job: &Resolved) -> Result<RgbImage> {
    let tokens: Option<Vec<i64>> = tokens.iter().map(|token| token.map(i64::from)).collect();
    let tokens = tokens.expect("the last step leaves no token masked");
    let decoded = decoder.decode(&tokens, job.grid)?;
    let [height, width] = decoded.size();
    pixels::to_image(decoded.values()?, height, width)
}
