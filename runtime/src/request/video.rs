//! A picture that moves: each frame begins with the tokens of the one before, shifted by whole
//! tokens, and what came into view is drawn. Knows no network; see
//! [`Pipeline::video`](crate::Pipeline::video).

use std::time::Duration;

use image::RgbImage;
use pocketmuse_package::{Error, ErrorKind, Manifest, MaskingSchedule, Result};

use crate::{
    pipeline::Step,
    request::{Request, Resolved},
    sampler::Schedule,
    sampler::rng::{Philox, Purpose, Rng},
};

/// The most frames of a video.
pub const MAX_FRAMES: u32 = 10_000;

/// How a picture becomes a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// How many frames, 1 to [`MAX_FRAMES`].
    pub frames: u32,
    /// How far the view moves from frame to frame, right and down, in pixels: the picture moves the
    /// other way. Whole tokens are what a frame is shifted by; the rest counts for the frames after
    /// it.
    pub motion: [f32; 2],
    /// The part of the tokens that is drawn anew in every frame, 0 to 1, besides what came into
    /// view.
    pub remask: f32,
    /// A picture that the video becomes: the last frame is made of its tokens. Of any size, as for
    /// an edit.
    pub end: Option<RgbImage>,
}

impl Default for Video {
    /// 16 frames that stand still, with as much drawn anew as one step of twelve masks.
    fn default() -> Self {
        Self { frames: 16, motion: [0.0; 2], remask: 0.13, end: None }
    }
}

/// What a callback is told while a video is made.
#[derive(Debug)]
pub enum Moment<'a> {
    /// A step of a frame was finished.
    Step {
        /// Which frame, from 0.
        frame: u32,
        /// The step.
        step: Step<'a>,
    },
    /// A frame was finished; it is kept nowhere else.
    Frame {
        /// Which frame, from 0.
        frame: u32,
        /// The picture.
        image: RgbImage,
    },
}

/// What came of a video, besides its frames.
#[derive(Clone, Debug)]
pub struct Made {
    /// The request with every default filled in.
    pub request: Request,
    /// What of a prompt did not fit the model and had no effect.
    pub truncated: Vec<String>,
    /// From the request to the last frame.
    pub total: Duration,
}

impl Video {
    /// The request as it is for the first frame, checked together with the video.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`]; `BadRequest` too for a value of the video out of its range, a
    /// motion that moves everything out of view in one frame, and several pictures at once.
    pub fn resolve(&self, request: &Request, manifest: &Manifest) -> Result<Resolved> {
        request.check_starts_from_nothing()?;
        let job = request.resolve(manifest)?;
        self.check(&job, manifest.model.pixels_per_token)?;
        Ok(job)
    }

    fn check(&self, job: &Resolved, pixels_per_token: u32) -> Result<()> {
        if !(1..=MAX_FRAMES).contains(&self.frames) {
            return Err(bad(
                "frames",
                format!("expected 1 to {MAX_FRAMES}, found {}", self.frames),
            ));
        }
        if !(0.0..=1.0).contains(&self.remask) {
            return Err(bad(
                "remask",
                format!("expected a number of 0 to 1, found {}", self.remask),
            ));
        }
        if job.redone_from.is_some() {
            return Err(bad("variation", "expected none for a video, found one".to_owned()));
        }
        if job.margin != [0; 2] {
            return Err(bad(
                "tileable",
                format!("expected no for a video, found {}", job.request.tileable),
            ));
        }
        if job.images() != 1 {
            return Err(bad(
                "num_images_per_prompt",
                format!("expected 1 for a video, found {}", job.images()),
            ));
        }
        let [rows, columns] = job.grid;
        for (motion, tokens) in self.motion.into_iter().zip([columns, rows]) {
            let most = (tokens as u32 - 1) * pixels_per_token;
            if motion.is_nan() || motion.abs() > most as f32 {
                let [x, y] = self.motion;
                let detail = format!(
                    "expected at most {most} of {} pixels a frame, found {x},{y}: nothing of the frame before would stay",
                    tokens as u32 * pixels_per_token
                );
                return Err(bad("motion", detail));
            }
        }
        Ok(())
    }

    /// How many whole tokens, columns and rows, the view of a frame is away from that of the first:
    /// as for the author of aMUSEd, who counts from the middle of a pixel.
    pub(crate) fn place(&self, frame: u32, pixels_per_token: u32) -> [i64; 2] {
        let tokens = |motion: f32| {
            (f64::from(motion) * f64::from(frame) - 0.5) / f64::from(pixels_per_token)
        };
        self.motion.map(|motion| (tokens(motion) + 0.5).floor() as i64)
    }

    /// What a frame begins with: the tokens of the frame before, moved, some of them masked or
    /// those of the end. `rng` draws one number for each token.
    pub(crate) fn begin(
        &self,
        frame: u32,
        before: &[Option<u32>],
        end: Option<&[u32]>,
        (grid, pixels_per_token): ([usize; 2], u32),
        rng: &mut Rng,
    ) -> Vec<Option<u32>> {
        let place = |frame| self.place(frame, pixels_per_token);
        let between = |from: [i64; 2], to: [i64; 2]| [to[0] - from[0], to[1] - from[1]];
        let mut tokens = shifted(before, grid, between(place(frame - 1), place(frame)));
        let last = self.frames - 1;
        let end = end.map(|end| end.iter().copied().map(Some).collect::<Vec<_>>());
        let end = end.map(|end| shifted(&end, grid, between(place(last), place(frame))));
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
            } else if uniform < f64::from(self.remask) {
                *token = None;
            }
        }
        tokens
    }
}

