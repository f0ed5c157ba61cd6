//! Whether another processor draws the same tokens. One machine writes what the tokens were before
//! and after each step of an image; another is shown the tokens before each step, makes that step,
//! and says how many it drew alike.
//!
//! ```text
//! same_tokens write PACKAGE FLAVOUR FILE
//! same_tokens compare PACKAGE FILE SHARE [THREADS]
//! ```
//!
//! Fails if a step draws fewer than `SHARE` (0 to 1) of its tokens alike. With a share of 1 it is
//! shown nothing but its own tokens in effect, and the pixels may differ by one at most.

use std::{env, error::Error, ops::ControlFlow, path::Path};

use pocketmuse::{
    Options, Pipeline, Request, Rng,
    job::{self, State},
};
use serde::{Deserialize, Serialize};

const STEPS: u32 = 4;

/// The most that a value of 0 to 255 of the image may be off where all tokens are the same.
const PIXEL_TOLERANCE: u8 = 1;

/// An image in the making, as one machine made it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reference {
    steps: Vec<Drawn>,
    /// After the last step.
    end: State,
    /// RGB, row after row.
    pixels: Vec<u8>,
}

/// What a step is given and what it draws.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Drawn {
    before: State,
    /// All tokens: those it drew, and those drawn before.
    guess: Vec<Option<u32>>,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let open = |package: &str, flavour, threads| {
        let options = Options { flavour: Some(flavour), threads, ..Options::default() };
        Pipeline::open_with(package, &options)
    };
    match arguments[..] {
        ["write", package, flavour, file] => {
            let reference = write(&open(package, flavour.parse()?, None)?)?;
            Ok(job::save(&reference, file.as_ref())?)
        }
        ["compare", package, file, share, ref threads @ ..] if threads.len() < 2 => {
            let threads = threads.first().map(|threads| threads.parse()).transpose()?;
            let reference: Reference = job::load(Path::new(file))?;
            let pipeline = open(package, reference.end.flavour, threads)?;
            compare(&pipeline, &reference, share.parse()?)
        }
        _ => {
            Err("expected write PACKAGE FLAVOUR FILE or compare PACKAGE FILE SHARE [THREADS]"
                .into())
        }
    }
}

fn write(pipeline: &Pipeline) -> Result<Reference> {
    let prompt = "a red lighthouse by the sea at sunset".to_owned();
    let request =
        Request { prompt, seed: 7, num_inference_steps: Some(STEPS), ..Request::default() };
    let mut steps = Vec::new();
    let mut next = None;
    let output = pipeline.generate(&request, |step| {
        let before = next.take().unwrap_or_else(|| State {
            next_step: 0,
            tokens: vec![None; step.tokens.len()],
            rng: Rng::new(step.request.rng, step.request.seed),
            ..pipeline.state(step)
        });
        steps.push(Drawn { before, guess: step.guess.to_vec() });
        next = Some(pipeline.state(step));
        ControlFlow::Continue(())
    })?;
    let end = next.ok_or("expected steps, found none")?;
    Ok(Reference { steps, end, pixels: output.images[0].as_raw().clone() })
}

fn compare(pipeline: &Pipeline, reference: &Reference, expected: f32) -> Result<()> {
    let mut least = f32::INFINITY;
    for (at, Drawn { before, guess }) in reference.steps.iter().enumerate() {
        let mut found = Vec::new();
        let stopped = pipeline.resume(before, None, |step| {
            found = step.guess.to_vec();
            ControlFlow::Break(())
        });
        if found.is_empty() {
            stopped?; // it failed before it drew anything
        }
        let (same, all) = alike(before, guess, &found);
        println!("step {} of {}: {same} of {all} tokens", at + 1, reference.steps.len());
        least = least.min(same as f32 / all as f32);
    }
    if least < expected {
        return Err(format!("expected {expected} of a step's tokens, found {least}").into());
    }
    if expected < 1.0 {
        return Ok(());
    }
    let output = pipeline.resume(&reference.end, None, |_| ControlFlow::Continue(()))?;
    let pixels = output.images[0].as_raw().iter().zip(&reference.pixels);
    let off = pixels.map(|(found, pixel)| found.abs_diff(*pixel)).max().unwrap_or(u8::MAX);
    println!("pixels: {off} of 255 at most");
    if off > PIXEL_TOLERANCE {
        return Err(format!("expected {PIXEL_TOLERANCE} of 255 at most, found {off}").into());
    }
    Ok(())
}

/// How many of the tokens that were drawn are the same, and how many were drawn.
fn alike(before: &State, guess: &[Option<u32>], found: &[Option<u32>]) -> (usize, usize) {
    let drawn =
        || before.tokens.iter().zip(guess.iter().zip(found)).filter(|(old, _)| old.is_none());
    (drawn().filter(|(_, (guess, found))| guess == found).count(), drawn().count())
}
