//! What a decoder does, measured on images that the model makes and on random ones: the ranges of
//! its inner values, and what tokens look like. Knows not what they are for.

use std::{ops::ControlFlow, path::Path};

use pocketmuse::{
    Flavour, Loading, Options, Pipeline, Request,
    internals::{Decoder, Network as _, Package, Philox, Predictor, Purpose, give_back},
};
use pocketmuse_package::{
    CALIBRATION, Cell, ErrorKind, Manifest, Measured, RANGE, Result, Stage, calibration_prompts,
    files,
};

use crate::{
    activations::{MAPPED, Samples, activations, widen},
    prompts::GENERAL,
};

/// The longest text of prompts, in bytes: as long as a checkpoint's texts may be.
const MAX_PROMPT_BYTES: u64 = 64 << 20;

/// The longest side of an image in pixels: ranges depend little on the size, and the time goes
/// with its square.
const SIDE: u32 = 128;

/// Images of random tokens besides: they cost no steps, and what no prompt shows does not clip.
const RANDOM: usize = 2;

/// Prompts that the text encoder and the prologue are loaded for at once: each leaves 16 MB for the
/// step graph of a full-size model.
const AT_ONCE: usize = 12;

/// How far a calibration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The image being made, from 0.
    pub image: usize,
    /// Images in all.
    pub images: usize,
}

/// Makes a few images with `package` and measures the range of every tap of its decoder that is
/// named as [`RANGE`] says, and what the images' tokens look like. If it has the flavour qdq, the
/// ranges of the taps of all its stages are measured, too: of token states at every mask ratio,
/// with and without guidance.
///
/// The images show `prompts`, one each; without any, those of the package's [`CALIBRATION`]; where
/// there is none, what a general model is asked for: [`GENERAL`].
///
/// `on_sample` is called for each image and after each of its steps; breaking cancels.
///
/// # Errors
///
/// As for [`Pipeline::generate`]; `Io` if the package's prompts cannot be read.
pub fn calibrate(
    package: &Path,
    options: &Options,
    prompts: &[String],
    mut on_sample: impl FnMut(Sample) -> ControlFlow<()>,
) -> Result<Measured> {
    give_back(); // what the export has let go of
    let own = if prompts.is_empty() { own_prompts(package)? } else { Vec::new() };
    let prompts = if prompts.is_empty() { &own } else { prompts };
    let pipeline = Pipeline::open_with(package, options)?;
    let has_activations = pipeline.manifest().flavours.contains_key(&Flavour::Qdq);
    let mut predictor = Predictor::load(pipeline.package(), Loading::of(Stage::Step))?;
    let (side, rows) = size(pipeline.manifest());
    let (grid, codebook_size) = ([rows; 2], pipeline.manifest().model.codebook_size);
    let multiple = pipeline.manifest().model.grid_multiple as usize;
    let mut images = Vec::new();
    let requests = prompts.iter().enumerate().map(|(image, prompt)| {
        let (height, width) = (Some(side), Some(side));
        let (prompt, seed) = (prompt.clone(), image as u64);
        Request { prompt, seed, height, width, ..Request::default() }
    });
    for requests in requests.collect::<Vec<_>>().chunks(AT_ONCE) {
        for (request, prompt) in requests.iter().zip(pipeline.prompts(requests)?) {
            let sample = Sample { image: images.len(), images: prompts.len() };
            let mut model = prompt.with(&mut predictor)?;
            images.push(pipeline.choose(request, &mut model, || on_sample(sample))?);
        }
    }
    drop((predictor, pipeline));
    give_back();
    images.extend((0..RANDOM).map(|image| random(image, rows * rows, codebook_size)));
    let observed = Package::open(package, options)?.with_taps(|name| name.starts_with(RANGE));
    let mut decoder = Decoder::load(&observed, MAPPED)?;
    let mut measured = Measured::default();
    for (image, tokens) in images.iter().enumerate() {
        let ids: Vec<_> = tokens.iter().map(|token| i64::from(*token)).collect();
        let pixels = decoder.decode(&ids, grid)?;
        if image < prompts.len() {
            measured.cells.extend(Cell::of_image(tokens, grid[1], pixels.values()?));
        }
        widen(&mut measured.ranges, decoder.taps())?;
    }
    drop((decoder, observed));
    give_back();
    if has_activations {
        let samples = Samples { prompts, images: &images, grid, multiple };
        let last = Sample { image: prompts.len(), images: prompts.len() };
        measured.activations = activations(package, options, &samples, || on_sample(last))?;
    }
    Ok(measured)
}

/// The prompts that a package brings along, or else those for any.
fn own_prompts(package: &Path) -> Result<Vec<String>> {
    let file = package.join(CALIBRATION);
    if !file.exists() {
        return Ok(GENERAL.map(str::to_owned).to_vec());
    }
    let text = files::read_text(&file, MAX_PROMPT_BYTES, ErrorKind::BadInput)?;
    Ok(calibration_prompts(&text).map(str::to_owned).collect())
}

/// The side of the images in pixels and in tokens: the model's own, or a smaller one.
fn size(manifest: &Manifest) -> (u32, usize) {
    let model = &manifest.model;
    let unit = model.pixels_per_token * model.grid_multiple;
    let whole = model.sample_size * model.pixels_per_token;
    let side = if whole <= SIDE { whole } else { (SIDE / unit * unit).max(unit) };
    (side, (side / model.pixels_per_token) as usize)
}

/// Tokens of an image that shows nothing.
fn random(image: usize, count: usize, codebook_size: u32) -> Vec<u32> {
    let philox = Philox::new(image as u64);
    let uniform = |position| philox.uniform(Purpose::Token, image, 0, position);
    (0..count).map(|position| (uniform(position) * f64::from(codebook_size)) as u32).collect()
}
