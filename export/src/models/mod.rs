//! One file per network, to be read top to bottom beside the model's description.

pub(crate) mod config;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod prologue;
pub(crate) mod step;
pub(crate) mod text_encoder;
mod vq;
