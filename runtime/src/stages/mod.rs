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

pub use decoder::Decoder;
#[cfg(feature = "measure")]
pub use decoder::Pixels;
pub use encoder::Encoder;
pub use prologue::{Primed, Prologue};
pub use step::{Predictor, Prompted};
pub use text_encoder::{Text, TextEncoder};
