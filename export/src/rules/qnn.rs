//! What QNN takes, and that the flavour qdq keeps to it.
//!
//! "list" is `docs/execution_providers/QNN-ExecutionProvider.md` of
//! github.com/microsoft/onnxruntime at its branch gh-pages; "tried" is what the plug-in
//! onnxruntime-qnn 2.7.0 (QNN 2.51, the simulator of a Hexagon V75) did with graphs of this project
//! and with single operators.

use std::collections::{BTreeMap, BTreeSet};

use pocketmuse_package::{Dtype, Flavour, RANGE, Ranges, Stage};

use super::{At, Otherwise, Rule, broken, extents, graphs, networks};
use crate::graph::{Attribute, Graph};

pub(super) const QNN: &[Rule] = &[
    Rule {
        what: "an operator that is supported",
        source: "list",
        otherwise: Otherwise::Left,
        keeps: |at| {
            at.is(&[
                "Add",
                "ArgMax",
                "ArgMin",
                "BatchNormalization",
                "Cast",
                "Concat",
                "Conv",
                "Cos",
                "DepthToSpace",
                "DequantizeLinear",
                "Div",
                "Equal",
                "Erf",
                "Gather",
                "GatherND",
                "Gelu",
                "InstanceNormalization",
                "LayerNormalization",
                "MatMul",
                "Mul",
                "Pow",
                "QuantizeLinear",
                "ReduceL2",
                "ReduceMean",
                "ReduceSum",
                "Reshape",
                "Sigmoid",
                "SimplifiedLayerNormalization",
                "Sin",
                "Softmax",
                "SpaceToDepth",
                "Split",
                "Sqrt",
                "Sub",
                "Transpose",
            ])
        },
    },
    Rule {
        what: "BatchNormalization: constant scale and bias",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["BatchNormalization"]) || at.are_constants(1),
    },
    Rule {
        what: "GatherND: no batch axes",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["GatherND"]), // all that the builder makes have one
    },
    Rule {
        what: "Erf: of floats",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["Erf"]) || at.integers(0).is_none(),
    },
    Rule {
        what: "Reshape: to a constant shape",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["Reshape"]) || at.are_constants(1),
    },
    Rule {
        what: "MatMul: at most 3 axes beside a matrix",
        source: "tried: wrong for 4 x 4 tokens behind a Reshape",
        otherwise: Otherwise::Wrong,
        keeps: |at| !at.is(&["MatMul"]) || at.rank(1) > 2 || at.rank(0) <= 3,
    },
    Rule {
        what: "norms of integers: a weight in u8 or u16",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| {
            !at.is(&["LayerNormalization", "SimplifiedLayerNormalization"])
                || at.integers(1).is_none_or(|dtype| [Dtype::U8, Dtype::U16].contains(&dtype))
        },
    },
    Rule {
        what: "LayerNormalization of integers: a bias in s32 beside a weight in u8 alone",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| {
            !at.is(&["LayerNormalization"])
                || at.integers(2) != Some(Dtype::I32)
                || at.integers(1) == Some(Dtype::U8)
        },
    },
    Rule {
        what: "InstanceNormalization of integers: a bias in s32",
        source: "tried: with u16 it is taken, and a decoded image has 20 dB",
        otherwise: Otherwise::Wrong,
        keeps: |at| {
            !at.is(&["InstanceNormalization"])
                || at.integers(2).is_none_or(|dtype| dtype == Dtype::I32)
        },
    },
    Rule {
        what: "weights of integers: s8",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| {
            let is_product = at.is(&["Conv"]) || at.is(&["MatMul"]) && at.rank(1) == 2;
            !is_product || at.integers(1).is_none_or(|dtype| dtype == Dtype::I8)
        },
    },
    Rule {
        what: "a product of two values in integers: the second in s16",
        source: "tried: by u16 it is taken, and 4 % off",
        otherwise: Otherwise::Wrong,
        keeps: |at| {
            !at.is(&["MatMul"])
                || at.rank(1) == 2
                || at.integers(1).is_none_or(|dtype| dtype == Dtype::I16)
        },
    },
    Rule {
        what: "scales by channel: of a product's weight or bias, along its output channels",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| {
            if !at.is(&["DequantizeLinear"]) || at.rank(1) == 0 {
                return true;
            }
            let axis = at.node.attributes.iter().find(|(name, _)| *name == "axis");
            let Some((_, Attribute::Int(axis))) = axis else { return false };
            at.inputs[0].is_constant
                && match at.rank(0) {
                    2 => *axis == 1,
                    _ => *axis == 0,
                }
        },
    },
];

