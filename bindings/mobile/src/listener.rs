//! Who is told of a job, and what is told. Knows no language.

use std::{sync::Arc, time::Duration};

use crate::{error::PocketMuseError, image::GeneratedImage, pixels::Pixels, request::Request};

// Not `Progress`, which is a name of Apple's Foundation.
/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, uniffi::Record)]
pub struct JobProgress {
    /// What is done now.
    pub phase: Phase,
    /// The share of the work that is done, 0 to 1. It never falls; the last, of a job that comes to
    /// its end, is 1.
    pub share: f32,
    /// The time that is left, in milliseconds; `null` until something is known of this machine's
    /// speed.
    pub time_left_ms: Option<u64>,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Phase {
    /// It waits for the jobs before it.
    Waiting,
    /// It checks files of the package that were not checked before.
    Checking {
        /// Bytes that were read.
        bytes: u64,
        /// Bytes to be read for this job.
        of: u64,
    },
    /// It loads a network.
    Loading,
    /// It reads the prompt or the image.
    Running,
    /// It makes a step; of a video, a step of a frame.
    Step {
        /// Which, from 0.
        step: u32,
        /// How many there are.
        of: u32,
    },
    /// It decodes an image.
    Decoding {
        /// Which, from 0.
        image: u32,
        /// How many there are.
        of: u32,
    },
    /// It begins a frame of a video.
    Frame {
        /// Which, from 0.
        frame: u32,
        /// How many there are.
        of: u32,
    },
    /// It does something else.
    Other,
}

impl From<pocketmuse::Phase> for Phase {
    fn from(phase: pocketmuse::Phase) -> Self {
        use pocketmuse::Phase as Of;

        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        match phase {
            Of::Waiting => Self::Waiting,
            Of::Checking { bytes, of } => Self::Checking { bytes, of },
            Of::Loading { .. } => Self::Loading,
            Of::Running { .. } => Self::Running,
            Of::Step { step, of } => Self::Step { step: number(step), of: number(of) },
            Of::Decoding { image, of } => Self::Decoding { image: number(image), of: number(of) },
            Of::Frame { frame, of } => Self::Frame { frame, of },
            _ => Self::Other,
        }
    }
}

impl From<&pocketmuse::Progress> for JobProgress {
    fn from(progress: &pocketmuse::Progress) -> Self {
        let pocketmuse::Progress { phase, share, time_left } = *progress;
        let milliseconds = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Self { phase: phase.into(), share, time_left_ms: time_left.map(milliseconds) }
    }
}

/// Which previews a listener is given, after every step, of the first image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Previews {
    /// None.
    No,
    /// 4 x 4 pixels for each token: 128 x 128 for an image of 512 x 512.
    Small,
    /// As large as the image.
    Whole,
}

/// Who is told of a job. All calls come on the job's own thread, one after the other; the next step
/// waits until a call returns. A call may use the generator, but not wait for another job of it.
///
/// What a call throws ends the job with that error.
#[uniffi::export(foreign)]
pub trait Listener: Send + Sync {
    /// Told how far the job is, often.
    fn progress(&self, progress: JobProgress) -> Result<(), PocketMuseError>;

    /// Given what the first image would be if it were finished now, if previews are wanted and the
    /// package has them.
    fn preview(&self, image: Pixels) -> Result<(), PocketMuseError>;

    /// Given every frame of a video, from 0. It is kept nowhere else.
    fn frame(&self, frame: u32, image: Arc<GeneratedImage>) -> Result<(), PocketMuseError>;

    /// Told once, as the last call, how the job ended. The generator is free for the next job then.
    fn ended(&self, outcome: Outcome) -> Result<(), PocketMuseError>;
}

/// How a job ended.
#[derive(Clone, Debug, uniffi::Enum)]
pub enum Outcome {
    /// It did what was asked for.
    Finished {
        /// The images; none of a video, whose frames were handed over.
        images: Vec<Arc<GeneratedImage>>,
        /// The request with every default filled in: it makes the same images again.
        request: Request,
        /// What of a prompt did not fit the model and had no effect: for people, a line for each
        /// prompt.
        truncated: Vec<String>,
    },
    /// It did not.
    Failed {
        /// Why.
        error: PocketMuseError,
    },
}
