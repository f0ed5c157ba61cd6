//! The decoder's layers in f32, channels first.

use super::{
    layers::{Layers, side},
    phases::Phases,
};
use crate::{
    builder::{Builder, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    layers,
    models::vq,
};

pub(super) struct FloatLayers {
    pub(super) groups: usize,
}

impl Layers for FloatLayers {
    /// `[1, channels, h, w]`.
    type Image = Value;

    fn conv_in(
        &self,
        b: &mut Builder,
        tokens: &Value,
        vectors: &Weight,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Value> {
        let table = b.weight("codes", vectors);
        let vectors = b.gather(&table, tokens);
        let vectors = b.transpose(&vectors, &[0, 3, 1, 2]); // NHWC => NCHW
        b.observe("conv_in.in", &vectors);
        let x = layers::conv(b, &vectors, weights, "conv_in", outputs, 3)?;
        b.observe("conv_in.out", &x);
        Ok(x)
    }

    fn res_block(
        &self,
        b: &mut Builder,
        x: &Value,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Value> {
        vq::res_block(b, x, weights, outputs, self.groups)
    }

    fn upsample(&self, b: &mut Builder, x: &Value, phases: &Phases, level: usize) -> Result<Value> {
        let bias = b.weight("upsample.bias", &phases.bias);
        let size = [x.shape()[2].clone(), x.shape()[3].clone()];
        let mut parts = Vec::new();
        for row in 0..2 {
            for column in 0..2 {
                let kernel =
                    b.weight(&format!("upsample.{row}{column}"), &phases.kernels[row][column]);
                parts.push(b.conv(
                    x,
                    &kernel,
                    Some(&bias),
                    Phases::conv(row, column),
                    size.clone(),
                ));
            }
        }
        let parts = b.concat(&parts.iter().collect::<Vec<_>>(), 1);
        let scale = 2 << level;
        let x = b.depth_to_space(&parts, [side(scale, "height"), side(scale, "width")]);
        b.observe("upsample.out", &x);
        Ok(x)
    }

    fn conv_out(
        &self,
        b: &mut Builder,
        x: &Value,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Value> {
        let x = vq::norm_silu(b, x, weights, "conv_norm_out", self.groups)?;
        layers::conv(b, &x, weights, "conv_out", outputs, 3)
    }
}
