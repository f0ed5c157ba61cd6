//! The decoder's layers on integers, channels last, rows of a large image in tiles.
//!
//! Between layers an image is u8, each channel with a scale of its own and the zero point 128. A
//! norm needs the sums of its input's units and of their squares over the whole image: the layer
//! that makes the image adds them up tile by tile, so tiles are exact. What is f32 lives for one
//! tile: the norm, SiLU, the sum with the shortcut, and the last convolution, which has three
//! output channels and no time to win.

use pocketmuse_package::{Dim, Dtype, Ranges};

use super::{
    layers::{Layers, side},
    phases::Phases,
    tile::Tile,
    units::{kernel_for_units, rescale, sums, to_f32, to_u8},
};
use crate::{
    builder::{Builder, Conv, Step, To, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    layers,
    models::vq,
};

/// How many of the last levels, the largest images, are computed in tiles. Those before hold as little
/// as a tile does, and their large kernels would be read once for each tile.
const TILED_LEVELS: usize = 3;

/// The most rows of a tile, a power of 2. Fewer take less memory and compute more rows of borders
/// twice.
const TILE_ROWS: usize = 4;

/// How many of the last levels keep their images in u8.
const ROUNDED_LEVELS: usize = 2;

/// Calibration sees few images: values may be larger by this before they are clipped.
const HEADROOM: f32 = 1.1;

pub(super) struct IntegerLayers<'a> {
    pub(super) groups: usize,
    pub(super) levels: usize,
    pub(super) ranges: &'a Ranges,
    /// The network's input, whose extents all images are multiples of.
    pub(super) tokens: Value,
}

/// An image between layers.
#[derive(Clone)]
pub(super) struct Image {
    /// `[1, h, w, channels]`: u8, or f32 of the same units, not rounded and not centred, where
    /// images are small.
    value: Value,
    /// Of each channel: what a unit is worth.
    scales: Vec<f32>,
    /// Of each channel over the whole image, `[1, channels]`: the sum of units, the sum of
    /// squared units.
    sums: [Value; 2],
    /// `1 << level` pixels along each side of a token.
    level: usize,
}

/// `unit * scale + shift` by channel.
struct Norm {
    scale: Value,
    shift: Value,
}

