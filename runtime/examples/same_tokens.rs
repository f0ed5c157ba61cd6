//! Whether another processor draws the same tokens. One machine writes what the tokens were before
//! and after each step of an image; another is shown the tokens before each step, makes that step,
//! and says how many it drew alike.
//!
//! ```text
//! same_tokens write PACKAGE FLAVOUR FILE
//! same_tokens compare PACKAGE FILE SHARE [THREADS]
//! ```
//!
//! Fails if fewer than `SHARE` (0 to 1) of an image's tokens, masked or not, are the same after steps
//! that were shown the same tokens; all steps count together. With a share of 1 all that were drawn
//! must be the same too, those that were masked again included, and the pixels of the end may differ
//! by one at most.

use std::{env, error::Error, fmt, ops::ControlFlow, path::Path};

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
    let afters = reference.steps.iter().skip(1).map(|next| &next.before).chain([&reference.end]);
    let (mut all, mut all_drawn) = (Share::default(), Share::default());
    for (at, (Drawn { before, guess }, after)) in reference.steps.iter().zip(afters).enumerate() {
        let mut found = None;
        let stopped = pipeline.resume(before, None, |step| {
            found = Some((step.tokens.to_vec(), step.guess.to_vec()));
            ControlFlow::Break(())
        });
        let Some((tokens, draws)) = found else {
            stopped?;
            return Err("expected a step, found none".into());
        };
        let is_new: Vec<_> = before.tokens.iter().map(Option::is_none).collect();
        let drawn = share(guess, &draws, &is_new);
        let kept = share(&after.tokens, &tokens, &vec![true; tokens.len()]);
        println!("step {}: all tokens {kept}, those drawn {drawn}", at + 1);
        (all, all_drawn) = (all.and(kept), all_drawn.and(drawn));
    }
    println!("all steps: all tokens {all}, those drawn {all_drawn}");
    let exact = expected < 1.0 || all_drawn.value() == 1.0;
    if all.value() < expected || !exact {
        return Err(format!("expected {expected} of the tokens, found {all}").into());
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

/// How many tokens are the same, of how many.
#[derive(Clone, Copy, Default)]
struct Share {
    same: usize,
    of: usize,
}

impl Share {
    fn and(self, other: Self) -> Self {
        Self { same: self.same + other.same, of: self.of + other.of }
    }

    /// 0 to 1.
    fn value(self) -> f32 {
        self.same as f32 / self.of as f32
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({:.1} %)", self.same, self.of, 100.0 * self.value())
    }
}

/// Compares the tokens that count.
fn share(expected: &[Option<u32>], found: &[Option<u32>], counts: &[bool]) -> Share {
    let pairs = expected.iter().zip(found).zip(counts).filter(|(_, counts)| **counts);
    pairs.fold(Share::default(), |sum, ((expected, found), _)| {
        sum.and(Share { same: usize::from(expected == found), of: 1 })
    })
}
