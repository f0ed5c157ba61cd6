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

use pocketmuse_package::{Result, Stage};

#[cfg(feature = "measure")]
use crate::engine::loading::Loading;
use crate::{engine::session::Session, package::Package};

pub use decoder::Decoder;
#[cfg(feature = "measure")]
pub use decoder::Pixels;
pub use encoder::Encoder;
pub use prologue::{Primed, Prologue};
pub use step::Predictor;
#[cfg(feature = "measure")]
pub use step::Prompted;
pub(crate) use step::{Answer, Answered, Asked};
pub use text_encoder::{Text, TextEncoder};

/// A network that is loaded.
pub trait Network: Sized {
    /// Which.
    const STAGE: Stage;

    /// The network of `package` that `session` is.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the package has no such stage.
    fn of(package: &Package, session: Session) -> Result<Self>;

    /// Its graph.
    fn session(&mut self) -> &mut Session;

    /// Loads it from `package`.
    ///
    /// # Errors
    ///
    /// As for [`Package::load`].
    #[cfg(feature = "measure")]
    fn load(package: &Package, loading: Loading) -> Result<Self> {
        Self::of(package, package.load(Self::STAGE, loading)?)
    }
}