impl Layers for IntegerLayers<'_> {
    type Image = Image;

    fn conv_in(
        &self,
        b: &mut Builder,
        tokens: &Value,
        vectors: &Weight,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Image> {
        let step = self.step(b, "conv_in.in", vectors.shape()[1])?;
        let table = b.weight_of_step("codes", vectors, step);
        let vectors = b.gather(&table, tokens);
        let scales = self.scales(b, "conv_in.out", outputs)?;
        self.image(b, 0, 0, &scales, |b, tile| {
            let vectors = tile.with_border(b, &vectors);
            self.conv(b, tile, &vectors, step, weights, "conv_in", outputs)
        })
    }

    fn res_block(
        &self,
        b: &mut Builder,
        x: &Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Image> {
        let norm = self.norm(b, x, weights, "norm1")?;
        let step = self.step(b, "conv1.in", x.scales.len())?;
        let scales = self.scales(b, "conv1.out", outputs)?;
        let y = self.image(b, x.level, x.level, &scales, |b, tile| {
            let active = activate(b, tile, x, &norm);
            let active = b.quantize(&active, step);
            self.conv(b, tile, &active, step, weights, "conv1", outputs)
        })?;
        let norm = self.norm(b, &y, weights, "norm2")?;
        let step = self.step(b, "conv2.in", outputs)?;
        let (branch_scales, scales) =
            (self.scales(b, "conv2.out", outputs)?, self.scales(b, "out", outputs)?);
        self.image(b, x.level, x.level, &scales, |b, tile| {
            let active = activate(b, tile, &y, &norm);
            let active = b.quantize(&active, step);
            let branch = self.conv(b, tile, &active, step, weights, "conv2", outputs)?;
            let (shortcut, shortcut_scales) = self.shortcut(b, tile, x, weights, outputs)?;
            let branch = rescale(b, &branch, &branch_scales, &scales);
            let shortcut = rescale(b, &shortcut, &shortcut_scales, &scales);
            let sum = b.add(&branch, &shortcut);
            Ok(if self.is_rounded(x.level) { b.quantize(&sum, Step::CENTRED) } else { sum })
        })
    }

    fn upsample(&self, b: &mut Builder, x: &Image, phases: &Phases, level: usize) -> Result<Image> {
        let channels = x.scales.len();
        let scales = self.scales(b, "upsample.out", channels)?;
        self.image(b, x.level, level + 1, &scales, |b, tile| {
            let rows = tile.with_border(b, &x.value);
            let rows = to_u8(b, &rows);
            let framed = tile.framed(b, &rows, Step::CENTRED);
            let rows = [0, 1].map(|row| {
                let columns = [0, 1].map(|column| {
                    let (part, conv) = tile.phase(b, &framed, row, column);
                    let kernel = kernel_for_units(&phases.kernels[row][column], &x.scales);
                    let name = format!("upsample.{row}{column}");
                    let size = tile.size(&x.value);
                    b.integer_conv(
                        &part,
                        Step::CENTRED,
                        &name,
                        &kernel,
                        &phases.bias,
                        &scales,
                        conv,
                        size,
                    )
                });
                interleave_columns(b, &columns)
            });
            let height = if matches!(tile, Tile::Whole) {
                side(2 << level, "height")
            } else {
                "rows".into()
            };
            Ok(interleave_rows(b, &rows, [height, side(2 << level, "width")]))
        })
    }

    fn conv_out(
        &self,
        b: &mut Builder,
        x: &Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<Value> {
        let norm = self.norm(b, x, weights, "conv_norm_out")?;
        let size = [side(1 << x.level, "height"), side(1 << x.level, "width")];
        let parts = self.tiles(b, x.level, |b, tile| {
            let active = activate(b, tile, x, &norm);
            let active = tile.framed_float(b, &active);
            let active = b.transpose(&active, &[0, 3, 1, 2]); // NHWC => NCHW
            let conv = tile.conv(3);
            Ok(vec![layers::conv_with(
                b,
                &active,
                weights,
                "conv_out",
                outputs,
                3,
                conv,
                tile.size(&x.value),
            )?])
        })?;
        if !self.is_tiled(x.level) {
            return Ok(parts[0].clone());
        }
        // tiles, 1, C, rows, W => 1, C, tiles, rows, W
        let beside = b.transpose(&parts[0], &[1, 2, 0, 3, 4]);
        let width = self.extent(b, 2, x.level);
        let [height, wide] = size;
        Ok(reshape_rows(
            b,
            &beside,
            &[Some(1), Some(outputs), None],
            &width,
            None,
            &[1.into(), outputs.into(), height, wide],
        ))
    }
}

impl IntegerLayers<'_> {
    fn is_tiled(&self, level: usize) -> bool {
        level + TILED_LEVELS >= self.levels
    }

    fn is_rounded(&self, level: usize) -> bool {
        level + ROUNDED_LEVELS >= self.levels
    }

    /// The step of a tensor that a convolution reads.
    fn step(&self, b: &Builder, name: &str, channels: usize) -> Result<Step> {
        let [least, most] = self.ranges.whole(&b.path(name), channels)?;
        Ok(Step::holding(least, most))
    }

    /// The scales of an image's channels.
    fn scales(&self, b: &Builder, name: &str, channels: usize) -> Result<Vec<f32>> {
        let scale = |[least, most]: &[f32; 2]| HEADROOM * most.max(-least) / 127.0;
        let ranges = self.ranges.channels(&b.path(name), channels)?;
        Ok(ranges.iter().map(scale).map(|scale| if scale > 0.0 { scale } else { 1.0 }).collect())
    }

    /// The image's height (`axis` 1) or width (2) at `level`: a vector of one integer.
    fn extent(&self, b: &mut Builder, axis: i64, level: usize) -> Value {
        let tokens = b.shape_of(&self.tokens, axis, axis + 1);
        let scale = b.ints(&[1 << level]);
        b.mul(&tokens, &scale)
    }

    /// Runs `build` for every tile of an image at `level`, or once for the whole of a small one.
    fn tiles(
        &self,
        b: &mut Builder,
        level: usize,
        build: impl FnOnce(&mut Builder, &Tile) -> Result<Vec<Value>>,
    ) -> Result<Vec<Value>> {
        if !self.is_tiled(level) {
            return build(b, &Tile::Whole);
        }
        // A row of tokens or a part of it is a tile, so tiles are alike whatever the image's
        // height.
        let (rows_of_token, height) = (1 << level, self.extent(b, 1, level));
        let rows = rows_of_token.min(TILE_ROWS);
        let tokens = self.extent(b, 1, 0);
        let parts = b.ints(&[(rows_of_token / rows) as i64]);
        let count = b.mul(&tokens, &parts);
        b.repeat(&count, side(rows_of_token / rows, "height"), |b, round| {
            let tile = Tile::of_round(b, round, rows, &height);
            build(b, &tile)
        })
    }

    /// The image at the level `to` that `build` makes of the tiles of one at the level `from`.
    fn image(
        &self,
        b: &mut Builder,
        from: usize,
        to: usize,
        scales: &[f32],
        build: impl FnOnce(&mut Builder, &Tile) -> Result<Value>,
    ) -> Result<Image> {
        let parts = self.tiles(b, from, |b, tile| {
            let part = build(b, tile)?;
            let [units, squares] = sums(b, &part);
            Ok(vec![part, units, squares])
        })?;
        let [value, units, squares] = parts.as_slice() else {
            unreachable!("three parts were built")
        };
        let mut image = Image {
            value: value.clone(),
            scales: scales.to_vec(),
            sums: [units.clone(), squares.clone()],
            level: to,
        };
        if self.is_tiled(from) {
            let channels = scales.len();
            let shape =
                [1.into(), side(1 << to, "height"), side(1 << to, "width"), channels.into()];
            let width = self.extent(b, 2, to);
            image.value = reshape_rows(b, value, &[Some(1), None], &width, Some(channels), &shape);
            image.sums = [units, squares].map(|sums| {
                let sum = b.sum(sums, &[0]);
                b.reshape(&sum, &[To::Is(1), To::Is(channels)])
            });
        }
        Ok(image)
    }

    /// A convolution of a tile and its border.
    #[expect(clippy::too_many_arguments, reason = "a convolution is all of these")]
    fn conv(
        &self,
        b: &mut Builder,
        tile: &Tile,
        active: &Value,
        step: Step,
        weights: &Weights,
        name: &str,
        outputs: usize,
    ) -> Result<Value> {
        let weight = weights.get(&format!("{name}.weight"), &[outputs, active.extent(3), 3, 3])?;
        let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
        let scales = self.scales(b, &format!("{name}.out"), outputs)?;
        let (framed, size) = (tile.framed(b, active, step), tile.size(active));
        Ok(b.integer_conv(&framed, step, name, &weight, &bias, &scales, tile.conv(3), size))
    }

    /// What goes beside the convolutions, with its scales: the image, or its 1 x 1 convolution.
    fn shortcut(
        &self,
        b: &mut Builder,
        tile: &Tile,
        x: &Image,
        weights: &Weights,
        outputs: usize,
    ) -> Result<(Value, Vec<f32>)> {
        let (rows, inputs) = (tile.rows(b, &x.value), x.scales.len());
        if inputs == outputs {
            return Ok((rows, x.scales.clone()));
        }
        let weight = kernel_for_units(
            &weights.get("conv_shortcut.weight", &[outputs, inputs, 1, 1])?,
            &x.scales,
        );
        let bias = weights.get("conv_shortcut.bias", &[outputs])?;
        let scales = self.scales(b, "conv_shortcut.out", outputs)?;
        let rows = to_u8(b, &rows);
        let (conv, size) = (Conv::same(0), tile.size(&rows));
        let y = b.integer_conv(
            &rows,
            Step::CENTRED,
            "conv_shortcut",
            &weight,
            &bias,
            &scales,
            conv,
            size,
        );
        Ok((y, scales))
    }

    /// The group norm of an image, from its sums.
    fn norm(&self, b: &mut Builder, x: &Image, weights: &Weights, name: &str) -> Result<Norm> {
        let channels = x.scales.len();
        let grouped = [self.groups, channels / self.groups];
        let mut by_channel = |part: &str| {
            let weight = weights.get(&format!("{name}.{part}"), &[channels])?;
            Ok(b.weight(&format!("{name}.{part}"), &weight.reshape(&grouped)))
        };
        let (weight, bias) = (by_channel("weight")?, by_channel("bias")?);
        let unit = b.floats(&grouped, &x.scales);
        let [units, squares] = [0, 1].map(|index| self.mean(b, x, index));
        let mean = b.mul(&units, &unit);
        let square = b.mul(&squares, &unit);
        let square = b.mul(&square, &unit);
        let (mean, square) = (b.mean(&mean, &[-1]), b.mean(&square, &[-1]));
        let (scale, shift) = layers::norm_by_group(b, &mean, &square, &weight, &bias, vq::EPSILON);
        let scale = b.mul(&scale, &unit);
        let [scale, shift] = [scale, shift].map(|value| b.reshape(&value, &[To::Is(channels)]));
        Ok(Norm { scale, shift })
    }

    /// One of an image's sums, over its number of pixels, `[groups, channels of a group]`.
    fn mean(&self, b: &mut Builder, x: &Image, index: usize) -> Value {
        let [height, width] = [1, 2].map(|axis| self.extent(b, axis, x.level));
        let [height, width] = [height, width].map(|extent| b.cast(&extent, Dtype::F32));
        let pixels = b.mul(&height, &width);
        let mean = b.div(&x.sums[index], &pixels);
        b.reshape(&mean, &[To::Is(self.groups), To::Is(x.scales.len() / self.groups)])
    }
}

/// `silu(norm(x))` of a tile and its border, in f32.
fn activate(b: &mut Builder, tile: &Tile, x: &Image, norm: &Norm) -> Value {
    let rows = tile.with_border(b, &x.value);
    let units = to_f32(b, &rows);
    let scaled = b.mul(&units, &norm.scale);
    let normal = b.add(&scaled, &norm.shift);
    b.silu(&normal)
}

/// `[1, h, w, c]` twice to `[1, h, 2w, c]`, by turns.
fn interleave_columns(b: &mut Builder, [even, odd]: &[Value; 2]) -> Value {
    let channels = even.extent(3);
    let pairs = b.concat(&[even, odd], 3);
    b.reshape(&pairs, &[To::Keep, To::Keep, To::Rest("columns"), To::Is(channels)])
}

/// `[1, h, w, c]` twice to `[1, 2h, w, c]`, by turns; `size` names the height and width that come
/// out.
fn interleave_rows(b: &mut Builder, [even, odd]: &[Value; 2], size: [Dim; 2]) -> Value {
    let (width, channels) = (b.shape_of(even, 2, 3), even.extent(3));
    let shape = [1.into(), even.shape()[1].clone(), 1.into(), "columns of channels".into()];
    let [even, odd] = [even, odd].map(|rows| {
        let wide = b.ints(&[1, 0, 1, -1]);
        b.reshape_to(rows, &wide, &shape)
    });
    let pairs = b.concat(&[&even, &odd], 2);
    let [height, wide] = size;
    let shape = [1.into(), height, wide, channels.into()];
    reshape_rows(b, &pairs, &[Some(1), None], &width, Some(channels), &shape)
}

/// `x` with the extents `before`, one of them left open, a computed `width`, and `after`.
fn reshape_rows(
    b: &mut Builder,
    x: &Value,
    before: &[Option<usize>],
    width: &Value,
    after: Option<usize>,
    shape: &[Dim],
) -> Value {
    let before: Vec<i64> =
        before.iter().map(|extent| extent.map_or(-1, |extent| extent as i64)).collect();
    let before = b.ints(&before);
    let after = after.map(|extent| b.ints(&[extent as i64]));
    let parts: Vec<&Value> = [&before, width].into_iter().chain(&after).collect();
    let target = b.concat(&parts, 0);
    b.reshape_to(x, &target, shape)
}
