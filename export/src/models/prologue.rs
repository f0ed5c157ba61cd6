//! The prologue: all of the U-ViT that depends on the prompt and the micro-conditioning alone.
//!
//! The network has no timestep, so modulations, and the keys and values of every cross-attention,
//! are the same at each step. They are computed once per prompt; each output is the step graph's
//! input of the same name.

use pocketmuse_package::{Dim, Dtype};

use super::config::{TextConfig, VitConfig};
use crate::{
    builder::{Builder, To, Value},
    checkpoint::Weights,
    error::Result,
    form::Form,
    graph::Graph,
    layers,
};

/// Values of the micro-conditioning: width, height, two crop coordinates, aesthetic score.
const MICRO_CONDS: usize = 5;

/// The eps that the blocks before and after the transformer have in the reference's code, not in
/// its config.
pub(crate) const BLOCK_EPSILON: f32 = 1e-6;

/// `hidden` `[branches, tokens, encoder_hidden_size]`, `pooled` `[branches, cond_embed_dim]` and
/// `micro_conds` `[branches, 5]` to modulations, and keys and values of the type `attended`. In the
/// portable form the sinusoids of the five numbers go in, `sinusoids` `[branches, 5 *
/// micro_cond_encode_dim]`: a half cannot tell the angle of 512 from that of 512.2.
pub(crate) fn build(
    text: &TextConfig,
    config: &VitConfig,
    weights: &Weights,
    (form, attended): (Form, Dtype),
) -> Result<Graph> {
    let mut b = Builder::of_form("prologue", form);
    let branches = Dim::from("branches");
    let tokens = text.max_position_embeddings;
    let hidden = b.input(
        "hidden",
        Dtype::F32,
        &[branches.clone(), tokens.into(), config.encoder_hidden_size.into()],
    );
    let pooled = b.input("pooled", Dtype::F32, &[branches.clone(), config.cond_embed_dim.into()]);
    let (name, width) = match form {
        Form::Cpu => ("micro_conds", MICRO_CONDS),
        Form::Halves | Form::Integers => ("sinusoids", MICRO_CONDS * config.micro_cond_encode_dim),
    };
    let micro = b.input(name, Dtype::F32, &[branches, width.into()]);

    let text = layers::linear(&mut b, &hidden, weights, "encoder_proj", config.hidden_size)?;
    let text =
        layers::rms_norm(&mut b, &text, weights, "encoder_proj_layer_norm", config.layer_norm_eps)?;
    b.tap("prologue.text", &text);
    let condition = condition(&mut b, &pooled, &micro, config, weights)?;
    b.tap("prologue.cond", &condition);
    let active = b.silu(&condition);

    for block in ["down_block", "up_block"] {
        outer_block(&mut b, block, [&text, &active], config, &weights.scope(block), attended)?;
    }
    for index in 0..config.num_hidden_layers {
        let name = format!("layers.{index}");
        let layer = weights.scope("transformer_layers").scope(index);
        for norm in ["norm1", "norm2", "norm3"] {
            let output = format!("{name}.{norm}");
            modulation(
                &mut b,
                &output,
                &active,
                config.hidden_size,
                &layer,
                &format!("{norm}.linear"),
            )?;
        }
        let heads = config.num_attention_heads;
        let weights = layer.scope("attn2");
        key_value(
            &mut b,
            &format!("{name}.attn2"),
            &text,
            [config.hidden_size, heads],
            &weights,
            attended,
        )?;
    }
    Ok(b.finish())
}

/// The embedding of the pooled text and the five numbers: `[branches, hidden_size]`.
fn condition(
    b: &mut Builder,
    pooled: &Value,
    micro: &Value,
    config: &VitConfig,
    weights: &Weights,
) -> Result<Value> {
    let sinusoids = match b.form() {
        Form::Cpu => sinusoids(b, micro, config.micro_cond_encode_dim),
        Form::Halves | Form::Integers => micro.clone(),
    };
    let joined = b.concat(&[pooled, &sinusoids], 1);
    let weights = weights.scope("cond_embed");
    let first = layers::linear(b, &joined, &weights, "linear_1", config.hidden_size)?;
    let active = b.silu(&first);
    layers::linear(b, &active, &weights, "linear_2", config.hidden_size)
}

