//! The conductor: the order of the stages, when each is loaded and dropped, progress and cancel.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Mutex, PoisonError},
};

use image::RgbImage;
use pocketmuse_package::{Digest, Error, ErrorKind, Manifest, Result, Stage};

use crate::{
    edit::{Source, Start},
    job::State,
    metrics::{Meter, Report},
    package::{Options, Package},
    pixels,
    request::{Request, Resolved},
    rng::Rng,
    sampler,
    stages::{Decoder, Encoder, Predictor, Primed, Prologue, Text, TextEncoder},
    tokenize::Tokenizer,
};

/// A package, ready to make pictures. Can be shared between threads: requests take turns, so the memory in use is that
/// of one.
pub struct Pipeline {
    package: Package,
    turn: Mutex<()>,
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
        Ok(Self { package: Package::open(package.as_ref(), options)?, turn: Mutex::new(()) })
    }

    /// What the package says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.package.manifest()
    }

    pub(crate) fn package(&self) -> &Package {
        &self.package
    }

    /// Makes pictures. Every stage is loaded, used and dropped before the next one is loaded.
    ///
    /// `on_step` is called after every step; when it breaks, no further work is done.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a value out of range or a size that does not fit the model; `PackageDamaged` if a file was
    /// changed; `Runtime` if a graph fails; `Cancelled` if `on_step` broke.
    pub fn generate(&self, request: &Request, on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>) -> Result<Output> {
        request.check_starts_from_nothing()?;
        self.run(&request.resolve(self.manifest())?, None, None, on_step)
    }

    /// Makes pictures from a picture: the whole of it or what its mask says. Otherwise as [`Self::generate`].
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `BadRequest` too for a mask that asks for nothing and for a package without encoder.
    pub fn edit(
        &self,
        request: &Request,
        source: &Source,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let mut job = source.resolve(request, self.manifest())?;
        let start = source.fit(&mut job, &self.manifest().model)?;
        self.run(&job, Some(&start), None, on_step)
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

    /// Goes on after the step at which `state` was taken: the pictures are those of a job that was never stopped.
    /// An edit needs its `source` again.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`]; `BadInput` if the state is of another package, flavour, picture or mask, or is one
    /// that no job can have.
    pub fn resume(
        &self,
        state: &State,
        source: Option<&Source>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let (mut job, start) = match source {
            Some(source) => {
                let mut job = source.resolve(&state.request, self.manifest())?;
                let start = source.fit(&mut job, &self.manifest().model)?;
                (job, Some(start))
            }
            None => (state.request.resolve(self.manifest())?, None),
        };
        let package = (self.manifest().digest(), self.package.flavour());
        state.check(&job, start.as_ref().map(Start::digest), package)?;
        job.schedule.first_step = state.next_step;
        self.run(&job, start.as_ref(), Some(state), on_step)
    }

    fn run(
        &self,
        job: &Resolved,
        start: Option<&Start>,
        saved: Option<&State>,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<Output> {
        let source = start.map(Start::digest);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meter = Meter::start();
        let (mut tokens, mut rng) = match saved {
            Some(state) => (state.tokens.clone(), state.rng.clone()),
            None => self.begin(&mut meter, job, start)?,
        };
        let prompts = self.tokenize(job)?;
        let text = self.encode(&mut meter, &prompts)?;
        let primed = self.prime(&mut meter, text, job)?;
        let tokens = meter.stage(
            Stage::Step,
            || {
                Ok(Predictor::load(&self.package)?
                    .with(&primed, &prompts.guidance, job.grid)?
                    .guided(job.guidance_scales()))
            },
            |mut model| {
                let watch = |step, tokens: &[_], rng: &Rng| on_step(&job.step(step, tokens, rng, source));
                match sampler::sample(&mut model, &mut tokens, job.images(), &job.schedule, &mut rng, watch)? {
                    ControlFlow::Continue(()) => Ok(tokens),
                    ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "", "the request was cancelled")),
                }
            },
        )?;
        drop(primed);
        let images = meter.stage(
            Stage::Decoder,
            || Decoder::load(&self.package),
            |mut decoder| {
                let known = |image| if let Some(start) = start { start.paste(image) } else { image };
                tokens.chunks(job.cells()).map(|tokens| decode(&mut decoder, tokens, job).map(known)).collect()
            },
        )?;
        Ok(Output { images, report: meter.finish(), truncated: prompts.truncated, request: job.request.clone() })
    }

    /// The tokens and the generator before the first step. The tokens are all masked, or what the encoder makes of the
    /// picture to start from.
    fn begin(&self, meter: &mut Meter, job: &Resolved, start: Option<&Start>) -> Result<(Vec<Option<u32>>, Rng)> {
        let mut rng = Rng::new(job.request.rng, job.request.seed);
        let Some(start) = start else { return Ok((vec![None; job.images() * job.cells()], rng)) };
        let (pixels, size) = start.pixels();
        let codes =
            meter.stage(Stage::Encoder, || Encoder::load(&self.package), |mut encoder| encoder.codes(&pixels, size))?;
        Ok((start.tokens(&codes, job, &mut rng), rng))
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

    pub(crate) fn encode(&self, meter: &mut Meter, prompts: &Prompts) -> Result<Text> {
        meter.stage(Stage::TextEncoder, || TextEncoder::load(&self.package), |mut encoder| encoder.encode(&prompts.ids))
    }

    /// The text is dropped with the prologue.
    pub(crate) fn prime(&self, meter: &mut Meter, text: Text, job: &Resolved) -> Result<Primed> {
        meter.stage(
            Stage::Prologue,
            || Prologue::load(&self.package),
            |mut prologue| prologue.prime(&text, job.micro_conds()),
        )
    }
}

impl Resolved {
    fn step<'a>(&'a self, step: usize, tokens: &'a [Option<u32>], rng: &'a Rng, source: Option<Digest>) -> Step<'a> {
        let ([height, width], num_inference_steps) = (self.grid, self.schedule.steps);
        let (images, request) = (self.images(), &self.request);
        Step { step, num_inference_steps, tokens, images, height, width, rng, request, source }
    }
}

fn decode(decoder: &mut Decoder, tokens: &[Option<u32>], job: &Resolved) -> Result<RgbImage> {
    let tokens: Option<Vec<i64>> = tokens.iter().map(|token| token.map(i64::from)).collect();
    let tokens = tokens.expect("the last step leaves no token masked");
    let decoded = decoder.decode(&tokens, job.grid)?;
    let [height, width] = decoded.size();
    pixels::to_image(decoded.values()?, height, width)
}
