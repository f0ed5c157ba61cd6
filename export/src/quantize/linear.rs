//! `MatMul` with a constant matrix as `DynamicQuantizeLinear` and `MatMulInteger`.

use pocketmuse_package::Dtype;

use super::{
    channel,
    rewriter::{Quantized, Rewriter},
    scales,
};
use crate::{
    checkpoint::Weight,
    graph::{Data, Initializer, Node, Recipe},
};

/// A linear layer of 8 bits.
pub(super) const OPERATOR: &str = "MatMulInteger";

pub(super) fn rewrite(rewriter: &mut Rewriter, node: &Node, weight: &Initializer) {
    let (input, output) = (&node.inputs[0], &node.outputs[0]);
    let Quantized { value, scale, zero_point } = quantize_input(rewriter, input);
    let (matrix, scales) = constants(rewriter, weight);
    let product = format!("{output}.int32");
    rewriter.node(OPERATOR, product.clone(), &[&value, &matrix, &zero_point]);
    let float = rewriter.cast_to_f32(format!("{output}.unscaled"), &product);
    let both = rewriter.node("Mul", format!("{output}.scale"), &[&scale, &scales]);
    rewriter.node("Mul", output.clone(), &[&float, &both]);
}

/// `input` in u8, quantized once for all its readers.
fn quantize_input(rewriter: &mut Rewriter, input: &str) -> Quantized {
    if let Some(quantized) = rewriter.quantized.get(input) {
        return quantized.clone();
    }
    let part = |part: &str| format!("{input}.{part}");
    let quantized =
        Quantized { value: part("u8"), scale: part("u8_scale"), zero_point: part("u8_zero_point") };
    let outputs =
        vec![quantized.value.clone(), quantized.scale.clone(), quantized.zero_point.clone()];
    let name = format!("{input}/DynamicQuantizeLinear");
    let inputs = vec![input.to_owned()];
    rewriter.nodes.push(Node {
        name,
        op: "DynamicQuantizeLinear",
        inputs,
        outputs,
        attributes: vec![],
    });
    rewriter.quantized.insert(input.to_owned(), quantized.clone());
    quantized
}

/// The matrix in s8 and its scales, one per column: the names of two constants.
fn constants(rewriter: &mut Rewriter, weight: &Initializer) -> (String, String) {
    let Data::Weight(values) = &weight.data else { unreachable!("only weights are rewritten") };
    let columns = weight.shape[1];
    let (matrix, scales) = matrix_recipes(values, columns);
    let matrix = rewriter.constant(
        format!("{}.s8", weight.name),
        &weight.shape,
        Data::Recipe(Dtype::I8, matrix),
    );
    let scales = rewriter.constant(
        format!("{}.s8_scale", weight.name),
        &[columns],
        Data::Recipe(Dtype::F32, scales),
    );
    (matrix, scales)
}

/// How to compute a matrix `[rows, columns]` in s8 and its scales, one for each column.
pub(crate) fn matrix_recipes(weight: &Weight, columns: usize) -> (Recipe, Recipe) {
    let weight = weight.clone();
    let (matrix, scales) = scales::recipes(move || {
        let values = weight.values()?;
        let scales = channel::pair_safe_scales(&values, columns);
        Ok((channel::columns(&values, &scales), scales))
    });
    (matrix, scales.recipe())
}
