//! A graph of integers as one of floats: what its ranges make of values is left out. Weights stay
//! as they are.

use std::collections::BTreeSet;

use pocketmuse_package::{
    onnx,
    wire::{Field, Message, for_each},
};

use super::rewrite::{Change, rewritten};

/// A node, as far as it is looked at.
#[derive(Default)]
struct Node<'a> {
    operator: &'a [u8],
    /// Its first input and its first output.
    input: Option<&'a [u8]>,
    output: Option<&'a [u8]>,
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut node = Self::default();
        for_each(bytes, |number, field| {
            if let Field::Bytes(bytes) = field {
                match number {
                    onnx::node::OP_TYPE => node.operator = bytes,
                    onnx::node::INPUT => node.input = node.input.or(Some(bytes)),
                    onnx::node::OUTPUT => node.output = node.output.or(Some(bytes)),
                    _ => {}
                }
            }
            Some(())
        })?;
        Some(node)
    }
}

/// The model whose values are floats where `bytes` has them as integers of a range: `QuantizeLinear`
/// and the `DequantizeLinear` behind it hand on what they are given. `None` if it is no model.
pub(super) fn of_integers(bytes: &[u8]) -> Option<Vec<u8>> {
    let graph = |bytes: &[u8]| {
        let integers = integers(bytes)?;
        rewritten(bytes, |number, inner| match number {
            onnx::graph::NODE => node(inner, &integers),
            _ => Some(Change::Keep),
        })
    };
    let model = rewritten(bytes, |number, inner| match number {
        onnx::model::GRAPH => graph(inner).map(Change::Replace),
        _ => Some(Change::Keep),
    })?;
    Some(model.into_bytes())
}

/// The values that a graph makes integers of.
fn integers(graph: &[u8]) -> Option<BTreeSet<Vec<u8>>> {
    let mut found = BTreeSet::new();
    for_each(graph, |number, field| {
        if let (onnx::graph::NODE, Field::Bytes(bytes)) = (number, field) {
            let node = Node::read(bytes)?;
            if node.operator == b"QuantizeLinear" {
                found.extend(node.output.map(<[u8]>::to_vec));
            }
        }
        Some(())
    })?;
    Some(found)
}

fn node(bytes: &[u8], integers: &BTreeSet<Vec<u8>>) -> Option<Change> {
    let node = Node::read(bytes)?;
    let (Some(input), Some(output)) = (node.input, node.output) else { return Some(Change::Keep) };
    let is_dropped = match node.operator {
        b"QuantizeLinear" => true,
        b"DequantizeLinear" => integers.contains(input),
        _ => false,
    };
    if !is_dropped {
        return Some(Change::Keep);
    }
    let mut identity = Message::default();
    identity.bytes(onnx::node::INPUT, input).bytes(onnx::node::OUTPUT, output);
    identity.text(onnx::node::OP_TYPE, "Identity");
    Some(Change::Replace(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_of(operator: &str, inputs: &[&str], output: &str) -> Message {
        let mut node = Message::default();
        for input in inputs {
            node.text(onnx::node::INPUT, input);
        }
        node.text(onnx::node::OUTPUT, output).text(onnx::node::OP_TYPE, operator);
        node
    }

    fn model_of(nodes: &[(&str, &[&str], &str)]) -> Vec<u8> {
        let (mut graph, mut model) = (Message::default(), Message::default());
        for (operator, inputs, output) in nodes {
            graph.message(onnx::graph::NODE, &node_of(operator, inputs, output));
        }
        model.message(onnx::model::GRAPH, &graph);
        model.into_bytes()
    }

    #[test]
    fn values_stay_floats_and_weights_are_those_of_integers() {
        let found = of_integers(&model_of(&[
            ("QuantizeLinear", &["x", "scale", "zero"], "q"),
            ("DequantizeLinear", &["q", "scale", "zero"], "d"),
            ("DequantizeLinear", &["weight.s8", "scales"], "w"),
            ("MatMul", &["d", "w"], "y"),
        ]));
        let expected = model_of(&[
            ("Identity", &["x"], "q"),
            ("Identity", &["q"], "d"),
            ("DequantizeLinear", &["weight.s8", "scales"], "w"),
            ("MatMul", &["d", "w"], "y"),
        ]);
        assert!(found == Some(expected));
        assert!(of_integers(b"\xff\xff\xff").is_none(), "no model");
    }
}
