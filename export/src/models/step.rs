//! One step of the U-ViT: tokens to logits of the positions asked for, guidance applied.
//!
//! Values between the layers are `[branches, tokens, channels]`. The guidance branches see the same
//! tokens, so everything before the first modulation is computed once: its first axis is 1 and is
//! stretched there.

mod grid;

use pocketmuse_package::{ATTENTION, Dim, Dtype};

use self::grid::Grid;
use super::{
    config::{TextConfig, VitConfig},
    prologue::BLOCK_EPSILON,
};
use crate::{
    builder::{Builder, Conv, To, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    form::Form,
    graph::Graph,
    layers,
};

/// `tokens` i64 `[1, height, width]`, `positions` i64 `[positions]`, `guidance` f32 `[branches]`
/// and the outputs of the prologue, keys and values of the type `attended`, to `logits` f32
/// `[positions, codebook_size]`. The portable form has no `positions`: it makes the logits of all,
/// row-major.
pub(crate) fn build(
    text: &TextConfig,
    config: &VitConfig,
    weights: &Weights,
    (form, attended): (Form, Dtype),
) -> Result<Graph> {
    let mut b = Builder::of_form("step", form);
    let grid = [1.into(), "height".into(), "width".into()];
    let tokens = b.input("tokens", form.token_dtype(), &grid);
    let positions =
        (form == Form::Cpu).then(|| b.input("positions", Dtype::I64, &["positions".into()]));
    let guidance = b.input("guidance", Dtype::F32, &["branches".into()]);
    let (grid, text_tokens) = (Grid::of(&mut b, &tokens, config), text.max_position_embeddings);
    let mut step = Step { config, weights, text_tokens, attended, grid };

    let mut x = step.embed(&mut b, &tokens)?;
    x = step.down_block(&mut b, x)?;
    x = step.transformer(&mut b, x)?;
    x = step.up_block(&mut b, x)?;
    let logits = step.head(&mut b, &x, positions.as_ref(), &guidance)?;
    b.output("logits", &logits);
    Ok(b.finish())
}

struct Step<'a> {
    config: &'a VitConfig,
    weights: &'a Weights,
    text_tokens: usize,
    /// The type of keys and values that the prologue made.
    attended: Dtype,
    grid: Grid,
}

