//! The least and the most of values as taps, which calibration reads: no value is copied out.

use pocketmuse_package::{Dtype, RANGE, Shape, TensorSpec};

use crate::graph::{Attribute, Data, Graph, Initializer, Node};

/// The constant that is the shape of one number.
const ONE: &str = "one_number";

/// The graph with the range of each value of `names` as a tap, `[2]`: its least, its most.
pub(super) fn observed(mut graph: Graph, names: &[String]) -> Graph {
    let bytes = 1i64.to_le_bytes().to_vec();
    let data = Data::Inline(Dtype::I64, bytes);
    graph.initializers.push(Initializer { name: ONE.to_owned(), shape: vec![1], data });
    for name in names {
        let ends = ["ReduceMin", "ReduceMax"].map(|op| {
            let (all, alone) = (format!("{name}.{op}"), format!("{name}.{op}.alone"));
            let attributes = vec![("keepdims", Attribute::Int(0))];
            graph.nodes.push(node(op, &[name], &all, attributes));
            graph.nodes.push(node("Reshape", &[&all, ONE], &alone, vec![]));
            alone
        });
        let range = format!("{name}.range");
        let attributes = vec![("axis", Attribute::Int(0))];
        graph.nodes.push(node("Concat", &[&ends[0], &ends[1]], &range, attributes));
        let spec = TensorSpec { name: range, dtype: Dtype::F32, shape: Shape(vec![2.into()]) };
        graph.taps.insert(format!("{RANGE}{name}"), spec);
    }
    graph
}

/// A node that makes `output` alone.
pub(super) fn node(
    op: &'static str,
    inputs: &[&str],
    output: &str,
    attributes: Vec<(&'static str, Attribute)>,
) -> Node {
    Node {
        name: format!("{output}/{op}"),
        op,
        inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
        outputs: vec![output.to_owned()],
        attributes,
    }
}
