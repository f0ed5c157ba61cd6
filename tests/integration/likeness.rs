//! How like two flavours or providers are, stage by stage: the same inputs for both.
#![allow(dead_code, reason = "tests of providers use a part")]

use std::ops::ControlFlow;

use pocketmuse::{
    Loading, Pipeline, Request,
    internals::{Decoder, Encoder, Network, Package, Predict, Predictor},
};
use pocketmuse_package::Tokenizer;

/// States of an image in the making, from all masked to one token in 24.
const STATES: usize = 24;

pub(crate) fn load<N: Network>(pipeline: &Pipeline) -> N {
    let package: &Package = pipeline.package();
    N::load(package, Loading::of(N::STAGE)).unwrap_or_else(|error| panic!("{error}"))
}

/// A stage as whoever computes it takes it for the images of `request`, of so many rows and columns
/// of tokens.
pub(crate) fn load_for<N: Network>(pipeline: &Pipeline, request: &Request, grid: [usize; 2]) -> N {
    let package: &Package = pipeline.package();
    let branches = if request.guidance_scale == Some(1.0) { 1 } else { 2 };
    let session = package.load_for(N::STAGE, grid, branches);
    let stage = session.and_then(|session| N::of(package, session));
    stage.unwrap_or_else(|error| panic!("{error}"))
}

/// The length of the difference over the length of `expected`.
pub(crate) fn relative(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.iter().zip(expected);
    let difference = length(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / length(&mut expected.iter().map(|value| f64::from(*value)))
}

fn most_likely(row: &[f32]) -> Option<usize> {
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(token, _)| token)
}

pub(crate) fn request(seed: u64) -> Request {
    let prompt = "a red lighthouse by the sea at sunset".to_owned();
    Request { prompt, seed, ..Request::default() }
}

/// The tokens of an image that f32 makes, row-major, and the grid.
pub(crate) fn tokens(pipeline: &Pipeline, request: &Request) -> (Vec<u32>, [usize; 2]) {
    let mut last = (Vec::new(), [0; 2]);
    let made = pipeline.generate(request, |step| {
        last = (step.tokens.iter().flatten().copied().collect(), [step.height, step.width]);
        ControlFlow::Continue(())
    });
    made.unwrap_or_else(|error| panic!("{error}"));
    last
}

/// Prompts of several lengths, as ids; the longest has no room for padding.
pub(crate) fn prompts(tokenizer: &Tokenizer) -> [Vec<u32>; 4] {
    let Tokenizer { bos, eos, pad, max_tokens, .. } = *tokenizer;
    [0, 1, 9, max_tokens - 2].map(|words| {
        let mut ids: Vec<u32> = (0..words).map(|word| 5 + word % 20).collect();
        ids.insert(0, bos);
        ids.push(eos);
        ids.resize(max_tokens as usize, pad);
        ids
    })
}

/// Tokens and grids of three images that a pipeline makes, one of them neither square nor of the
/// trained size.
pub(crate) fn images(pipeline: &Pipeline) -> [(Vec<i64>, [usize; 2]); 3] {
    [(1, [None; 2]), (2, [None; 2]), (3, [Some(64), Some(160)])].map(|(seed, [height, width])| {
        let (tokens, grid) = tokens(pipeline, &Request { height, width, ..request(seed) });
        (tokens.into_iter().map(i64::from).collect(), grid)
    })
}

/// How like the step graphs of two packages are.
#[derive(Debug)]
pub(crate) struct Steps {
    /// The most that logits of a state differ, relatively.
    pub(crate) worst: f64,
    /// The share of positions with the same most likely token.
    pub(crate) codes: f64,
}

/// Asks the step graphs of `expected` and `found` for all states of the image of `request`.
pub(crate) fn steps(expected: &Pipeline, found: &Pipeline, request: &Request) -> Steps {
    let (image, [rows, columns]) = tokens(expected, request);
    let prompt = expected.prompt(request).expect("a prompt"); // the same for both
    let load = |by| load_for(by, request, [rows, columns]);
    let [mut ours, mut theirs]: [Predictor; 2] = [expected, found].map(load);
    let mut expected = prompt.with(&mut ours).expect("a prompt");
    let mut found = prompt.with(&mut theirs).expect("a prompt");
    let (mut same, mut all, mut worst) = (0, 0, 0.0f64);
    for state in 0..STATES {
        // Each state masks some of the places that the one before masked.
        let is_masked = |place: usize| (place * 7919 + 13) % STATES >= state;
        let masked: Vec<usize> = (0..image.len()).filter(|&at| is_masked(at)).collect();
        let shown: Vec<Option<u32>> =
            (0..image.len()).map(|at| (!is_masked(at)).then(|| image[at])).collect();
        let expected = expected.predict(0, &shown, &masked).expect("logits").to_vec();
        let found = found.predict(0, &shown, &masked).expect("logits");
        worst = worst.max(relative(found, &expected));
        let row = expected.len() / masked.len();
        let rows = found.chunks(row).zip(expected.chunks(row));
        same += rows.filter(|(a, b)| most_likely(a) == most_likely(b)).count();
        all += masked.len();
    }
    let codes = same as f64 / all as f64;
    println!(
        "{rows} x {columns}, {STATES} states: logits differ by {:.3} % at most, {:.2} % of {all} \
         codes are the same",
        100.0 * worst,
        100.0 * codes
    );
    Steps { worst, codes }
}

/// What a decoder makes of tokens, clipped, and its height and width.
pub(crate) fn decoded(
    decoder: &mut Decoder,
    tokens: &[i64],
    grid: [usize; 2],
) -> (Vec<f32>, [usize; 2]) {
    let pixels = decoder.decode(tokens, grid).expect("pixels");
    let values = pixels.values().expect("floats").iter();
    (values.map(|value| value.clamp(0.0, 1.0)).collect(), pixels.size())
}

/// How like the decoders of two packages are, in dB: what they make of the tokens of an image.
pub(crate) fn decoders(expected: &Pipeline, found: &Pipeline, request: &Request) -> f64 {
    let (tokens, grid) = tokens(expected, request);
    let tokens: Vec<_> = tokens.into_iter().map(i64::from).collect();
    let [(expected, size), (found, _)] =
        [expected, found].map(|by| decoded(&mut load_for(by, request, grid), &tokens, grid));
    let psnr = psnr(&found, &expected);
    println!("{size:?}: decoded {psnr:.1} dB");
    psnr
}

/// The share of tokens that the encoders of two packages make the same of an image.
pub(crate) fn encoders(expected: &Pipeline, found: &Pipeline, request: &Request) -> f64 {
    let (tokens, grid) = tokens(expected, request);
    let tokens: Vec<_> = tokens.into_iter().map(i64::from).collect();
    let (pixels, size) = decoded(&mut load_for(expected, request, grid), &tokens, grid);
    let [expected, found] = [expected, found].map(|by| {
        let mut encoder: Encoder = load_for(by, request, grid);
        encoder.tokens(&pixels, size).unwrap_or_else(|error| panic!("{error}"))
    });
    let same = expected.iter().zip(&found).filter(|(a, b)| a == b).count();
    let share = same as f64 / expected.len() as f64;
    println!("{size:?}: {:.2} % of {} tokens encoded", 100.0 * share, expected.len());
    share
}

/// How like images are, in dB.
pub(crate) fn psnr(found: &[f32], expected: &[f32]) -> f64 {
    let squares = found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2));
    -10.0 * (squares.sum::<f64>() / found.len() as f64).log10()
}