/// Each number `v` as `[cos(v f_0) .. | sin(v f_0) ..]`, `f_k = 10000^(-k / half)`: `[branches, 5 *
/// width]`.
fn sinusoids(b: &mut Builder, micro: &Value, width: usize) -> Value {
    let half = width / 2;
    // In f32, as the reference computes them.
    let frequencies: Vec<f32> =
        (0..half).map(|k| (-(10000f64.ln() as f32) * k as f32 / half as f32).exp()).collect();
    let frequencies = b.floats(&[half], &frequencies);
    let column = b.reshape(micro, &[To::Keep, To::Is(MICRO_CONDS), To::Is(1)]);
    let angles = b.mul(&column, &frequencies);
    let (cos, sin) = (b.cos(&angles), b.sin(&angles));
    let both = b.concat(&[&cos, &sin], 2);
    b.reshape(&both, &[To::Keep, To::Is(MICRO_CONDS * width)])
}

/// The conditioning of the block before or after the transformer.
fn outer_block(
    b: &mut Builder,
    block: &str,
    [text, active]: [&Value; 2],
    config: &VitConfig,
    weights: &Weights,
    attended: Dtype,
) -> Result<()> {
    let channels = config.channels();
    for index in 0..config.num_res_blocks {
        let name = format!("{block}.{index}");
        let res_block = weights.scope("res_blocks").scope(index);
        modulation(b, &format!("{name}.res"), active, channels, &res_block, "cond_embeds_mapper")?;
        let attention = weights.scope("attention_blocks").scope(index);
        let mapped = if config.hidden_size == channels {
            text.clone()
        } else {
            let active = b.silu(text);
            layers::linear(b, &active, &attention, "kv_mapper", channels)?
        };
        for part in ["attn1", "attn2"] {
            let output = format!("{name}.{part}");
            key_value(
                b,
                &output,
                &mapped,
                [channels, config.block_num_heads],
                &attention.scope(part),
                attended,
            )?;
        }
    }
    Ok(())
}

/// Outputs `NAME.scale`, 1 already added, and `NAME.shift`, both `[branches, 1, width]`.
fn modulation(
    b: &mut Builder,
    name: &str,
    active: &Value,
    width: usize,
    weights: &Weights,
    linear: &str,
) -> Result<()> {
    let both = b.within(name, |b| layers::linear(b, active, weights, linear, 2 * width))?;
    let both = b.reshape(&both, &[To::Keep, To::Is(1), To::Is(2 * width)]);
    let parts = b.split(&both, 2);
    let one = b.scalar(1.0);
    let scale = b.add(&parts[0], &one);
    b.output(&format!("{name}.scale"), &scale);
    b.output(&format!("{name}.shift"), &parts[1]);
    Ok(())
}

/// Outputs `NAME.key` `[branches, heads, d, tokens]` and `NAME.value` `[branches, heads, tokens,
/// d]`.
fn key_value(
    b: &mut Builder,
    name: &str,
    text: &Value,
    [width, heads]: [usize; 2],
    weights: &Weights,
    attended: Dtype,
) -> Result<()> {
    let (key, value) = b.within(name, |b| {
        let key = layers::linear(b, text, weights, "to_k", width)?;
        Ok((key, layers::linear(b, text, weights, "to_v", width)?))
    })?;
    let key = layers::split_heads_transposed(b, &key, heads);
    let value = layers::split_heads(b, &value, heads);
    for (part, value) in [("key", key), ("value", value)] {
        let value = b.cast(&value, attended);
        b.output(&format!("{name}.{part}"), &value);
    }
    Ok(())
}
