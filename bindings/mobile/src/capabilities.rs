//! What a package can do, for both languages: the runtime's capabilities, field by field.

use crate::{error::PocketMuseError, kinds::Flavour};

/// What a package can do, known before any request.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Capabilities {
    /// What the model is called.
    pub model: String,
    /// The flavours that the package has, the best for most first.
    pub flavours: Vec<Flavour>,
    /// The flavour that the rest is about: the one that runs.
    pub flavour: Flavour,
    /// Width and height of an image whose request says none, in pixels.
    pub size: u32,
    /// Width and height are multiples of this, in pixels.
    pub size_multiple: u32,
    /// The largest width and height, in pixels.
    pub max_size: u32,
    /// Whether an image can be edited, and a video have an end.
    pub edit: bool,
    /// Whether steps have previews.
    pub preview: bool,
    /// Whether a trace tells where the model looked in the prompt, word by word. No call of this
    /// library makes one.
    pub words: bool,
}

impl TryFrom<&pocketmuse::Capabilities> for Capabilities {
    type Error = PocketMuseError;

    fn try_from(capabilities: &pocketmuse::Capabilities) -> Result<Self, PocketMuseError> {
        let pocketmuse::Capabilities {
            model,
            flavours,
            flavour,
            size,
            size_multiple,
            max_size,
            edit,
            preview,
            words,
        } = capabilities.clone();
        Ok(Self {
            model,
            flavours: flavours.into_iter().filter_map(|flavour| flavour.try_into().ok()).collect(),
            flavour: flavour.try_into()?,
            size,
            size_multiple,
            max_size,
            edit,
            preview,
            words,
        })
    }
}
