//! The CLIP text encoder: token ids to the hidden states before the last layer, and one pooled
//! embedding.
//!
//! Only one row of the last layer is ever used, that of the pooled position, so only that row is
//! computed.

use pocketmuse_package::{Dim, Dtype};

use super::config::TextConfig;
use crate::{
    builder::{Builder, To, Value},
    checkpoint::{Weight, Weights},
    error::Result,
    form::Form,
    graph::Graph,
    layers,
};

/// transformers pools at the largest id where a config carries this end token, as CLIP's first
/// configs did.
const LEGACY_EOS: u32 = 2;

/// `input_ids` i64 `[batch, tokens]` to `hidden` f32 `[batch, tokens, hidden_size]` and `pooled`
/// `[batch, projection_dim]`. In the portable form the batch is one prompt, and where it ends is the
/// input `position` i32 `[1]`.
pub(crate) fn build(config: &TextConfig, weights: &Weights, form: Form) -> Result<Graph> {
    let mut b = Builder::of_form("text_encoder", form);
    let model = weights.scope("text_model");
    let tokens = config.max_position_embeddings;
    let batch = if form.is_portable() { 1.into() } else { Dim::from("batch") };
    let ids = b.input("input_ids", form.token_dtype(), &[batch, tokens.into()]);
    let mut x = embed(&mut b, &ids, config, &model.scope("embeddings"))?;
    let mask = causal_mask(tokens, form);
    let table = b.floats(&[tokens, tokens], &mask);
    for index in 0..config.num_hidden_layers - 1 {
        let layer = model.scope("encoder.layers").scope(index);
        x = b.within(format!("layers.{index}"), |b| {
            let normal = layers::layer_norm(b, &x, &layer, "layer_norm1", config.layer_norm_eps)?;
            let x = attend(b, &x, &normal, &normal, &table, config, &layer.scope("self_attn"))?;
            mlp(b, &x, config, &layer)
        })?;
    }
    b.output("hidden", &x);
    let position = match form {
        Form::Cpu => pooled_position(&mut b, &ids, config.eos_token_id),
        Form::Halves | Form::Integers => b.input("position", Dtype::I32, &[1.into()]),
    };
    let last = model.scope("encoder.layers").scope(config.num_hidden_layers - 1);
    let row = b.within("last", |b| last_row(b, &x, &position, &table, config, &last))?;
    let normal =
        layers::layer_norm(&mut b, &row, &model, "final_layer_norm", config.layer_norm_eps)?;
    let pooled =
        layers::linear(&mut b, &normal, weights, "text_projection", config.projection_dim)?;
    let pooled = b.reshape(&pooled, &[To::Keep, To::Is(config.projection_dim)]);
    b.output("pooled", &pooled);
    Ok(b.finish())
}

fn embed(b: &mut Builder, ids: &Value, config: &TextConfig, weights: &Weights) -> Result<Value> {
    let width = config.hidden_size;
    let tokens = weights.get("token_embedding.weight", &[config.vocab_size, width])?;
    let positions =
        weights.get("position_embedding.weight", &[config.max_position_embeddings, width])?;
    let tokens = b.weight("token_embedding", &tokens);
    let positions = b.weight("position_embedding", &positions);
    let embedded = b.gather(&tokens, ids);
    Ok(b.add(&embedded, &positions))
}

/// Row `i` lets position `i` see positions up to itself. In the portable form others are as good as
/// unseen: halves have no such number as the least float.
fn causal_mask(tokens: usize, form: Form) -> Vec<f32> {
    let unseen = if form.is_portable() { -100.0 } else { f32::MIN };
    (0..tokens * tokens)
        .map(|cell| if cell % tokens > cell / tokens { unseen } else { 0.0 })
        .collect()
}

/// `x + attention(queries from, keys and values to)`.
fn attend(
    b: &mut Builder,
    x: &Value,
    from: &Value,
    to: &Value,
    mask: &Value,
    config: &TextConfig,
    weights: &Weights,
) -> Result<Value> {
    let (width, heads) = (config.hidden_size, config.num_attention_heads);
    let scale = layers::query_scale(width, heads);
    let matrix = |name: &str| weights.get(&format!("{name}.weight"), &[width, width]);
    let vector = |name: &str| weights.get(&format!("{name}.bias"), &[width]);
    let mut project = |x: &Value, name: &str, weight: &Weight, bias: &Weight| {
        let product = layers::product(b, x, name, weight);
        let bias = b.weight(&format!("{name}.bias"), bias);
        b.add(&product, &bias)
    };
    let query =
        project(from, "query", &matrix("q_proj")?.scale(scale), &vector("q_proj")?.scale(scale));
    let key = project(to, "key", &matrix("k_proj")?, &vector("k_proj")?);
    let value = project(to, "value", &matrix("v_proj")?, &vector("v_proj")?);
    let query = layers::split_heads(b, &query, heads);
    let key = layers::split_heads_transposed(b, &key, heads);
    let value = layers::split_heads(b, &value, heads);
    let mixed = layers::attention(b, &query, &key, &value, Some(mask));
    let out = layers::linear_bias(b, &mixed, weights, "out_proj", width)?;
    Ok(b.add(x, &out))
}

/// `x + fc2(quick_gelu(fc1(norm(x))))`.
fn mlp(b: &mut Builder, x: &Value, config: &TextConfig, weights: &Weights) -> Result<Value> {
    let normal = layers::layer_norm(b, x, weights, "layer_norm2", config.layer_norm_eps)?;
    let wide =
        layers::linear_bias(b, &normal, &weights.scope("mlp"), "fc1", config.intermediate_size)?;
    let active = b.quick_gelu(&wide);
    let narrow = layers::linear_bias(b, &active, &weights.scope("mlp"), "fc2", config.hidden_size)?;
    Ok(b.add(x, &narrow))
}

/// `[batch, 1]`: where the prompt ends.
fn pooled_position(b: &mut Builder, ids: &Value, eos: u32) -> Value {
    let marks = if eos == LEGACY_EOS {
        b.cast(ids, Dtype::I32)
    } else {
        let eos = b.ints(&[i64::from(eos)]);
        let ends = b.equal(ids, &eos);
        b.cast(&ends, Dtype::I32)
    };
    let position = b.argmax(&marks);
    b.reshape(&position, &[To::Rest("batch"), To::Is(1)])
}

/// The last layer at one position: `x` `[batch, tokens, c]`, `position` `[batch, 1]`, or `[1]` of
/// one prompt, gives `[batch, 1, c]`.
fn last_row(
    b: &mut Builder,
    x: &Value,
    position: &Value,
    mask: &Value,
    config: &TextConfig,
    weights: &Weights,
) -> Result<Value> {
    let width = config.hidden_size;
    let row = |b: &mut Builder, x: &Value| {
        if b.form().is_portable() {
            return b.gather_axis(x, position, 1);
        }
        let row = b.pick_row(x, position);
        b.reshape(&row, &[To::Keep, To::Is(1), To::Is(width)])
    };
    let normal = layers::layer_norm(b, x, weights, "layer_norm1", config.layer_norm_eps)?;
    let from = row(b, &normal);
    let x = row(b, x);
    let seen = b.gather(mask, position); // [batch, 1, tokens], or [1, tokens]
    let tokens = To::Is(config.max_position_embeddings);
    let seen = b.reshape(&seen, &[To::Keep, To::Is(1), To::Is(1), tokens]);
    let x = attend(b, &x, &from, &normal, &seen, config, &weights.scope("self_attn"))?;
    mlp(b, &x, config, weights)
}
