//! A video: how many frames, how the view moves from one to the next, and what the image becomes.
//! Knows no network; see [`Pipeline::video`](crate::Pipeline::video).

use image::RgbImage;

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
        fn offsets_never_drift_from_the_motion(
            motion in -2000f32..2000.0,
            frame in 0u32..MAX_FRAMES,
            token in 1u32..64,
        ) {
            let video = Video { motion: [motion, -motion], ..Video::default() };
            let exact = f64::from(motion) * f64::from(frame) / f64::from(token);
            let half = 0.5 + 0.5 / f64::from(token); // of a token, and of a pixel
            for (offset, exact) in video.offset(frame, token).into_iter().zip([exact, -exact]) {
                prop_assert!((offset as f64 - exact).abs() <= half, "{}: {}", offset, exact);
            }
            let [x, _] = video.offset(frame, token);
            let most = (motion.abs() / token as f32).ceil() as i64;
            prop_assert!(
                (video.offset(frame + 1, token)[0] - x).abs() <= most,
                "never more than the motion, rounded up"
            );
        }
    }
}
