//! One typed call for each network: text encoder, prologue, step, decoder, encoder. Knows no order
//! of things.
//!
//! Loading a stage takes its memory, dropping it gives the memory back.

mod decoder;
mod encoder;
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

use pocketmuse_package::{Error, ErrorKind, Result};

/// The only element of `items`.
fn one<T>(stage: &str, items: Vec<T>) -> Result<T> {
    let [item] = exactly(stage, items)?;
    Ok(item)
}

/// Exactly `N` outputs, or an error: a stage's outputs are fixed by the format.
fn exactly<T, const N: usize>(stage: &str, items: Vec<T>) -> Result<[T; N]> {
    let found = items.len();
    items.try_into().map_err(|_| {
        Error::new(ErrorKind::PackageDamaged, stage, format!("expected {N} outputs, found {found}"))
    })
}
