//! `Gather` of rows of a constant table as s8 rows with a scale each.

use pocketmuse_package::Dtype;

use super::{channel, rewriter::Rewriter, scales};
use crate::graph::{Attribute, Data, Initializer, Node};

pub(super) fn rewrite(rewriter: &mut Rewriter, node: &Node, table: &Initializer) {
    let (indices, output) = (&node.inputs[1], &node.outputs[0]);
    let (rows, scales) = constants(rewriter, table);
    let picked = gather(rewriter, format!("{output}.s8"), &rows, indices);
    let float = rewriter.cast_to_f32(format!("{output}.unscaled"), &picked);
    let scale = gather(rewriter, format!("{output}.scale"), &scales, indices);
    rewriter.node("Mul", output.clone(), &[&float, &scale]);
}

fn gather(rewriter: &mut Rewriter, name: String, table: &str, indices: &str) -> String {
    rewriter.node_with("Gather", name, &[table, indices], vec![("axis", Attribute::Int(0))])
}

/// The rows in s8, `[rows, width]`, and their scales, `[rows, 1]`: the names of two constants.
fn constants(rewriter: &mut Rewriter, table: &Initializer) -> (String, String) {
    let Data::Weight(values) = &table.data else { unreachable!("only weights are rewritten") };
    let (rows, width) = (table.shape[0], table.shape[1]);
    let values = values.clone();
    let (packed, scales) = scales::recipes(move || Ok(channel::rows(&values.values()?, width)));
    let packed = rewriter.constant(
        format!("{}.s8", table.name),
        &[rows, width],
        Data::Recipe(Dtype::I8, packed),
    );
    let scales = rewriter.constant(
        format!("{}.s8_scale", table.name),
        &[rows, 1],
        Data::Recipe(Dtype::F32, scales.recipe()),
    );
    (packed, scales)
}
