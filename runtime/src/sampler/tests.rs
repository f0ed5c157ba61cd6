//! The sampler against a ten-line model and against runs of the reference.

use std::{fs, path::Path};

use pocketmuse_package::MaskingSchedule;

use super::*;
use crate::request::RngKind;

const COLUMNS: usize = 32;

/// Likes a token that depends on the position, the more the more tokens are known.
#[derive(Default)]
struct FakeModel {
    calls: usize,
    logits: Vec<f32>,
}

impl Predict for FakeModel {
    type Error = BadLogits;

    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], BadLogits> {
        self.calls += 1;
        assert!(
            !positions.is_empty() && positions.iter().all(|position| tokens[*position].is_none())
        );
        let known = tokens.iter().flatten().count() as f32;
        let row = |position: usize| {
            (0..COLUMNS)
                .map(move |code| known * (position * 7 + code * 5 + image) as f32 % 11.0 / 3.0)
        };
        self.logits = positions.iter().flat_map(|position| row(*position)).collect();
        Ok(&self.logits)
    }
}

/// Answers with the same numbers always.
struct Replay(Vec<f32>);

impl Predict for Replay {
    type Error = BadLogits;

    fn predict(&mut self, _: usize, _: &[Option<u32>], _: &[usize]) -> Result<&[f32], BadLogits> {
        Ok(&self.0)
    }
}

fn schedule(steps: usize) -> Schedule {
    Schedule {
        steps,
        temperature: [2.0, 0.0],
        masking: MaskingSchedule::Cosine,
        starting_mask_ratio: 1.0,
        first_step: 0,
        codebook_size: COLUMNS,
        halton: None,
    }
}

/// The canvas of one image.
fn masked(tokens: usize) -> Canvas {
    Canvas::new(vec![None; tokens], 1, Rng::new(RngKind::Own, 1))
}

/// The tokens after every step.
fn run(
    tokens: &mut [Option<u32>],
    images: usize,
    schedule: &Schedule,
    rng: &mut Rng,
) -> Vec<Vec<Option<u32>>> {
    let mut steps = Vec::new();
    let mut numbers = Vec::new();
    let mut canvas = Canvas::new(tokens.to_vec(), images, rng.clone());
    let flow = sample(&mut FakeModel::default(), &mut canvas, schedule, |_, progress| {
        numbers.push(progress.step);
        steps.push(progress.tokens.to_vec());
        let kept = progress.tokens.iter().zip(progress.guess);
        assert!(kept.into_iter().all(|(token, guess)| token.is_none() || token == guess));
        ControlFlow::Continue(())
    });
    assert!(flow.expect("good logits").is_continue());
    tokens.copy_from_slice(&canvas.tokens);
    *rng = canvas.rng;
    assert!(numbers.into_iter().eq(schedule.first_step..schedule.steps));
    steps
}

#[test]
fn masks_as_many_as_planned_and_keeps_what_is_known() {
    for kind in [RngKind::Own, RngKind::Torch] {
        for (steps, cells, images) in [(12, 256, 1), (5, 16, 3), (1, 9, 2), (20, 10, 1), (3, 1, 1)]
        {
            let schedule = schedule(steps);
            let mut tokens = vec![None; cells * images];
            let after = run(&mut tokens, images, &schedule, &mut Rng::new(kind, 3));
            assert!(
                tokens.iter().flatten().count() == tokens.len()
                    && tokens.iter().flatten().all(|code| *code < 32)
            );
            for image in 0..images {
                let mut before = &vec![None; cells][..];
                for (step, after) in after.iter().enumerate() {
                    let after = &after[image * cells..][..cells];
                    let masked = |tokens: &[Option<u32>]| {
                        tokens.iter().filter(|token| token.is_none()).count()
                    };
                    let expected = schedule.mask_len(step, cells, masked(before)).min(cells - 1);
                    assert_eq!(
                        masked(after),
                        expected,
                        "{kind} step {step} of {steps}, {cells} tokens"
                    );
                    assert!(
                        before
                            .iter()
                            .zip(after)
                            .all(|(before, after)| before.is_none() || before == after)
                    );
                    before = after;
                }
            }
        }
    }
}

