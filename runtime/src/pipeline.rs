//! The conductor: the order of the stages, when each is loaded and dropped, progress and cancel.

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
    request::{Request, Resolved},
    rng::Rng,
    sampler,
    stages::{Decoder, Predictor, Primed, Prologue, Text, TextEncoder},
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

    /// The same pipeline, whose stages write profiles into `folder`.
    pub(crate) fn with_profiles(self, folder: &Path) -> Self {
        Self { package: self.package.with_profiles(folder), ..self }
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
    pub fn generate(&self, request: &Request, mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>) -> Result<Output> {
        let job = request.resolve(self.manifest())?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meter = Meter::start();
        let prompts = self.tokenize(&job)?;
        let text = self.encode(&mut meter, &prompts)?;
        let primed = self.prime(&mut meter, text, &job)?;
        let tokens = meter.stage(
            Stage::Step,
            || Predictor::load(&self.package)?.with(&primed, &prompts.guidance, job.grid),
            |mut model| {
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
        let images = meter.stage(
            Stage::Decoder,
            || Decoder::load(&self.package),
            |mut decoder| {
                tokens.chunks(job.grid[0] * job.grid[1]).map(|tokens| decode(&mut decoder, tokens, &job)).collect()
            },
        )?;
        Ok(Output { images, report: meter.finish(), truncated: prompts.truncated, request: job.request })
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
