//! What the files of a trace hold.

use image::RgbImage;
use pocketmuse::{Request, Trace};
use serde::Serialize;

use crate::png;

/// How the JSON begins.
pub(super) const START: &str = "{\"model\":";

/// A chart as it is written.
pub(super) struct Chart {
    /// The file's name without its ending.
    pub(super) name: String,
    pub(super) png: Vec<u8>,
}

impl Chart {
    /// An image as a chart.
    pub(super) fn new(name: String, image: &RgbImage) -> Self {
        Self { name, png: png::encode(image) }
    }
}

/// What the JSON holds.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    pub(super) model: &'a str,
    pub(super) request: &'a Request,
    /// By image and word.
    pub(super) shares: Vec<Vec<Option<f32>>>,
    /// In words, by image and word.
    pub(super) verdicts: Vec<Vec<String>>,
    pub(super) trace: &'a Trace,
}
