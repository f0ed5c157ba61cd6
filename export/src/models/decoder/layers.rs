//! What a decoder asks of its layers, whatever they compute with.

use pocketmuse_package::Dim;

use super::phases::Phases;
use crate::{
    builder::{Builder, Value},
    checkpoint::{Weight, Weights},
    error::Result,
};

/// The layers of a decoder. An image between layers is of their own type.
pub(super) trait Layers {
    /// What a layer makes.
    type Image: Clone;

    /// A 3 x 3 convolution of the tokens' vectors: rows of the table `vectors` `[tokens,
    /// latent_channels]`.
    fn conv_in(
        &self,
        b: &mut Builder,
        tokens: &Value,
        vectors: &Weight,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Self::Image>;

    /// Two convolutions beside a shortcut.
    fn res_block(
        &self,
        b: &mut Builder,
        x: &Self::Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Self::Image>;

    /// Twice the height and width, to `2 << level` pixels along each side of a token.
    fn upsample(
        &self,
        b: &mut Builder,
        x: &Self::Image,
        phases: &Phases,
        level: usize,
    ) -> Result<Self::Image>;

    /// Norm, SiLU and a 3 x 3 convolution: pixels, NCHW.
    fn conv_out(
        &self,
        b: &mut Builder,
        x: &Self::Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Value>;
}

/// The extent of an image with `scale` pixels along each side of a token.
pub(super) fn side(scale: usize, name: &str) -> Dim {
    if scale == 1 { name.into() } else { Dim::Named(format!("{scale} * {name}")) }
}
