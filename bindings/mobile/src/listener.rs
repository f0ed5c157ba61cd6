//! Who is told of a job, and what is told. Knows no language.

use std::sync::Arc;

use crate::{error::PocketMuseError, image::GeneratedImage, pixels::Pixels, request::Request};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Progress {
    /// A step was finished.
    Step {
        /// Which, from 1.
        step: u32,
        /// How many there are: of a video those of a frame, of a variation those of both passes.
        of: u32,
    },
}

/// Who is told of a job. All calls come on the job's own thread, one after the other; the next step
/// waits until a call returns. A call may use the generator, but not wait for another job of it.
///
/// What a call throws ends the job with that error.
#[uniffi::export(foreign)]
pub trait Listener: Send + Sync {
    /// Told how far the job is.
    fn progress(&self, progress: Progress) -> Result<(), PocketMuseError>;

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
