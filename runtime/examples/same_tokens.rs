//! Whether another processor draws the same tokens. One machine writes what the tokens were before
//! and after each step of some images; another is shown the tokens before each step, makes that
//! step, and says how many it drew alike.
//!
//! ```text
//! same_tokens write PACKAGE FLAVOUR FILE IMAGES
//! same_tokens compare PACKAGE FILE SHARE [THREADS]
//! ```
//!
//! What counts is the share of an image's tokens, masked or not, that are the same after a step that
//! was shown the same tokens. With a `SHARE` of 1 all must be, those that were drawn and masked again
//! too, and the pixels of the end may differ by one at most. With less, `compare` fails
//!
//! - if the mean over the images may be below `SHARE`: its margin, with 99 % confidence, counts
//!   against it. One image says little, since its tokens are drawn after the same text and mostly
//!   from the same others;
//! - or if, of one step of all images together, fewer than `SHARE` are the same: the first steps
//!   know least, and the last ones should not make up for them.

use std::{env, error::Error, fmt, ops::ControlFlow, path::Path};

use pocketmuse::{
    Options, Pipeline, Request, Rng,
    job::{self, State},
};
use serde::{Deserialize, Serialize};

const STEPS: u32 = 4;

/// Every 25th prompt of the judge's (tests/fixtures/prompts.json), with its seed.
const PROMPTS: [(&str, u64); 8] = [
    ("a big green tent in the snow at sunset", 77000),
    (
        "a big red car in the sand under a grey sky with a forest in the background and the \
         sun on the left",
        77025,
    ),
    (
        "a pink robot in a snowy field on the right on a sunny day with hills in the \
         background and the sun on the right",
        77050,
    ),
    ("a small purple tent in a meadow on the right in the daytime", 77075),
    (
        "a small purple hot air balloon over a meadow at night with mountains in the \
         background and the moon on the right",
        77100,
    ),
    (
        "a small green house in a green field on the left under a grey sky with pine trees \
         in the background and the sun on the right",
        77125,
    ),
    ("a big white tent in the sand at sunset with the sun on the right", 77150),
    (
        "a small brown mushroom in the desert on a cloudy day with pine trees in the \
         background",
        77175,
    ),
];

/// How many standard errors a mean of 2, 3, ... 8 images may be off, on one side, with 99 %
/// confidence: Student's t.
/// `python3 -c "from scipy.stats import t; print([round(t.ppf(.99, n), 3) for n in range(1, 8)])"`
const MARGINS: [f64; 7] = [31.821, 6.965, 4.541, 3.747, 3.365, 3.143, 2.998];

/// The most that a value of 0 to 255 of an image may be off where all tokens are the same.
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
        ["write", package, flavour, file, images] => {
            let pipeline = open(package, flavour.parse()?, None)?;
            let images = images.parse()?;
            let references = PROMPTS.iter().take(images).map(|prompt| write(&pipeline, prompt));
            Ok(job::save(&references.collect::<Result<Vec<_>>>()?, file.as_ref())?)
        }
        ["compare", package, file, share, ref threads @ ..] if threads.len() < 2 => {
            let threads = threads.first().map(|threads| threads.parse()).transpose()?;
            let references: Vec<Reference> = job::load(Path::new(file))?;
            let first = references.first().ok_or("expected an image, found none")?;
            let pipeline = open(package, first.end.flavour, threads)?;
            let share: f64 = share.parse()?;
            if share < 1.0 {
                alike(&pipeline, &references, share)
            } else {
                references.iter().try_for_each(|reference| equal(&pipeline, reference))
            }
        }
        _ => Err("expected write PACKAGE FLAVOUR FILE IMAGES or compare PACKAGE FILE SHARE \
                  [THREADS]"
            .into()),
    }
}

fn write(pipeline: &Pipeline, (prompt, seed): &(&str, u64)) -> Result<Reference> {
    let request = Request {
        prompt: (*prompt).to_owned(),
        seed: *seed,
        num_inference_steps: Some(STEPS),
        ..Request::default()
    };
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

/// A step that was shown the same tokens.
struct Compared {
    /// Of all tokens.
    kept: Share,
    /// Of those that it drew.
    drawn: Share,
}

fn steps(pipeline: &Pipeline, reference: &Reference) -> Result<Vec<Compared>> {
    let afters = reference.steps.iter().skip(1).map(|next| &next.before).chain([&reference.end]);
    let compare = |(Drawn { before, guess }, after): (&Drawn, &State)| {
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
        println!("step {}: all tokens {kept}, those drawn {drawn}", before.next_step + 1);
        Ok(Compared { kept, drawn })
    };
    reference.steps.iter().zip(afters).map(compare).collect()
}

/// Every token of an image is the same, and so are its pixels, nearly.
fn equal(pipeline: &Pipeline, reference: &Reference) -> Result<()> {
    for Compared { kept, drawn } in steps(pipeline, reference)? {
        if kept.value() < 1.0 || drawn.value() < 1.0 {
            return Err(format!("expected all tokens, found {kept}, {drawn} of those drawn").into());
        }
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

/// As many tokens are the same as `expected` says: see above what counts.
fn alike(pipeline: &Pipeline, references: &[Reference], expected: f64) -> Result<()> {
    let images = references.iter().map(|reference| steps(pipeline, reference));
    let images = images.collect::<Result<Vec<_>>>()?;
    let mut lacking = Vec::new();
    for step in 0..images[0].len() {
        let sum = |part: fn(&Compared) -> Share| Share::sum(images.iter().map(|i| part(&i[step])));
        let (kept, drawn) = (sum(|step| step.kept), sum(|step| step.drawn));
        println!("all images, step {}: all tokens {kept}, those drawn {drawn}", step + 1);
        if kept.value() < expected {
            lacking.push(format!("{kept} at step {}", step + 1));
        }
    }
    let shares = images.iter().map(|image| Share::sum(image.iter().map(|step| step.kept)));
    let shares: Vec<_> = shares.collect();
    let all = Share::sum(shares.iter().copied());
    let values: Vec<_> = shares.iter().map(Share::value).collect();
    let margin = margin(&values).ok_or("expected 2 to 8 images")?;
    println!("all images, all steps: {all}, less a margin of {:.2} %", 100.0 * margin);
    if all.value() - margin < expected {
        lacking.push(format!("{all} over all, less {:.2} %", 100.0 * margin));
    }
    if !lacking.is_empty() {
        return Err(format!("expected {expected}, found {}", lacking.join("; ")).into());
    }
    Ok(())
}

/// What a mean may be too high, with 99 % confidence.
fn margin(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let margin = MARGINS.get(values.len().checked_sub(2)?)?;
    Some(margin * (squares / (count - 1.0) / count).sqrt())
}

/// How many tokens are the same, of how many.
#[derive(Clone, Copy, Default)]
struct Share {
    same: usize,
    of: usize,
}

impl Share {
    fn sum(shares: impl Iterator<Item = Self>) -> Self {
        shares.fold(Self::default(), |sum, share| Self {
            same: sum.same + share.same,
            of: sum.of + share.of,
        })
    }

    /// 0 to 1.
    fn value(&self) -> f64 {
        self.same as f64 / self.of as f64
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
    Share::sum(
        pairs.map(|((expected, found), _)| Share { same: usize::from(expected == found), of: 1 }),
    )
}
