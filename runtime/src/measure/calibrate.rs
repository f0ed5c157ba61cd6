//! What a decoder does, measured on pictures that the model makes and on random ones: the ranges of
//! its inner values, and what tokens look like. Knows not what they are for.

use std::{ops::ControlFlow, path::Path};

use pocketmuse_package::{Cell, Error, ErrorKind, Measured, RANGE, Ranges, Result, Stage};

use crate::{
    engine::loading::Loading,
    package::{Options, Package},
    pipeline::Pipeline,
    request::{Job, Request},
    sampler::{
        Canvas, Schedule,
        rng::{Philox, Purpose},
        sample,
    },
    stages::{Decoder, Predictor},
};

/// What the pictures show: subjects, places and light of many kinds.
const PROMPTS: [&str; 10] = [
    "a red lighthouse by the sea at sunset",
    "a green tree in the snow under a blue sky, black and white photograph",
    "a big yellow robot in the desert at night with a city in the background",
    "a white house in a meadow on a sunny day",
    "a small blue car in the snow under a grey sky with mountains in the background",
    "a purple hot air balloon under an orange sky, oil painting",
    "an orange tent in a green field with a forest in the background",
    "a black sailboat on the ocean in stormy weather",
    "a pink mushroom in the grass, macro photograph",
    "a brown rocket in the desert under a starry sky",
];

/// The longest side of a picture in pixels: ranges depend little on the size, and the time goes
/// with its square.
const SIDE: u32 = 128;

/// Pictures of random codes besides: they cost no steps, and what no prompt shows does not clip.
const RANDOM: usize = 2;

/// Each picture is decoded once: memory for intermediate values goes back as soon as it is free.
const FRUGAL: Loading = Loading { arena: false, prepacking: false };

/// How far a calibration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The picture being made, from 0.
    pub picture: usize,
    /// Pictures in all.
    pub pictures: usize,
}

/// Makes a few pictures with `package` and measures the range of every tap of its decoder that is
/// named as [`RANGE`] says, and what the pictures' tokens look like.
///
/// `on_sample` is called for each picture and after each of its steps; breaking cancels.
///
/// # Errors
///
/// As for [`Pipeline::generate`].
pub fn calibrate(
    package: &Path,
    options: &Options,
    mut on_sample: impl FnMut(Sample) -> ControlFlow<()>,
) -> Result<Measured> {
    let pipeline = Pipeline::open_with(package, options)?;
    let mut predictor = Predictor::load(
        pipeline.package(),
        Loading { prepacking: false, ..Loading::of(Stage::Step) },
    )?;
    let mut tokens = Vec::new();
    for (picture, prompt) in PROMPTS.into_iter().enumerate() {
        let sample = Sample { picture, pictures: PROMPTS.len() };
        let request =
            Request { prompt: prompt.to_owned(), seed: picture as u64, ..small(&pipeline) };
        tokens.push(pipeline.tokens(&mut predictor, &request, || on_sample(sample))?);
    }
    let grid = Job::new(&small(&pipeline), pipeline.manifest())?.grid;
    let codes = pipeline.manifest().model.codebook_size;
    drop((predictor, pipeline));
    tokens.extend((0..RANDOM).map(|picture| random(picture, grid[0] * grid[1], codes)));
    let observed = Package::open(package, options)?.with_taps(|name| name.starts_with(RANGE));
    let mut decoder = Decoder::load(&observed, FRUGAL)?;
    let mut measured = Measured::default();
    for (picture, tokens) in tokens.into_iter().enumerate() {
        let pixels = decoder.decode(&tokens, grid)?;
        if picture < PROMPTS.len() {
            let codes: Vec<_> = tokens.iter().map(|code| *code as u32).collect();
            measured.cells.extend(Cell::of_image(&codes, grid[1], pixels.values()?));
        }
        measure(&decoder, &mut measured.ranges)?;
    }
    Ok(measured)
}

/// A request for a picture of the model's own size, or a smaller one.
fn small(pipeline: &Pipeline) -> Request {
    let model = &pipeline.manifest().model;
    let unit = model.pixels_per_token * model.grid_multiple;
    let whole = model.sample_size * model.pixels_per_token;
    let side = if whole <= SIDE { whole } else { (SIDE / unit * unit).max(unit) };
    Request { height: Some(side), width: Some(side), ..Request::default() }
}

/// Codes of a picture that shows nothing.
fn random(picture: usize, tokens: usize, codes: u32) -> Vec<i64> {
    let philox = Philox::new(picture as u64);
    let uniform = |position| philox.uniform(Purpose::Code, picture, 0, position);
    (0..tokens).map(|position| (uniform(position) * f64::from(codes)) as i64).collect()
}

/// Each range tap is `[2, channels]`: smallest values, largest values.
fn measure(decoder: &Decoder, ranges: &mut Ranges) -> Result<()> {
    let taps =
        decoder.taps().iter().filter_map(|(name, tap)| Some((name.strip_prefix(RANGE)?, tap)));
    for (name, tap) in taps {
        let values = tap.as_f32()?;
        let (least, most) = values.split_at(values.len() / 2);
        ranges.widen(name, least, most)?;
    }
    Ok(())
}

impl Pipeline {
    /// The tokens of the picture that `request` asks for.
    fn tokens(
        &self,
        predictor: &mut Predictor,
        request: &Request,
        mut on_step: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<i64>> {
        let job = Job::new(request, self.manifest())?;
        let (primed, guidance) = self.primed(&job)?;
        let mut model = predictor.with(&primed, &guidance, job.grid)?;
        let mut canvas = Canvas::masked(&job);
        let flow = sample(&mut model, &mut canvas, &Schedule::of(&job), |_, _| on_step())?;
        if flow.is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "", "the calibration was cancelled"));
        }
        Ok(canvas.tokens.into_iter().flatten().map(i64::from).collect())
    }
}
