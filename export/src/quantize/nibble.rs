//! `MatMul` with a constant matrix as `MatMulNBits` of 4 bits.

use pocketmuse_package::Dtype;

use super::{block, rewriter::Rewriter, scales};
use crate::graph::{Attribute, Data, Initializer, Node};

/// A linear layer of 4 bits.
pub(super) const OPERATOR: &str = "com.microsoft.MatMulNBits";

pub(super) fn rewrite(rewriter: &mut Rewriter, node: &Node, weight: &Initializer) {
    let (inputs, outputs) = (weight.shape[0], weight.shape[1]);
    let (blocks, scales) = constants(rewriter, weight);
    let attributes = vec![
        ("K", Attribute::Int(inputs as i64)),
        ("N", Attribute::Int(outputs as i64)),
        ("bits", Attribute::Int(4)),
        ("block_size", Attribute::Int(block::SIZE as i64)),
    ];
    let operands = [node.inputs[0].as_str(), &blocks, &scales];
    rewriter.node_with(OPERATOR, node.outputs[0].clone(), &operands, attributes);
}

/// The blocks `[outputs, blocks, bytes]` and their scales `[outputs * blocks]`: the names of two
/// constants.
fn constants(rewriter: &mut Rewriter, weight: &Initializer) -> (String, String) {
    let Data::Weight(values) = &weight.data else { unreachable!("only weights are rewritten") };
    let (inputs, outputs) = (weight.shape[0], weight.shape[1]);
    let count = inputs.div_ceil(block::SIZE);
    let rows = values.transpose();
    let (packed, scales) = scales::recipes(move || Ok(block::quantize(&rows.values()?, inputs)));
    let shape = [outputs, count, block::SIZE / 2];
    let packed =
        rewriter.constant(format!("{}.u4", weight.name), &shape, Data::Recipe(Dtype::U8, packed));
    let shape = [outputs * count];
    let scales = rewriter.constant(
        format!("{}.u4_scale", weight.name),
        &shape,
        Data::Recipe(Dtype::F32, scales.recipe()),
    );
    (packed, scales)
}
