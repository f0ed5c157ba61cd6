//! Pixels to tokens.

use std::collections::BTreeMap;

use pocketmuse_package::{Result, Stage};

use super::one;
use crate::{
    loading::Loading,
    package::Package,
    session::{Input, Session, Tensor},
};

/// The encoder, loaded.
pub(crate) struct Encoder {
    session: Session,
}

impl Encoder {
    pub(crate) fn load(package: &Package, loading: Loading) -> Result<Self> {
        Ok(Self { session: package.load(Stage::Encoder, loading)? })
    }

    /// Encodes one picture, `[3, height, width]` in 0 to 1, row-major. Returns tokens, `[1, rows, columns]`.
    ///
    /// # Errors
    ///
    /// `Runtime` if the graph fails.
    pub(crate) fn encode(&mut self, pixels: &[f32], [height, width]: [usize; 2]) -> Result<Tensor> {
        one("encoder", self.session.run(&[("pixels", Input::F32(&[1, 3, height, width], pixels))])?)
    }

    /// Tapped values of the last run.
    pub(crate) fn taps(&self) -> &BTreeMap<String, Tensor> {
        self.session.taps()
    }
}
