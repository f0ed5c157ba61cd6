//! The frames of a video: each begins with the tokens of the one before, shifted by whole tokens,
//! and what came into view is masked. Knows no network.

use pocketmuse_package::MaskingSchedule;

use super::{
    canvas::Canvas,
    rng::{Philox, Purpose, Rng},
    schedule::Schedule,
};
use crate::request::{
    job::{Job, Pass},
    video::Video,
};

/// Makes `canvas` the beginning of a frame, unless it was saved within it, and returns the
/// schedule. The first frame is an image as any other. The others are linear, as those of the
/// author of aMUSEd, with as many tokens masked at first as the canvas then has.
pub(super) fn begin(job: &Job, frame: u32, pass: &Pass, canvas: &mut Canvas) -> Schedule {
    let schedule = Schedule { first_step: pass.first_step, ..Schedule::of(job) };
    let Some(video) = job.video.as_ref().filter(|_| frame > 0) else { return schedule };
    canvas.rng = frame_rng(canvas.rng.clone(), job.request.seed, frame);
    if !pass.is_begun {
        let (grid, pixels_per_token, end) = (job.grid, job.pixels_per_token, canvas.end.as_deref());
        let frames = Frames { video, grid, pixels_per_token, end };
        canvas.tokens = frames.tokens(frame, &canvas.tokens, &mut canvas.rng);
        canvas.masked = canvas.tokens.iter().filter(|token| token.is_none()).count();
    }
    Schedule {
        masking: MaskingSchedule::Linear,
        starting_mask_ratio: canvas.masked as f32 / canvas.tokens.len().max(1) as f32,
        first_step: if canvas.masked == 0 { job.steps } else { pass.first_step },
        ..schedule
    }
}

/// What the frames of a video have in common.
struct Frames<'a> {
    video: &'a Video,
    grid: [usize; 2],
    pixels_per_token: u32,
    /// The tokens that the last frame has.
    end: Option<&'a [u32]>,
}

impl Frames<'_> {
    /// What a frame begins with: the tokens of the frame before, moved, some of them masked or
    /// those of the end. `rng` draws one number for each token.
    fn tokens(&self, frame: u32, before: &[Option<u32>], rng: &mut Rng) -> Vec<Option<u32>> {
        let offset = |frame| self.video.offset(frame, self.pixels_per_token);
        let between = |from: [i64; 2], to: [i64; 2]| [to[0] - from[0], to[1] - from[1]];
        let mut tokens = shifted(before, self.grid, between(offset(frame - 1), offset(frame)));
        let last = self.video.frames - 1;
        let end = self.end.map(|end| end.iter().copied().map(Some).collect::<Vec<_>>());
        let end = end.map(|end| shifted(&end, self.grid, between(offset(last), offset(frame))));
        // So that as many tokens are the end's after each frame as if all came evenly.
        let share = 1.0 / f64::from(last.saturating_sub(frame) + 1);
        for (position, token) in tokens.iter_mut().enumerate() {
            let uniform = match rng {
                Rng::Own(philox) => philox.uniform(Purpose::Noise, 0, 0, position),
                Rng::Torch(twister) => twister.uniform().into(),
            };
            let wanted =
                end.as_ref().and_then(|end| end[position]).filter(|_| uniform >= 1.0 - share);
            if wanted.is_some() {
                *token = wanted;
            } else if uniform < f64::from(self.video.remask) {
                *token = None;
            }
        }
        tokens
    }
}

/// The grid as it looks when the view has moved right and down by `by` tokens; `None` for what came
/// into view.
fn shifted(tokens: &[Option<u32>], [rows, columns]: [usize; 2], by: [i64; 2]) -> Vec<Option<u32>> {
    let source = |at: usize, by: i64, side: usize| {
        at.checked_add_signed(by as isize).filter(|at| *at < side)
    };
    let cell = |row: usize, column: usize| {
        tokens[source(row, by[1], rows)? * columns + source(column, by[0], columns)?]
    };
    (0..rows).flat_map(|row| (0..columns).map(move |column| cell(row, column))).collect()
}

