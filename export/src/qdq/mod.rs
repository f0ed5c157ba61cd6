//! Graph to graph: every float value becomes 16-bit integers of a measured range, every weight
//! 8-bit ones with a scale for each output channel. Knows operators, no model.
//!
//! The operators stay those of floats: behind each, `QuantizeLinear` and `DequantizeLinear` say what
//! integers hold what it makes, and every constant comes out of a `DequantizeLinear`. A provider
//! that computes with integers takes all three together; one that does not computes in floats and
//! rounds. Weights of linear layers are the bytes that the flavour int8 has.

mod constants;
mod observe;
mod rewriter;
mod step;
mod values;

use std::collections::HashSet;

use pocketmuse_package::{Dtype, Ranges};

use self::{rewriter::Rewriter, values::Values};
pub(crate) use self::{rewriter::Tables, values::Known};
use crate::{
    error::Result,
    graph::Graph,
    quantize::{self, Bits},
};

/// The graph of floats with taps for the ranges that [`rewrite`] needs; its linear layers are of
/// `bits`, whose results have the same ranges.
///
/// # Errors
///
/// If a constant cannot be read.
pub(crate) fn observed(graph: Graph, known: &[Known], bits: Option<Bits>) -> Result<Graph> {
    let names = Values::of(&graph, known)?.measured().to_vec();
    let graph = match bits {
        Some(bits) => quantize::rewrite(graph, bits),
        None => graph,
    };
    Ok(observe::observed(graph, &names))
}

/// The graph of floats in integers of the measured `ranges`.
///
/// # Errors
///
/// `BadInput` if `ranges` are not those of the taps of [`observed`]; if a constant cannot be read.
pub(crate) fn rewrite(
    graph: Graph,
    known: &[Known],
    ranges: &Ranges,
    tables: Tables,
) -> Result<Graph> {
    let values = Values::of(&graph, known)?;
    let steps = values.steps(ranges)?;
    let Graph { name, inputs, outputs, nodes, initializers, taps } = graph;
    let constants = initializers.iter().map(|constant| (constant.name.clone(), constant.clone()));
    let mut rewriter = Rewriter {
        values,
        steps,
        tables,
        constants: constants.collect(),
        given: HashSet::new(),
        results: outputs.iter().map(|output| (output.name.clone(), output.shape.0.len())).collect(),
        nodes: Vec::new(),
        made: Vec::new(),
        rounded: HashSet::new(),
    };
    for input in inputs.iter().filter(|input| input.dtype == Dtype::F32) {
        let (name, rounded) = (input.name.clone(), format!("{}.rounded", input.name));
        rewriter.round(&name, &rounded, &name)?;
        rewriter.given.insert(name);
    }
    nodes.into_iter().try_for_each(|node| rewriter.rewrite(node))?;
    let Rewriter { nodes, mut made, .. } = rewriter;
    let read: HashSet<&String> = nodes.iter().flat_map(|node| &node.inputs).collect();
    made.extend(initializers.into_iter().filter(|constant| read.contains(&constant.name)));
    Ok(Graph { name, inputs, outputs, nodes, initializers: made, taps })
}
