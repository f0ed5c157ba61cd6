//! A video, told to one closure. Knows no token.

use std::ops::ControlFlow;

use image::RgbImage;

use super::watch::{Step, Watch};
pub use crate::request::video::{MAX_FRAMES, Video};

/// What happens while a video is made.
#[derive(Debug)]
pub enum Event<'a> {
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
        /// The image.
        image: RgbImage,
    },
}

/// Tells a closure of everything.
pub(super) struct Film<F> {
    frame: u32,
    on_event: F,
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Film<F> {
    /// `frame` is the first that is made.
    pub(super) fn new(frame: u32, on_event: F) -> Self {
        Self { frame, on_event }
    }
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Watch for Film<F> {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        (self.on_event)(Event::Step { frame: self.frame, step: *step })
    }

    fn frame(&mut self, frame: u32, image: RgbImage) -> ControlFlow<()> {
        self.frame = frame + 1;
        (self.on_event)(Event::Frame { frame, image })
    }
}
