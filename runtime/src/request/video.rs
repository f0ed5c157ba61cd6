//! A video: how many frames, how the view moves from one to the next, and what the image becomes.
//! Knows no network; see [`Pipeline::video`](crate::Pipeline::video).

use image::RgbImage;
use pocketmuse_package::{Manifest, Result};

use super::{Job, Request, bad};

/// The most frames of a video.
pub const MAX_FRAMES: u32 = 10_000;

/// How an image becomes a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// How many frames, 1 to [`MAX_FRAMES`].
    pub frames: u32,
    /// How far the view moves from frame to frame, right and down, in pixels: the image moves the
    /// other way. Whole tokens are what a frame is shifted by; the rest counts for the frames after
    /// it.
    pub motion: [f32; 2],
    /// The part of the tokens that is drawn anew in every frame, 0 to 1, besides what came into
    /// view.
    pub remask: f32,
    /// An image that the video becomes: the last frame is made of its tokens. Of any size, as for
    /// an edit.
    pub end: Option<RgbImage>,
}

impl Default for Video {
    /// 16 frames that stand still, with as much drawn anew as one step of twelve masks.
    fn default() -> Self {
        Self { frames: 16, motion: [0.0; 2], remask: 0.13, end: None }
    }
}

impl Video {
    /// The request with every default filled in, checked together with the video.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`]; `BadRequest` too for a value of the video out of its range, a
    /// motion that moves everything out of view in one frame, and several images at once.
    pub fn resolve(&self, request: &Request, manifest: &Manifest) -> Result<Request> {
        Ok(self.job(request, manifest)?.request)
    }

    /// The job of a video, whose end is of any size yet.
    pub(crate) fn job(&self, request: &Request, manifest: &Manifest) -> Result<Job> {
        request.check_starts_from_nothing()?;
        let job = Job::new(request, manifest)?;
        self.check(&job)?;
        Ok(Job { video: Some(self.clone()), ..job })
    }

    fn check(&self, job: &Job) -> Result<()> {
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
            return Err(bad("variation", "expected none for a video, found one"));
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
            let most = (tokens as u32 - 1) * job.pixels_per_token;
            if motion.is_nan() || motion.abs() > most as f32 {
                let [x, y] = self.motion;
                let detail = format!(
                    "expected at most {most} of {} pixels a frame, found {x},{y}: nothing of the frame before would stay",
                    tokens as u32 * job.pixels_per_token
                );
                return Err(bad("motion", detail));
            }
        }
        Ok(())
    }

    /// How many whole tokens, columns and rows, the view of a frame is away from that of the first:
    /// as for the author of aMUSEd, who counts from the middle of a pixel.
    pub(crate) fn offset(&self, frame: u32, pixels_per_token: u32) -> [i64; 2] {
        let tokens = |motion: f32| {
            (f64::from(motion) * f64::from(frame) - 0.5) / f64::from(pixels_per_token)
        };
        self.motion.map(|motion| (tokens(motion) + 0.5).floor() as i64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn motion_below_a_token_adds_up() {
        let offsets = |motion: f32| {
            let video = Video { motion: [motion, 0.0], ..Video::default() };
            (0..9).map(|frame| video.offset(frame, 16)[0]).collect::<Vec<_>>()
        };
        assert_eq!(offsets(4.0), [0, 0, 0, 1, 1, 1, 1, 2, 2]);
        assert_eq!(offsets(-15.0), [0, -1, -2, -3, -4, -5, -6, -7, -8]);
        assert_eq!(offsets(24.0), [0, 1, 3, 4, 6, 7, 9, 10, 12]);
        assert_eq!(offsets(16.0), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(offsets(0.0), [0; 9]);
    }

    proptest! {
        #[test]
        fn offsets_never_drift_from_the_motion(motion in -2000f32..2000.0, frame in 0u32..MAX_FRAMES, token in 1u32..64) {
            let video = Video { motion: [motion, -motion], ..Video::default() };
            let exact = f64::from(motion) * f64::from(frame) / f64::from(token);
            let half = 0.5 + 0.5 / f64::from(token); // of a token, and of a pixel
            for (offset, exact) in video.offset(frame, token).into_iter().zip([exact, -exact]) {
                prop_assert!((offset as f64 - exact).abs() <= half, "{}: {}", offset, exact);
            }
            let [x, _] = video.offset(frame, token);
            let most = (motion.abs() / token as f32).ceil() as i64;
            prop_assert!((video.offset(frame + 1, token)[0] - x).abs() <= most, "never more than the motion, rounded up");
        }
    }
}
