//! How an image becomes a video, for both languages.

use crate::{error::PocketMuseError, pixels::Pixels};

/// How far a view moves from frame to frame, in pixels; the image moves the other way.
#[derive(Clone, Copy, Debug, PartialEq, uniffi::Record)]
pub struct Motion {
    /// To the right; to the left if negative.
    pub right: f32,
    /// Down; up if negative.
    pub down: f32,
}

/// How an image becomes a video.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Video {
    /// How many frames, 1 to 10,000. 16 by default.
    #[uniffi(default = 16)]
    pub frames: u32,
    /// How far the view moves from frame to frame. It stands still by default. A frame is shifted
    /// by whole tokens; the rest counts for the frames after it.
    #[uniffi(default = None)]
    pub motion: Option<Motion>,
    /// The part of the tokens that is drawn anew in every frame, 0 to 1, besides what came into
    /// view. 0.13 by default.
    #[uniffi(default = 0.13)]
    pub remask: f32,
    /// An image that the video becomes, of any size: the last frame is made of its tokens. None by
    /// default.
    #[uniffi(default = None)]
    pub end: Option<Pixels>,
}

impl TryFrom<Video> for pocketmuse::Video {
    type Error = PocketMuseError;

    fn try_from(video: Video) -> Result<Self, PocketMuseError> {
        let Video { frames, motion, remask, end } = video;
        let end = end.map(|end| Ok::<_, PocketMuseError>(end.rgba()?.colours())).transpose()?;
        let motion = motion.map_or([0.0; 2], |motion| [motion.right, motion.down]);
        Ok(Self { frames, motion, remask, end })
    }
}