#[test]
fn in_the_halton_order_what_is_chosen_stays_and_the_model_is_asked_for_no_more() {
    let schedule = Schedule { halton: Some([8, 12]), ..schedule(7) };
    let mut rng = Rng::new(RngKind::Own, 3);
    let mut known = vec![None; 2 * 96];
    known[..40].fill(Some(1));
    for first in [vec![None; 2 * 96], known] {
        let mut tokens = first.clone();
        let after = run(&mut tokens, 2, &schedule, &mut rng);
        let mut before = first;
        for (step, after) in after.iter().enumerate() {
            for image in [0..96, 96..192] {
                let masked = |tokens: &[Option<u32>]| {
                    tokens[image.clone()].iter().filter(|token| token.is_none()).count()
                };
                assert_eq!(
                    masked(after),
                    schedule.mask_len(step, 96, masked(&before)),
                    "step {step}"
                );
            }
            assert!(
                before.iter().zip(after).all(|(before, after)| before.is_none() || before == after)
            );
            before.clone_from(after);
        }
        assert!(tokens.iter().all(Option::is_some));
        assert_ne!(tokens[..96], tokens[96..], "images begin at different places");
    }
}

/// Keeps the steps it was told and how much it was asked.
#[derive(Default)]
struct Asked {
    steps: Vec<usize>,
    positions: Vec<usize>,
}

impl Predict for Asked {
    type Error = BadLogits;

    fn begin(&mut self, step: usize) {
        self.steps.push(step);
    }

    fn predict(
        &mut self,
        _: usize,
        _: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], BadLogits> {
        self.positions.push(positions.len());
        const ROWS: [f32; 100] = [0.0; 100];
        Ok(&ROWS[..positions.len()])
    }
}

#[test]
fn the_model_is_told_the_step_and_in_the_halton_order_asked_once_for_each_token() {
    let mut model = Asked::default();
    let schedule =
        Schedule { halton: Some([10, 10]), codebook_size: 1, first_step: 1, ..schedule(5) };
    let flow = sample(&mut model, &mut masked(100), &schedule, |_, _| ControlFlow::Continue(()));
    assert!(flow.expect("good logits").is_continue());
    assert_eq!((model.steps, model.positions.iter().sum::<usize>()), (vec![1, 2, 3, 4], 100));
}

#[test]
fn same_seed_same_tokens() {
    for kind in [RngKind::Own, RngKind::Torch] {
        let tokens = |seed| {
            let mut tokens = vec![None; 128];
            run(&mut tokens, 2, &schedule(6), &mut Rng::new(kind, seed));
            tokens
        };
        assert_eq!(tokens(5), tokens(5));
        assert_ne!(tokens(5), tokens(6));
        assert_ne!(tokens(5)[..64], tokens(5)[64..], "images differ");
    }
}

#[test]
fn our_own_numbers_are_pinned() {
    let mut tokens = vec![None; 8];
    run(&mut tokens, 1, &schedule(4), &mut Rng::new(RngKind::Own, 42));
    // What this program printed: a change here changes every image.
    assert_eq!(tokens.into_iter().flatten().collect::<Vec<_>>(), PINNED);
}