impl Step<'_> {
    /// `[1, height, width, channels]`. Lookup, norm and 1 x 1 convolution see one id each, so they
    /// are one table.
    fn embed(&self, b: &mut Builder, tokens: &Value) -> Result<Value> {
        let (config, weights) = (self.config, self.weights.scope("embed"));
        let (inner, channels) = (config.in_channels, config.channels());
        let table = weights.get("embeddings.weight", &[config.vocab_size, inner])?;
        let norm = weights.get("layer_norm.weight", &[inner])?;
        let conv =
            weights.get("conv.weight", &[channels, inner, 1, 1])?.reshape(&[channels, inner]);
        let table = embedding_table(&table, &norm, &conv, config.layer_norm_eps);
        let table = b.weight("embed", &table);
        let x = b.gather(&table, tokens);
        b.tap("step.embed", &x);
        Ok(x)
    }

    /// `[1, height, width, channels]` to `[branches, tokens, channels]`.
    fn down_block(&mut self, b: &mut Builder, x: Value) -> Result<Value> {
        let (channels, weights) = (self.config.channels(), self.weights.scope("down_block"));
        let mut x = x;
        if self.config.downsample {
            x = layers::rms_norm(b, &x, &weights.scope("downsample"), "norm", BLOCK_EPSILON)?;
            x = self.grid.blocks_to_channels(b, &x);
            let kernel = weights.get("downsample.conv.weight", &[channels, channels, 2, 2])?;
            // OIHW => O(HWI)
            let kernel = kernel.permute(&[0, 2, 3, 1]).reshape(&[channels, 4 * channels]);
            x = layers::product(b, &x, "down_block.downsample", &kernel);
        }
        let x = b.reshape(&x, &[To::Keep, To::Rest("tokens"), To::Is(channels)]);
        let x = self.outer_block(b, "down_block", x)?;
        b.tap("step.down_block", &x);
        Ok(x)
    }

    /// Residual and attention blocks in turn.
    fn outer_block(&self, b: &mut Builder, block: &str, x: Value) -> Result<Value> {
        let weights = self.weights.scope(block);
        (0..self.config.num_res_blocks).try_fold(x, |x, index| {
            let name = format!("{block}.{index}");
            b.within(name.clone(), |b| {
                let x = self.res_block(b, &name, &x, &weights.scope("res_blocks").scope(index))?;
                self.attention_block(b, &name, &x, &weights.scope("attention_blocks").scope(index))
            })
        })
    }

    fn res_block(
        &self,
        b: &mut Builder,
        name: &str,
        x: &Value,
        weights: &Weights,
    ) -> Result<Value> {
        let channels = self.config.channels();
        let y = self.depthwise(b, x, weights)?;
        let y = layers::rms_norm(b, &y, weights, "norm", BLOCK_EPSILON)?;
        let y = layers::linear(b, &y, weights, "channelwise_linear_1", 4 * channels)?;
        let y = b.gelu(&y);
        let y = self.response_norm(b, &y, &weights.scope("channelwise_norm"))?;
        let y = layers::linear(b, &y, weights, "channelwise_linear_2", channels)?;
        let y = b.add(&y, x);
        Ok(self.modulate(b, &format!("{name}.res"), &y, channels))
    }

    /// The global response norm of ConvNeXt V2 over all tokens: `gamma * (x * n) + beta + x`.
    ///
    /// Only the channels' shares count. Halves hold means of squares and no sums of them, and what
    /// is added to a norm shrinks with it: by the grid that the model was trained for.
    fn response_norm(&self, b: &mut Builder, x: &Value, weights: &Weights) -> Result<Value> {
        let width = x.extent(-1);
        let mut parameter = |name: &str| {
            let weight = weights.get(name, &[1, 1, 1, width])?;
            Ok(b.weight(name, &weight.reshape(&[width])))
        };
        let (gamma, beta) = (parameter("gamma")?, parameter("beta")?);
        let (energy, epsilon) = match b.form() {
            Form::Cpu => (b.l2_norm(x, &[1]), BLOCK_EPSILON),
            Form::Halves | Form::Integers => {
                let side = self.config.sample_size / self.config.grid_multiple();
                let square = b.mul(x, x);
                let square = b.mean(&square, &[1]);
                (b.sqrt(&square), BLOCK_EPSILON / side as f32)
            }
        };
        let mean = b.mean(&energy, &[-1]);
        let epsilon = b.scalar(epsilon);
        let mean = b.add(&mean, &epsilon);
        let relative = b.div(&energy, &mean);
        // x n gamma + beta + x = x (n gamma + 1) + beta: the small tensor takes the work.
        let one = b.scalar(1.0);
        let gain = b.mul(&relative, &gamma);
        let gain = b.add(&gain, &one);
        let scaled = b.mul(x, &gain);
        Ok(b.add(&scaled, &beta))
    }

    /// A 3 x 3 convolution of each channel by itself.
    fn depthwise(&self, b: &mut Builder, x: &Value, weights: &Weights) -> Result<Value> {
        let channels = self.config.channels();
        let kernel = weights.get("depthwise.weight", &[channels, 1, 3, 3])?;
        let kernel = b.weight("depthwise", &kernel);
        let x = self.grid.planes(b, x);
        let conv = Conv { group: channels as i64, ..Conv::same(1) };
        let y = b.conv(&x, &kernel, None, conv, self.grid.dims.clone());
        let y = b.transpose(&y, &[0, 2, 3, 1]); // NCHW => NHWC
        Ok(b.reshape(&y, &[To::Keep, To::Rest("tokens"), To::Is(channels)]))
    }

    /// Two cross-attentions to the text.
    fn attention_block(
        &self,
        b: &mut Builder,
        name: &str,
        x: &Value,
        weights: &Weights,
    ) -> Result<Value> {
        let (channels, heads) = (self.config.channels(), self.config.block_num_heads);
        [("norm1", "attn1"), ("norm2", "attn2")].into_iter().try_fold(
            x.clone(),
            |x, (norm, part)| {
                let y = layers::rms_norm(b, &x, weights, norm, BLOCK_EPSILON)?;
                let y = self.cross_attention(
                    b,
                    &format!("{name}.{part}"),
                    &y,
                    channels,
                    heads,
                    &weights.scope(part),
                )?;
                Ok(b.add(&x, &y))
            },
        )
    }

    /// Attention to the text, whose keys and values are the prologue's.
    fn cross_attention(
        &self,
        b: &mut Builder,
        name: &str,
        x: &Value,
        width: usize,
        heads: usize,
        weights: &Weights,
    ) -> Result<Value> {
        let (branches, depth) = (Dim::from("branches"), width / heads);
        let key = [branches.clone(), heads.into(), depth.into(), self.text_tokens.into()];
        let value = [branches, heads.into(), self.text_tokens.into(), depth.into()];
        // First of all: ONNX Runtime runs what comes first as late as it can, so one layer's are
        // f32 at a time.
        let [key, value] = [("key", key), ("value", value)].map(|(part, shape)| {
            let input = b.input(&format!("{name}.{part}"), self.attended, &shape);
            b.cast(&input, Dtype::F32)
        });
        let query =
            weights.get("to_q.weight", &[width, width])?.scale(layers::query_scale(width, heads));
        let query = layers::product(b, x, "to_q", &query);
        let query = layers::split_heads(b, &query, heads);
        let attention = layers::attention_weights(b, &query, &key, None);
        b.tap(&format!("{ATTENTION}{name}"), &attention);
        let mixed = layers::mix_values(b, &attention, &value);
        layers::linear(b, &mixed, weights, "to_out.0", width)
    }

    fn self_attention(&self, b: &mut Builder, x: &Value, weights: &Weights) -> Result<Value> {
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let part = |name: &str| weights.get(&format!("{name}.weight"), &[width, width]);
        let query = part("to_q")?.scale(layers::query_scale(width, heads));
        let all = Weight::stack(&[query, part("to_k")?, part("to_v")?]);
        let all = layers::product(b, x, "to_qkv", &all);
        let parts = b.split(&all, 3);
        let query = layers::split_heads(b, &parts[0], heads);
        let key = layers::split_heads_transposed(b, &parts[1], heads);
        let value = layers::split_heads(b, &parts[2], heads);
        let mixed = layers::attention(b, &query, &key, &value, None);
        layers::linear(b, &mixed, weights, "to_out.0", width)
    }

    /// The transformer between the blocks: `[branches, tokens, channels]` in and out.
    fn transformer(&self, b: &mut Builder, x: Value) -> Result<Value> {
        let config = self.config;
        let x =
            layers::rms_norm(b, &x, self.weights, "project_to_hidden_norm", config.layer_norm_eps)?;
        let mut x = layers::linear(b, &x, self.weights, "project_to_hidden", config.hidden_size)?;
        for index in 0..config.num_hidden_layers {
            let name = format!("layers.{index}");
            let weights = self.weights.scope("transformer_layers").scope(index);
            x = b.within(name.clone(), |b| self.layer(b, &name, x.clone(), &weights))?;
            if index == 0 {
                b.tap("step.layer0", &x);
            }
        }
        b.tap("step.layer_last", &x);
        let x = layers::rms_norm(
            b,
            &x,
            self.weights,
            "project_from_hidden_norm",
            config.layer_norm_eps,
        )?;
        layers::linear(b, &x, self.weights, "project_from_hidden", config.channels())
    }

    fn layer(&self, b: &mut Builder, name: &str, x: Value, weights: &Weights) -> Result<Value> {
        let (width, epsilon) = (self.config.hidden_size, self.config.layer_norm_eps);
        let y = layers::rms_norm(b, &x, weights, "norm1.norm", epsilon)?;
        let y = self.modulate(b, &format!("{name}.norm1"), &y, width);
        let y = self.self_attention(b, &y, &weights.scope("attn1"))?;
        let x = b.add(&x, &y);

        let y = layers::rms_norm(b, &x, weights, "norm2.norm", epsilon)?;
        let y = self.modulate(b, &format!("{name}.norm2"), &y, width);
        let heads = self.config.num_attention_heads;
        let y = self.cross_attention(
            b,
            &format!("{name}.attn2"),
            &y,
            width,
            heads,
            &weights.scope("attn2"),
        )?;
        let x = b.add(&x, &y);

        let y = layers::centred_norm(b, &x, weights, "norm3.norm", epsilon)?;
        let y = self.modulate(b, &format!("{name}.norm3"), &y, width);
        let y = self.feed_forward(b, &y, &weights.scope("ff.net"))?;
        Ok(b.add(&x, &y))
    }

    /// GEGLU: the first half is the value, the second the gate.
    fn feed_forward(&self, b: &mut Builder, x: &Value, weights: &Weights) -> Result<Value> {
        let both = layers::linear(b, x, weights, "0.proj", 2 * self.config.intermediate_size)?;
        let parts = b.split(&both, 2);
        let gate = b.gelu(&parts[1]);
        let gated = b.mul(&parts[0], &gate);
        layers::linear(b, &gated, weights, "2", self.config.hidden_size)
    }

    /// `x * scale + shift`; the prologue added 1 to the scale.
    fn modulate(&self, b: &mut Builder, name: &str, x: &Value, width: usize) -> Value {
        let shape = [Dim::from("branches"), 1.into(), width.into()];
        let scale = b.input(&format!("{name}.scale"), Dtype::F32, &shape);
        let shift = b.input(&format!("{name}.shift"), Dtype::F32, &shape);
        let scaled = b.mul(x, &scale);
        b.add(&scaled, &shift)
    }

    /// `[branches, tokens, channels]` on the layers' grid to the same on the tokens' grid.
    fn up_block(&self, b: &mut Builder, x: Value) -> Result<Value> {
        let (channels, weights) = (self.config.channels(), self.weights.scope("up_block"));
        let mut x = self.outer_block(b, "up_block", x)?;
        if self.config.upsample {
            x = layers::rms_norm(b, &x, &weights.scope("upsample"), "norm", BLOCK_EPSILON)?;
            let kernel = weights.get("upsample.conv.weight", &[channels, channels, 2, 2])?;
            // IOHW => (HWO)I
            let kernel = kernel.permute(&[2, 3, 1, 0]).reshape(&[4 * channels, channels]);
            x = layers::product(b, &x, "up_block.upsample", &kernel);
            x = self.grid.channels_to_blocks(b, &x);
        }
        b.tap("step.up_block", &x);
        Ok(x)
    }

    /// Logits at `positions`, or of all. The last product is linear, so the branches are mixed
    /// before it.
    fn head(
        &self,
        b: &mut Builder,
        x: &Value,
        positions: Option<&Value>,
        guidance: &Value,
    ) -> Result<Value> {
        let (config, weights) = (self.config, self.weights.scope("mlm_layer"));
        let (inner, channels) = (config.in_channels, config.channels());
        let x = positions.map_or_else(|| x.clone(), |positions| b.gather_axis(x, positions, 1));
        let conv =
            weights.get("conv1.weight", &[inner, channels, 1, 1])?.reshape(&[inner, channels]);
        let x = layers::product(b, &x, "mlm_layer.conv1", &conv);
        let x = layers::rms_norm(b, &x, &weights, "layer_norm", config.layer_norm_eps)?;
        let guidance = b.reshape(guidance, &[To::Keep, To::Is(1), To::Is(1)]);
        let weighted = b.mul(&x, &guidance);
        let mixed = b.sum(&weighted, &[0]);
        let rest = if positions.is_some() { "positions" } else { "all tokens" };
        let mixed = b.reshape(&mixed, &[To::Rest(rest), To::Is(inner)]);
        let conv = weights.get("conv2.weight", &[config.codebook_size, inner, 1, 1])?;
        let conv = conv.reshape(&[config.codebook_size, inner]);
        Ok(layers::product(b, &mixed, "mlm_layer.conv2", &conv))
    }
}

/// `rms_norm(table) conv^T`: what the three first layers make of every id. Sums run in f64.
fn embedding_table(table: &Weight, norm: &Weight, conv: &Weight, epsilon: f32) -> Weight {
    let (rows, channels) = (table.shape()[0], conv.shape()[0]);
    let (table, norm, conv) = (table.clone(), norm.clone(), conv.clone());
    let inner = norm.shape()[0];
    Weight::new(&[rows, channels], move || {
        let (mut table, norm) = (table.values()?, norm.values()?);
        for row in table.chunks_exact_mut(inner) {
            let square: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            let scale = (square / inner as f64 + f64::from(epsilon)).sqrt().recip() as f32;
            row.iter_mut().zip(&norm).for_each(|(value, weight)| *value = *value * scale * weight);
        }
        let matrix = |rows, values| {
            ndarray::Array2::from_shape_vec((rows, inner), values).expect("rows of one width")
        };
        let product = matrix(rows, table).dot(&matrix(channels, conv.values()?).t());
        Ok(product.iter().copied().collect())
    })
}