/// The grid as it looks when the view has moved right and down by `by` tokens; `None` for what came
/// into view.
pub(crate) fn shifted(
    tokens: &[Option<u32>],
    [rows, columns]: [usize; 2],
    by: [i64; 2],
) -> Vec<Option<u32>> {
    let source = |at: usize, by: i64, side: usize| {
        at.checked_add_signed(by as isize).filter(|at| *at < side)
    };
    let cell = |row: usize, column: usize| {
        tokens[source(row, by[1], rows)? * columns + source(column, by[0], columns)?]
    };
    (0..rows).flat_map(|row| (0..columns).map(move |column| cell(row, column))).collect()
}

/// The job of a frame after the first: linear, as the author of aMUSEd does, and with so many
/// tokens masked at first.
pub(crate) fn frame_job(job: &Resolved, tokens: &[Option<u32>]) -> Resolved {
    let masked = tokens.iter().filter(|token| token.is_none()).count();
    let schedule = Schedule {
        masking: MaskingSchedule::Linear,
        starting_mask_ratio: masked as f32 / tokens.len().max(1) as f32,
        first_step: if masked == 0 { job.schedule.steps } else { 0 },
        ..job.schedule.clone()
    };
    Resolved { schedule, ..job.clone() }
}

/// The generator of a frame: torch's goes on, ours gets a seed for each.
pub(crate) fn frame_rng(rng: Rng, seed: u64, frame: u32) -> Rng {
    match rng {
        Rng::Own(_) => Rng::Own(Philox::new(seed).child(Purpose::Frame, frame as usize)),
        torch @ Rng::Torch(_) => torch,
    }
}

fn bad(at: &str, detail: String) -> Error {
    Error::new(ErrorKind::BadRequest, at, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{request::RngKind, sampler::rng::Rng};

    const MASK: Option<u32> = None;

    #[test]
    fn the_view_moves_and_the_picture_the_other_way() {
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

    #[test]
    fn motion_below_a_token_adds_up() {
        let places = |motion: f32| {
            let video = Video { motion: [motion, 0.0], ..Video::default() };
            (0..9).map(|frame| video.place(frame, 16)[0]).collect::<Vec<_>>()
        };
        assert_eq!(places(4.0), [0, 0, 0, 1, 1, 1, 1, 2, 2]);
        assert_eq!(places(-15.0), [0, -1, -2, -3, -4, -5, -6, -7, -8]);
        assert_eq!(places(24.0), [0, 1, 3, 4, 6, 7, 9, 10, 12]);
        assert_eq!(places(16.0), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(places(0.0), [0; 9]);
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
                let next =
                    video.begin(1, &before, None, ([32, 32], 16), &mut Rng::new(RngKind::Own, 5));
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
            let last = video.begin(4, &before, Some(&end), ([3, 4], 16), rng);
            assert_eq!(last, end.map(Some));
            let earlier = video.begin(3, &before, Some(&end), ([3, 4], 16), rng);
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
                Rng::Own(philox) => philox.uniform(Purpose::Code, 0, 0, 0).to_bits(),
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
            rows in 1usize..12, columns in 1usize..12, x in -14i64..14, y in -14i64..14,
        ) {
            let tokens: Vec<_> = (0..rows * columns).map(|token| Some(token as u32)).collect();
            let moved = shifted(&tokens, [rows, columns], [x, y]);
            for (at, token) in moved.iter().enumerate() {
                let (row, column) = ((at / columns) as i64 + y, (at % columns) as i64 + x);
                let inside = (0..rows as i64).contains(&row) && (0..columns as i64).contains(&column);
                prop_assert_eq!(*token, inside.then(|| (row * columns as i64 + column) as u32));
            }
            let back = shifted(&moved, [rows, columns], [-x, -y]);
            prop_assert!(back.iter().zip(&tokens).all(|(back, token)| back.is_none() || back == token));
        }

        #[test]
        fn places_never_drift_from_the_motion(motion in -2000f32..2000.0, frame in 0u32..MAX_FRAMES, token in 1u32..64) {
            let video = Video { motion: [motion, -motion], ..Video::default() };
            let exact = f64::from(motion) * f64::from(frame) / f64::from(token);
            let half = 0.5 + 0.5 / f64::from(token); // of a token, and of a pixel
            for (place, exact) in video.place(frame, token).into_iter().zip([exact, -exact]) {
                prop_assert!((place as f64 - exact).abs() <= half, "{}: {}", place, exact);
            }
            let [x, _] = video.place(frame, token);
            let most = (motion.abs() / token as f32).ceil() as i64;
            prop_assert!((video.place(frame + 1, token)[0] - x).abs() <= most, "never more than the motion, rounded up");
        }

        #[test]
        fn what_is_not_masked_is_of_the_frame_before(seed: u64, x in -40f32..40.0, y in -40f32..40.0, remask in 0f32..1.0) {
            let video = Video { motion: [x, y], remask, ..Video::default() };
            let before: Vec<_> = (0..30).map(Some).collect();
            let next = video.begin(1, &before, None, ([5, 6], 16), &mut Rng::new(RngKind::Own, seed));
            let moved = shifted(&before, [5, 6], video.place(1, 16));
            prop_assert!(next.iter().zip(&moved).all(|(next, moved)| next.is_none() || next == moved));
            if remask == 0.0 {
                prop_assert_eq!(next, moved);
            }
        }
    }
}
