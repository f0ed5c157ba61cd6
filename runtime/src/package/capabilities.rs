//! What a package can do, before any request. Loads nothing.

use pocketmuse_package::{ATTENTION, Flavour, Manifest, Result, Stage, StageEntry};

use super::Options;
use crate::request::MAX_SIDE;

/// What a package can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What the model is called.
    pub model: String,
    /// The flavours that the package has, the best for most first.
    pub flavours: Vec<Flavour>,
    /// The flavour that the rest is about.
    pub flavour: Flavour,
    /// Width and height of an image whose request says none, in pixels.
    pub size: u32,
    /// Width and height are multiples of this, in pixels.
    pub size_multiple: u32,
    /// The largest width and height, in pixels.
    pub max_size: u32,
    /// Whether an image can be edited, and a video have an end: whether the encoder is there.
    pub edit: bool,
    /// Whether steps have previews.
    pub preview: bool,
    /// Whether a trace tells where the model looked in the prompt, word by word.
    pub words: bool,
}

impl Capabilities {
    /// Of the package with `manifest`, and a flavour of it: `None` for the best that it has.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a flavour that it lacks.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use pocketmuse::{Capabilities, Manifest};
    ///
    /// let manifest = Manifest::read("amused-512".as_ref())?;
    /// let can = Capabilities::of(&manifest, None)?;
    /// println!("{}, {} pixels, edits: {}", can.model, can.size, can.edit);
    /// # Ok::<(), pocketmuse::Error>(())
    /// ```
    pub fn of(manifest: &Manifest, flavour: Option<Flavour>) -> Result<Self> {
        let options = Options { flavour, ..Options::default() };
        let (flavour, model) = (options.flavour_of(manifest), &manifest.model);
        let stages = &manifest.flavour(flavour)?.stages;
        let size_multiple = model.pixels_per_token.saturating_mul(model.grid_multiple).max(1);
        let has_taps = |step: &StageEntry| step.taps.keys().any(|name| name.starts_with(ATTENTION));
        Ok(Self {
            model: model.name.clone(),
            flavours: manifest.flavours.keys().copied().collect(),
            flavour,
            size: model.sample_size.saturating_mul(model.pixels_per_token),
            size_multiple,
            max_size: MAX_SIDE / size_multiple * size_multiple,
            edit: stages.contains_key(&Stage::Encoder),
            preview: manifest.preview.is_some(),
            words: stages.get(&Stage::Step).is_some_and(has_taps),
        })
    }
}