#[test]
fn goes_on_where_it_stopped() {
    for kind in [RngKind::Own, RngKind::Torch] {
        let mut whole = vec![None; 64];
        run(&mut whole, 1, &schedule(9), &mut Rng::new(kind, 1));
        let mut model = FakeModel::default();
        let mut canvas = Canvas::new(vec![None; 64], 1, Rng::new(kind, 1));
        let flow = sample(&mut model, &mut canvas, &schedule(9), |_, progress| {
            if progress.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let (mut tokens, rng) = (canvas.tokens, canvas.rng);
        assert!(flow.expect("good logits").is_break());
        assert_eq!(model.calls, 4);
        let stored = serde_json::to_string(&rng).expect("plain data");
        let mut rng = serde_json::from_str(&stored).expect("what was stored");
        run(&mut tokens, 1, &Schedule { first_step: 4, ..schedule(9) }, &mut rng);
        assert_eq!(tokens, whole);
    }
}

#[test]
fn nothing_masked_asks_for_nothing_until_one_is_masked_again() {
    let mut model = FakeModel::default();
    let mut canvas = Canvas { tokens: vec![Some(1); 16], ..masked(16) };
    let flow = sample(&mut model, &mut canvas, &schedule(4), |_, _| ControlFlow::Continue(()));
    assert!(flow.expect("good logits").is_continue());
    assert_eq!(model.calls, 3); // the reference masks one again, too
    let mut empty = Canvas::new(Vec::new(), 0, Rng::new(RngKind::Own, 1));
    let flow = sample(&mut model, &mut empty, &schedule(4), |_, _| ControlFlow::Continue(()));
    assert!(flow.is_ok());
}

#[test]
fn bad_logits_are_an_error() {
    let mut nan = vec![0.0; 4 * COLUMNS];
    nan[2 * COLUMNS + 5] = f32::NAN;
    for (logits, expected) in [
        (nan, "logits of image 0 at step 0: expected finite numbers, found others at position 2"),
        (vec![0.0; 7], "logits of image 0 at step 0: expected 4 rows of 32, found 7 numbers"),
        (vec![], "logits of image 0 at step 0: expected 4 rows of 32, found 0 numbers"),
    ] {
        for kind in [RngKind::Own, RngKind::Torch] {
            let mut model = Replay(logits.clone());
            let mut canvas = Canvas::new(vec![None; 4], 1, Rng::new(kind, 1));
            let go_on = |_: &mut _, _: &Progress<'_>| ControlFlow::Continue(());
            let result = sample(&mut model, &mut canvas, &schedule(3), go_on);
            assert_eq!(Error::from(result.expect_err(expected)).to_string(), expected);
        }
    }
}

/// A run of the reference pipeline with logits at its first and its last step.
struct Transcript {
    header: serde_json::Value,
    data: Vec<u8>,
    arguments: serde_json::Value,
}

impl Transcript {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-world");
        let file = fs::read(folder.join(format!("{name}.safetensors"))).expect("the fixture");
        let (size, rest) = file.split_at(8);
        let size = u64::from_le_bytes(size.try_into().expect("eight bytes")) as usize;
        let arguments = fs::read(folder.join(format!("{name}.json"))).expect("the fixture");
        Self {
            header: serde_json::from_slice(&rest[..size]).expect("a header"),
            data: rest[size..].to_vec(),
            arguments: serde_json::from_slice(&arguments).expect("arguments"),
        }
    }

    fn bytes(&self, tensor: &str) -> &[u8] {
        let offsets = &self.header[tensor]["data_offsets"];
        let offset = |index: usize| offsets[index].as_u64().expect("an offset") as usize;
        &self.data[offset(0)..offset(1)]
    }

    /// Tokens, `None` where they are the mask.
    fn tokens(&self, tensor: &str) -> Vec<Option<u32>> {
        let ids =
            self.bytes(tensor).as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as u32);
        ids.map(|id| (id < Self::CODES as u32).then_some(id)).collect()
    }

    /// Logits of the positions that are masked, `[positions, codes]`.
    fn logits(&self, tensor: &str, tokens: &[Option<u32>]) -> Vec<f32> {
        let all: Vec<_> = self
            .bytes(tensor)
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let masked = (0..Self::CELLS).filter(|cell| tokens[*cell].is_none());
        masked
            .flat_map(|cell| (0..Self::CODES).map(move |code| (cell, code)))
            .map(|(cell, code)| all[code * Self::CELLS + cell])
            .collect()
    }

    const CODES: usize = 2048;
    const CELLS: usize = 256;
}

#[test]
fn torch_mode_repeats_the_references_runs() {
    for name in ["generate-0", "generate-4", "inpaint-0"] {
        let transcript = Transcript::read(name);
        let (first, steps) = (transcript.tokens("first_input"), transcript.tokens("steps"));
        let count = steps.len() / Transcript::CELLS;
        let masked = first.iter().filter(|token| token.is_none()).count();
        let edits = masked < Transcript::CELLS;
        let temperature = &transcript.arguments["temperature"];
        let schedule = Schedule {
            steps: count,
            temperature: [0, 1].map(|index| temperature[index].as_f64().expect("a number") as f32),
            masking: if edits { MaskingSchedule::Linear } else { MaskingSchedule::Cosine },
            starting_mask_ratio: masked as f32 / Transcript::CELLS as f32,
            first_step: 0,
            codebook_size: Transcript::CODES,
            halton: None,
        };
        let seed = transcript.arguments["seed"].as_u64().expect("a number");
        let after = |step: usize| &steps[step * Transcript::CELLS..][..Transcript::CELLS];

        let mut canvas = Canvas::new(first, 1, Rng::new(RngKind::Torch, seed));
        let mut model = Replay(transcript.logits("logits.first", &canvas.tokens));
        let flow = sample(&mut model, &mut canvas, &schedule, |_, _| ControlFlow::Break(()));
        assert!(flow.expect("good logits").is_break());
        assert_eq!(canvas.tokens, after(0), "{name}, first step");

        let Rng::Torch(twister) = &mut canvas.rng else { unreachable!("the kind asked for") };
        let words_of_a_step = 2 * Transcript::CELLS * Transcript::CODES + Transcript::CELLS;
        twister.skip((words_of_a_step * (count - 2)) as u64);
        canvas.tokens = after(count - 2).to_vec();
        let mut model = Replay(transcript.logits("logits.last", &canvas.tokens));
        let schedule = Schedule { first_step: count - 1, ..schedule };
        let flow = sample(&mut model, &mut canvas, &schedule, |_, _| ControlFlow::Continue(()));
        assert!(flow.expect("good logits").is_continue());
        assert_eq!(canvas.tokens, after(count - 1), "{name}, last step");
    }
}

const PINNED: [u32; 8] = [19, 22, 30, 14, 11, 28, 3, 30];
