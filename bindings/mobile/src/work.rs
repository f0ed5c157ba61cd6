//! What a job does.

use pocketmuse::{Origin, Pipeline, job::State};

use crate::{bytes::Bytes, error::PocketMuseError, request::Request, source::Source, video::Video};

/// What a job does.
#[derive(Clone, Debug, PartialEq, uniffi::Enum)]
pub enum Work {
    /// Makes images from a prompt.
    Generate {
        /// What is asked for.
        request: Request,
    },
    /// Loads what stays loaded for such an image, and makes none: the first image then comes as
    /// soon as the next ones.
    Warm {
        /// What will be asked for.
        request: Request,
    },
    /// Makes images from an image: all of it, or what its mask says.
    Edit {
        /// What is asked for.
        request: Request,
        /// What it starts from.
        source: Source,
    },
    /// Makes a video. Its frames are handed over as they are finished.
    Video {
        /// What is asked for, of one image.
        request: Request,
        /// How the image moves.
        video: Video,
    },
    /// Goes on after the step at which a state was taken: the images are those of a job that was
    /// never stopped. Of a video the frame of that step and those after it are handed over.
    Resume {
        /// What `Job.state` returned.
        state: Bytes,
    },
}

impl Work {
    /// Checks what is asked for.
    pub(crate) fn job(self, pipeline: &Pipeline) -> Result<pocketmuse::Job, PocketMuseError> {
        Ok(match self {
            Self::Generate { request } | Self::Warm { request } => {
                pipeline.job(&request.into(), Origin::Nothing)?
            }
            Self::Edit { request, source } => {
                pipeline.job(&request.into(), Origin::Image(&source.try_into()?))?
            }
            Self::Video { request, video } => {
                pipeline.video_job(&request.into(), &video.try_into()?)?
            }
            Self::Resume { state } => {
                let state = State::from_bytes(&state)?;
                pipeline.job(&state.request, Origin::Saved(&state, None))?
            }
        })
    }
}
