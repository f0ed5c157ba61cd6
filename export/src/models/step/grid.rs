//! The grids of the step graph: that of the tokens, and half of it with resampling blocks. Knows no
//! weights.

use pocketmuse_package::Dim;

use crate::{
    builder::{Builder, To, Value},
    form::Form,
    models::config::VitConfig,
};

/// The grid that the layers work on: the tokens', or half of it with resampling blocks.
pub(super) struct Grid {
    /// `[1, height, width]`, which says how large the tokens' grid is.
    tokens: Value,
    /// `[height, width]` as computed integers.
    extents: Value,
    /// Their names.
    pub(super) dims: [Dim; 2],
}

impl Grid {
    pub(super) fn of(b: &mut Builder, tokens: &Value, config: &VitConfig) -> Self {
        let extents = b.shape_of(tokens, 1, 3);
        if !config.downsample {
            let dims = ["height".into(), "width".into()];
            return Self { tokens: tokens.clone(), extents, dims };
        }
        let two = b.ints(&[2, 2]);
        let dims = ["height / 2".into(), "width / 2".into()];
        Self { tokens: tokens.clone(), extents: b.div(&extents, &two), dims }
    }

    /// Tokens along an axis of their grid, `[1]`.
    fn side(&self, b: &mut Builder, axis: i64) -> Value {
        b.shape_of(&self.tokens, axis, axis + 1)
    }

    /// `[n, tokens, c]` as planes over the grid, `[n, c, height, width]`.
    pub(super) fn planes(&self, b: &mut Builder, x: &Value) -> Value {
        let channels = x.extent(2);
        let [height, width] = self.dims.clone();
        let (start, end) = (b.ints(&[0]), b.ints(&[channels as i64]));
        let target = b.concat(&[&start, &self.extents, &end], 0);
        let x = b.reshape_to(x, &target, &[x.shape()[0].clone(), height, width, channels.into()]);
        b.transpose(&x, &[0, 3, 1, 2]) // NHWC => NCHW
    }

    /// 2 x 2 blocks of tokens into channels (row, column, c): `[1, height, width, c]` to the grid of
    /// the layers.
    ///
    /// Not every provider has an operator for it, nor transposes more than 4 axes, nor multiplies 4
    /// of them right: the portable form makes `[1, tokens, 4 c]`.
    pub(super) fn blocks_to_channels(&self, b: &mut Builder, x: &Value) -> Value {
        if b.form() == Form::Cpu {
            let x = b.transpose(x, &[0, 3, 1, 2]); // NHWC => NCHW
            let x = b.space_to_depth(&x, self.dims.clone());
            return b.transpose(&x, &[0, 2, 3, 1]); // NCHW => NHWC
        }
        let channels = x.extent(3);
        let (columns, [height, width]) = (self.side(b, 2), self.dims.clone());
        let two = b.ints(&[2]);
        let columns = b.div(&columns, &two);
        let (rest, end) = (b.ints(&[-1]), b.ints(&[2 * channels as i64]));
        let target = b.concat(&[&rest, &two, &columns, &end], 0);
        let shape = [height, 2.into(), width, (2 * channels).into()];
        let x = b.reshape_to(x, &target, &shape);
        let x = b.transpose(&x, &[0, 2, 1, 3]); // rows of a block beside its columns
        b.reshape(&x, &[To::Is(1), To::Rest("tokens"), To::Is(4 * channels)])
    }

    /// The reverse: `[branches, tokens, 4 c]` to `[branches, all tokens, c]`.
    pub(super) fn channels_to_blocks(&self, b: &mut Builder, x: &Value) -> Value {
        let channels = x.extent(2) / 4;
        if b.form() == Form::Cpu {
            let x = self.planes(b, x);
            let x = b.depth_to_space(&x, ["height".into(), "width".into()]);
            let x = b.transpose(&x, &[0, 2, 3, 1]); // NCHW => NHWC
            return b.reshape(&x, &[To::Keep, To::Rest("all tokens"), To::Is(channels)]);
        }
        let [rows, columns] = [1, 2].map(|axis| self.side(b, axis));
        let two = b.ints(&[2]);
        let half = b.div(&columns, &two);
        let (rest, wide) = (b.ints(&[-1]), b.ints(&[2 * channels as i64]));
        let target = b.concat(&[&rest, &half, &two, &wide], 0);
        let shape = ["rows".into(), self.dims[1].clone(), 2.into(), (2 * channels).into()];
        let apart = b.reshape_to(x, &target, &shape);
        let apart = b.transpose(&apart, &[0, 2, 1, 3]);
        let (all, end) = (b.mul(&rows, &columns), b.ints(&[channels as i64]));
        let target = b.concat(&[&rest, &all, &end], 0);
        let shape = [x.shape()[0].clone(), "all tokens".into(), channels.into()];
        b.reshape_to(&apart, &target, &shape)
    }
}
