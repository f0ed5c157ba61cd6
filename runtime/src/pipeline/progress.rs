//! How far a job is: what it does now, the share of its work that is done, and the time left. Knows
//! no stage's meaning.

use std::time::Duration;

use pocketmuse_package::Stage;

/// How far a job is. Told often: before a stage is loaded and run, before each step and each image,
/// and while files are checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is done now.
    pub phase: Phase,
    /// The share of the work that is done, 0 to 1. It never falls; the last, of a job that comes to
    /// its end, is 1. It goes by the time that stages took before on this machine, as far as
    /// [`prepared`](crate::prepared) has it, else by the size of their weights.
    pub share: f32,
    /// The time that is left; `None` until something is known of this machine's speed.
    pub time_left: Option<Duration>,
}

impl Progress {
    /// Nothing is done yet: others have their turn.
    pub(super) fn waiting() -> Self {
        Self { phase: Phase::Waiting, share: 0.0, time_left: None }
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// It loads a stage.
    Loading {
        /// Which.
        stage: Stage,
    },
    /// It runs the encoder, the text encoder or the prologue.
    Running {
        /// Which.
        stage: Stage,
    },
    /// It makes a step; of a video, a step of a frame.
    Step {
        /// Which, from 0.
        step: usize,
        /// How many there are, those of a saved job that were made before included.
        of: usize,
    },
    /// It decodes an image.
    Decoding {
        /// Which, from 0.
        image: usize,
        /// How many there are.
        of: usize,
    },
    /// It begins a frame of a video; its steps and its decoding come next.
    Frame {
        /// Which, from 0.
        frame: u32,
        /// How many there are.
        of: u32,
    },
}
