//! What `bench` counts and measures: operations as counted by hand, and every number there.

use std::ops::ControlFlow;

use pocketmuse::{Flavour, Options, Origin, Pipeline, Request, internals::Schedule};
use pocketmuse_measure::bench::bench;
use pocketmuse_package::ErrorKind;

use crate::support::{self, flavoured_package};

/// The configs of models/tiny-world, and what an image of 128 x 128 pixels with guidance makes of
/// them.
mod sizes {
    pub(super) const BRANCHES: u64 = 2;
    pub(super) const TEXT_TOKENS: u64 = 77;
    pub(super) const TEXT: u64 = 128;
    pub(super) const TEXT_INNER: u64 = 512;
    pub(super) const CHANNELS: u64 = 128;
    pub(super) const HIDDEN: u64 = 256;
    pub(super) const INNER: u64 = 704;
    pub(super) const LAYERS: u64 = 6;
    pub(super) const CODES: u64 = 2048;
    /// Tokens of an image, and of the grid that the layers work on.
    pub(super) const CELLS: u64 = 256;
    pub(super) const TOKENS: u64 = 64;
}

use sizes::*;

/// Multiply-adds of the text encoder for one prompt.
fn text_encoder() -> u64 {
    let mlp = 2 * TEXT * TEXT_INNER;
    let layer = TEXT_TOKENS * (4 * TEXT * TEXT + 2 * TEXT_TOKENS * TEXT + mlp);
    // Of the last layer, one row: keys and values are still those of all tokens.
    let last = 2 * TEXT * TEXT + 2 * TEXT_TOKENS * TEXT * TEXT + 2 * TEXT_TOKENS * TEXT + mlp;
    3 * layer + last + TEXT * TEXT
}

/// Multiply-adds of the prologue for one guidance branch.
fn prologue() -> u64 {
    let micro_conds = 5 * 64;
    let condition = (TEXT + micro_conds) * HIDDEN + HIDDEN * HIDDEN;
    let block = HIDDEN * 2 * CHANNELS + TEXT_TOKENS * (HIDDEN * CHANNELS + 4 * CHANNELS * CHANNELS);
    let layer = 3 * HIDDEN * 2 * HIDDEN + TEXT_TOKENS * 2 * HIDDEN * HIDDEN;
    TEXT_TOKENS * TEXT * HIDDEN + condition + 4 * block + LAYERS * layer
}

/// Multiply-adds of one step, with logits at some positions.
fn step(positions: u64) -> u64 {
    let residual = TOKENS * (9 * CHANNELS + 8 * CHANNELS * CHANNELS);
    let cross = |width: u64| TOKENS * (2 * width * width + 2 * TEXT_TOKENS * width);
    let block = residual + 2 * cross(CHANNELS);
    let itself = TOKENS * (4 * HIDDEN * HIDDEN + 2 * TOKENS * HIDDEN);
    let layer = itself + cross(HIDDEN) + TOKENS * 3 * HIDDEN * INNER;
    let resample = TOKENS * 4 * CHANNELS * CHANNELS;
    let projections = TOKENS * 2 * CHANNELS * HIDDEN;
    let branch =
        4 * block + projections + LAYERS * layer + resample + positions * CHANNELS * CHANNELS;
    // Before the first modulation the branches are one.
    BRANCHES * branch - residual + resample + positions * CHANNELS * CODES
}

/// Multiply-adds of the decoder.
fn decoder() -> u64 {
    let residual = |from: u64, to: u64| {
        let shortcut = if from == to { 0 } else { from * to };
        9 * from * to + 9 * to * to + shortcut
    };
    // An upsampler is four 2 x 2 convolutions of the small grid.
    let up = |width: u64| 16 * width * width;
    CELLS * (9 * 16 * 128 + 4 * residual(128, 128) + up(128))
        + 4 * CELLS * (residual(128, 96) + residual(96, 96) + up(96))
        + 16 * CELLS * (residual(96, 64) + residual(64, 64) + up(64))
        + 64 * CELLS * (residual(64, 32) + residual(32, 32) + 9 * 32 * 3)
}

fn request() -> Request {
    // Of two equal prompts one would be encoded.
    let prompt = "a tree".to_owned();
    Request {
        prompt,
        num_inference_steps: Some(3),
        guidance_scale: Some(5.0),
        ..Request::default()
    }
}

/// int8 cannot tip here: operations are counted from shapes, and times need only be there.
#[test]
fn operations_are_those_counted_by_hand_and_every_number_is_there() {
    support::runtime();
    for flavour in [Flavour::F32, Flavour::Int8] {
        let package = flavoured_package(flavour);
        let options = Options { threads: Some(1), ..Options::default() };
        let mut done = (0, 0);
        let found = bench(&package, &options, &request(), 2, |progress| {
            done = (progress.done, progress.of);
            ControlFlow::Continue(())
        });
        let found = found.expect("measured");
        let pipeline = Pipeline::open(&package).unwrap_or_else(|error| panic!("{error}"));
        let schedule = Schedule::of(&pipeline.job(&found.request, Origin::Nothing).expect("fits"));
        let mut masked = CELLS as usize;
        let mut steps = 0;
        for at in 0..3 {
            steps += step(masked as u64);
            masked = schedule.mask_len(at, CELLS as usize, masked);
        }
        let expected = [
            ("text_encoder", BRANCHES * text_encoder()),
            ("prologue", BRANCHES * prologue()),
            ("step", steps),
            ("decoder", decoder()),
        ];
        let operations: Vec<_> =
            found.stages.iter().map(|stage| (stage.name, stage.operations)).collect();
        assert_eq!(operations, expected.map(|(name, products)| (name, 2 * products)), "{flavour}");
        // Twice as many if the first two differ by much.
        assert!([2, 4].contains(&found.runs) && found.spread >= 1.0, "{found:?}");
        let all = (found.runs + 3) * 3;
        assert_eq!((found.flavour, done), (flavour, (all, all)));
        let shares = [found.peak.int8, found.peak.f32].map(|peak| found.share(peak));
        assert!(shares.iter().all(|share| share.is_normal()), "{shares:?} {:?}", found.peak);
        for stage in &found.stages {
            assert!(
                !stage.run.is_zero() && !stage.warm_load.is_zero() && stage.speed() > 0.0,
                "{stage:?}"
            );
            assert!(!stage.prepared_load.is_zero() && !stage.run_by_turns.is_zero(), "{stage:?}");
            assert_eq!(
                stage.peak_anonymous_bytes.is_some(),
                cfg!(target_os = "linux"),
                "{stage:?}"
            );
            assert_eq!(stage.cold_load.is_some(), cfg!(target_os = "linux"), "{stage:?}");
        }
        assert!(
            found.stages.iter().map(|stage| stage.run).sum::<std::time::Duration>() < found.total
        );
    }
}

#[test]
fn stops_when_asked_and_refuses_nothing_to_do() {
    support::runtime();
    let package = flavoured_package(Flavour::F32);
    let options = Options::default();
    for last in [1, 12] {
        let mut asked = 0;
        let error = bench(&package, &options, &request(), 1, |progress| {
            asked += 1;
            if progress.done == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(error.expect_err("stopped").kind(), ErrorKind::Cancelled);
        assert_eq!(asked, last);
    }
    for runs in [0, 1001] {
        let error = bench(&package, &options, &request(), runs, |_| ControlFlow::Continue(()));
        assert_eq!(
            error.expect_err("out of range").to_string(),
            format!("runs: expected 1 to 1000, found {runs}")
        );
    }
}