/// Nodes that neither read integers alone nor make them alone: between them and the others a
/// provider of integers would need floats.
fn torn(graph: &Graph) -> Vec<String> {
    let is_step = |op: &str| ["QuantizeLinear", "DequantizeLinear"].contains(&op);
    let made: BTreeMap<&str, &str> = graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(|output| (output.as_str(), node.op)))
        .collect();
    let floats: BTreeSet<&str> = graph
        .initializers
        .iter()
        .filter(|constant| constant.dtype() == Dtype::F32)
        .map(|constant| constant.name.as_str())
        .chain(graph.inputs.iter().filter(|i| i.dtype == Dtype::F32).map(|i| i.name.as_str()))
        .collect();
    let mut torn = Vec::new();
    for node in graph.nodes.iter().filter(|node| !is_step(node.op)) {
        let is_float = |name: &String| {
            floats.contains(name.as_str()) || name.ends_with(".exact") // not rounded yet
        };
        let reads_floats = node.inputs.iter().any(is_float);
        let is_rounded = node.outputs.iter().all(|output| {
            let mut readers = graph.nodes.iter().filter(|other| other.inputs.contains(output));
            !output.ends_with(".exact") || readers.all(|reader| reader.op == "QuantizeLinear")
        });
        let is_shape = node.outputs.iter().all(|output| !output.ends_with(".exact"));
        let reads_steps = node
            .inputs
            .iter()
            .any(|input| made.get(input.as_str()).is_some_and(|op| *op == "DequantizeLinear"));
        if reads_floats || !is_rounded || is_shape && reads_steps && node.op != "Shape" {
            torn.push(node.name.clone());
        }
    }
    torn
}

/// The graphs of the flavour qdq, every range from -1 to 1.
fn qdq(checkpoint: &str) -> Vec<(Stage, Graph)> {
    let networks = networks(checkpoint);
    let mut measured: BTreeMap<Stage, Ranges> = BTreeMap::new();
    for (stage, graph) in networks.observed(Flavour::Int8).expect("graphs") {
        for name in graph.taps.keys().filter_map(|name| name.strip_prefix(RANGE)) {
            let ranges = measured.entry(stage).or_default();
            ranges.widen(name, &[-1.0], &[1.0]).expect("one number");
        }
    }
    networks.ranged(&measured).expect("graphs")
}

#[test]
fn every_node_of_qdq_is_one_that_qnn_takes() {
    for checkpoint in ["models/tiny-world", "tests/fixtures/tiny-256", "tests/fixtures/tiny-512"] {
        for (stage, graph) in qdq(checkpoint) {
            for (size, branches) in [([4, 4], 1), ([16, 16], 2), ([32, 32], 2), ([6, 14], 1)] {
                let broken = broken(&graph, QNN, &extents(size, branches));
                assert!(broken.is_empty(), "{checkpoint}, {stage}, {size:?}: {broken:#?}");
            }
            let torn = torn(&graph);
            assert!(torn.is_empty(), "{checkpoint}, {stage}: {torn:#?}");
        }
    }
}

/// What QNN refused of f32 when it was tried with fixed shapes: the rules find the same.
#[test]
fn a_graph_that_leaves_the_rules_of_qnn_names_the_node_and_the_rule() {
    let cases: [(Stage, usize, &[&str]); 5] = [
        (Stage::TextEncoder, 2, &["(GatherND): expected GatherND: no batch axes [tried]"]),
        (Stage::Prologue, 0, &[]),
        (Stage::Step, 1, &["(MatMul): expected MatMul: at most 3 axes"]), // taken, and wrong
        (Stage::Decoder, 42, &["(ReduceSumSquare): ", "(BatchNormalization): "]),
        (Stage::Encoder, 27, &["(ReduceSumSquare): ", "(BatchNormalization): ", "(MatMul): "]),
    ];
    let graphs = graphs("models/tiny-world", Flavour::F32);
    for (stage, count, parts) in cases {
        let (_, graph) = graphs.iter().find(|(found, _)| *found == stage).expect("all are there");
        let found = broken(graph, QNN, &extents([16, 16], 2));
        assert_eq!(found.len(), count, "{stage}: {found:#?}");
        for part in parts {
            assert!(found.iter().any(|broken| broken.contains(part)), "{stage}: {found:#?}");
        }
    }
    // A graph of floats is none of integers.
    assert!(!torn(&graphs[2].1).is_empty());
}

impl At<'_> {
    /// The integers that an input is made of, if it is.
    fn integers(&self, input: usize) -> Option<Dtype> {
        let made = self.graph.maker(self.node.inputs.get(input)?)?;
        let is_rounded = made.op == "DequantizeLinear";
        is_rounded.then(|| self.graph.value(&made.inputs[0]).dtype)
    }

    fn rank(&self, input: usize) -> usize {
        self.inputs[input].shape.len()
    }
}