/// The generator of a frame: torch's goes on, ours gets a seed for each.
fn frame_rng(rng: Rng, seed: u64, frame: u32) -> Rng {
    match rng {
        Rng::Own(_) => Rng::Own(Philox::new(seed).child(Purpose::Frame, frame as usize)),
        torch @ Rng::Torch(_) => torch,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{request::RngKind, sampler::rng::Rng};

    const MASK: Option<u32> = None;

    fn frames<'a>(video: &'a Video, grid: [usize; 2], end: Option<&'a [u32]>) -> Frames<'a> {
        Frames { video, grid, pixels_per_token: 16, end }
    }

    #[test]
    fn the_view_moves_and_the_image_the_other_way() {
        let tokens = [1, 2, 3, 4, 5, 6].map(Some);
        for (by, expected) in [
            ([0, 0], tokens),
            ([1, 0], [Some(2), Some(3), MASK, Some(5), Some(6), MASK]),
            ([-1, 0], [MASK, Some(1), Some(2), MASK, Some(4), Some(5)]),
            ([0, 1], [Some(4), Some(5), Some(6), MASK, MASK, MASK]),
            ([-2, -1], [MASK, MASK, MASK, MASK, MASK, Some(1)]),
            ([3, 0], [MASK; 6]),
        ] {
            assert_eq!(shifted(&tokens, [2, 3], by), expected, "{by:?}");
        }
    }

    /// Where the author's frame after the first takes its columns from, for motions of -40 to 40
    /// pixels, tokens of 16: `print([{round(j + m / 16 - 1 / 32) - j for j in range(32)} for m in
    /// range(-40, 41)])` in Python, which rounds half to even.
    const AUTHOR: [i64; 81] = [
        -3, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -1, -1, -1, -1, -1, -1,
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2,
    ];

    #[test]
    fn one_frame_moves_as_the_authors() {
        let before: Vec<_> = (0..32 * 32).map(Some).collect();
        for (motion, shift) in (-40i8..=40).zip(AUTHOR) {
            for axis in [0, 1] {
                let mut video = Video { remask: 0.0, ..Video::default() };
                video.motion[axis] = motion.into();
                let next = frames(&video, [32, 32], None).tokens(
                    1,
                    &before,
                    &mut Rng::new(RngKind::Own, 5),
                );
                for (at, token) in (0..).zip(&next) {
                    let mut source = [at % 32, at / 32];
                    source[axis] += shift;
                    let inside = source.iter().all(|at| (0..32).contains(at));
                    assert_eq!(
                        *token,
                        inside.then(|| (source[1] * 32 + source[0]) as u32),
                        "{motion} px, axis {axis}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_last_frame_is_the_end() {
        let video = Video { frames: 5, motion: [16.0, 0.0], remask: 0.5, end: None };
        let (before, end) = ([Some(1); 12], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        for kind in [RngKind::Own, RngKind::Torch] {
            let rng = &mut Rng::new(kind, 3);
            let last = frames(&video, [3, 4], Some(&end)).tokens(4, &before, rng);
            assert_eq!(last, end.map(Some));
            let earlier = frames(&video, [3, 4], Some(&end)).tokens(3, &before, rng);
            for (at, token) in
                earlier.iter().enumerate().filter(|(_, token)| token.is_some_and(|token| token > 1))
            {
                assert!(
                    at % 4 > 0 && *token == Some(end[at - 1]),
                    "one token further right than at the end: {earlier:?}"
                );
            }
        }
    }

    #[test]
    fn frames_draw_other_numbers_and_the_same_again() {
        let seeds: std::collections::HashSet<_> = (0..50)
            .map(|frame| match frame_rng(Rng::new(RngKind::Own, 7), 7, frame) {
                Rng::Own(philox) => philox.uniform(Purpose::Token, 0, 0, 0).to_bits(),
                Rng::Torch(_) => panic!("expected the own generator"),
            })
            .collect();
        assert_eq!(seeds.len(), 50);
        let torch = Rng::new(RngKind::Torch, 7);
        assert_eq!(frame_rng(torch.clone(), 7, 3), torch);
    }

    proptest! {
        #[test]
        fn a_token_that_stays_in_view_is_the_same(
            rows in 1usize..12,
            columns in 1usize..12,
            x in -14i64..14,
            y in -14i64..14,
        ) {
            let tokens: Vec<_> = (0..rows * columns).map(|token| Some(token as u32)).collect();
            let moved = shifted(&tokens, [rows, columns], [x, y]);
            for (at, token) in moved.iter().enumerate() {
                let (row, column) = ((at / columns) as i64 + y, (at % columns) as i64 + x);
                let inside =
                    (0..rows as i64).contains(&row) && (0..columns as i64).contains(&column);
                prop_assert_eq!(*token, inside.then(|| (row * columns as i64 + column) as u32));
            }
            let back = shifted(&moved, [rows, columns], [-x, -y]);
            prop_assert!(
                back.iter().zip(&tokens).all(|(back, token)| back.is_none() || back == token)
            );
        }

        #[test]
        fn what_is_not_masked_is_of_the_frame_before(
            seed: u64,
            x in -40f32..40.0,
            y in -40f32..40.0,
            remask in 0f32..1.0,
        ) {
            let video = Video { motion: [x, y], remask, ..Video::default() };
            let before: Vec<_> = (0..30).map(Some).collect();
            let next =
                frames(&video, [5, 6], None).tokens(1, &before, &mut Rng::new(RngKind::Own, seed));
            let moved = shifted(&before, [5, 6], video.offset(1, 16));
            prop_assert!(
                next.iter().zip(&moved).all(|(next, moved)| next.is_none() || next == moved)
            );
            if remask == 0.0 {
                prop_assert_eq!(next, moved);
            }
        }
    }
}
