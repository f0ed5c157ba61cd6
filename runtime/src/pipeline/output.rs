//! What comes out of a job.

use image::RgbImage;

use crate::{memory::metrics::Report, request::Request};

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Output {
    /// The images; none of a video, whose frames were handed over.
    pub images: Vec<RgbImage>,
    /// Time and memory.
    pub report: Report,
    /// What of a prompt did not fit the model and had no effect: for people, a line for each
    /// prompt.
    pub truncated: Vec<String>,
    /// The request with every default filled in: it makes the same images again.
    pub request: Request,
}
