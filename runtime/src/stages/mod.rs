//! One typed call for each network: text encoder, prologue, step, decoder, encoder. Knows no order
//! of things.
//!
//! Loading a stage takes its memory, dropping it gives the memory back.

mod decoder;
mod encoder;
mod outputs;
mod prologue;
mod step;
mod text_encoder;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
pub(crate) use prologue::{Primed, Prologue};
pub(crate) use step::{Predictor, Prompted};
pub(crate) use text_encoder::{Text, TextEncoder};
