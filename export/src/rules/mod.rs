//! What providers take, and that the portable form keeps to it: each rule with where it was read.
//!
//! Sources are those of ONNX Runtime (github.com/microsoft/onnxruntime) at 04f568d8: for Core ML
//! `tools/ci_build/github/apple/coreml_supported_mlprogram_ops.md`, called "list" here, and
//! `onnxruntime/core/providers/coreml/builders/impl`; for WebGPU
//! `onnxruntime/core/providers/webgpu/webgpu_execution_provider.cc`, called "kernels" here. What
//! WebGPU's plug-in 0.4.0 left on the CPU when it was tried is "tried".

mod qnn;
mod shapes;

use std::collections::BTreeMap;

use pocketmuse_package::{Dtype, Flavour, Stage};

use self::shapes::{Fixed, Known};
use crate::{
    checkpoint::Checkpoint,
    graph::{Graph, Node},
    networks::Networks,
};

/// What every node must keep to.
struct Rule {
    what: &'static str,
    source: &'static str,
    otherwise: Otherwise,
    keeps: fn(&At<'_>) -> bool,
}

/// What a provider does with a node that breaks a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// It leaves the node to others.
    Left,
    /// It takes the node, and computes something else.
    Wrong,
}

/// A node, and what is known of its inputs.
struct At<'a> {
    node: &'a Node,
    inputs: Vec<&'a Known>,
    graph: &'a Fixed<'a>,
}

impl At<'_> {
    fn is(&self, ops: &[&str]) -> bool {
        ops.contains(&self.node.op)
    }

    fn has_type(&self, input: usize, dtypes: &[Dtype]) -> bool {
        dtypes.contains(&self.inputs[input].dtype)
    }

    /// Whether all inputs from `first` on are constants.
    fn are_constants(&self, first: usize) -> bool {
        self.inputs[first..].iter().all(|input| input.is_constant)
    }
}

const FLOATS: [Dtype; 2] = [Dtype::F32, Dtype::F16];

const CORE_ML: &[Rule] = &[
    Rule {
        what: "an operator that has a builder",
        source: "list",
        otherwise: Otherwise::Left,
        keeps: |at| {
            at.is(&[
                "Add",
                "ArgMax",
                "BatchNormalization",
                "Cast",
                "Concat",
                "Conv",
                "Cos",
                "DepthToSpace",
                "Div",
                "Equal",
                "Erf",
                "Gather",
                "GatherND",
                "Gelu",
                "Identity",
                "InstanceNormalization",
                "LayerNormalization",
                "MatMul",
                "Mul",
                "Pow",
                "ReduceMean",
                "ReduceSum",
                "Reshape",
                "Shape",
                "Sigmoid",
                "Sin",
                "Softmax",
                "Split",
                "Sqrt",
                "Sub",
                "Transpose",
            ])
        },
    },
    Rule {
        what: "at most 5 axes",
        source: "base_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| at.inputs.iter().all(|input| input.shape.len() <= 5),
    },
    Rule {
        what: "floats, or i64 where shapes are computed",
        source: "base_op_builder.cc, HasSupportedInputsImpl",
        otherwise: Otherwise::Left,
        keeps: |at| {
            at.is(&["Gather", "Cast", "Equal"])
                || at.has_type(0, &[Dtype::F32, Dtype::F16, Dtype::I64])
        },
    },
    Rule {
        what: "Gather: rows of floats or i64 by i32 or i64",
        source: "gather_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| {
            !at.is(&["Gather"])
                || at.has_type(0, &[Dtype::F32, Dtype::F16, Dtype::I64])
                    && at.has_type(1, &[Dtype::I32, Dtype::I64])
        },
    },
    Rule {
        what: "GatherND: no batch axes",
        source: "gathernd_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["GatherND"]), // all that the builder makes have one
    },
    Rule {
        what: "Cast: of a computed value",
        source: "cast_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["Cast"]) || !at.graph.is_input(&at.node.inputs[0]),
    },
    Rule {
        what: "Equal: of floats, i32 or bool",
        source: "binary_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| {
            !at.is(&["Equal"]) || at.has_type(0, &[Dtype::F32, Dtype::F16, Dtype::I32, Dtype::Bool])
        },
    },
    Rule {
        what: "Pow: of f32",
        source: "binary_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["Pow"]) || at.has_type(0, &[Dtype::F32]),
    },
    Rule {
        what: "Reshape: to a constant shape",
        source: "reshape_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["Reshape"]) || at.are_constants(1),
    },
    Rule {
        what: "norms: constant scale and bias of the type of the values",
        source: "normalization_op_builder.cc, batch_norm_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| {
            let is_norm =
                at.is(&["LayerNormalization", "InstanceNormalization", "BatchNormalization"]);
            let dtype = at.inputs[0].dtype;
            !is_norm || at.are_constants(1) && at.inputs.iter().all(|input| input.dtype == dtype)
        },
    },
    Rule {
        what: "MatMul: of two axes or more",
        source: "gemm_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["MatMul"]) || at.inputs.iter().all(|input| input.shape.len() > 1),
    },
    Rule {
        what: "reductions: constant axes",
        source: "reduction_op_builder.cc",
        otherwise: Otherwise::Left,
        keeps: |at| !at.node.op.starts_with("Reduce") || at.are_constants(1),
    },
    Rule {
        what: "Conv: no side above 16,384",
        source: "builders/helper.cc, IsInputSupported",
        otherwise: Otherwise::Left,
        keeps: |at| !at.is(&["Conv"]) || at.inputs[0].shape.iter().all(|side| *side <= 16_384),
    },
];

const WEB_GPU: &[Rule] = &[
    Rule {
        what: "an operator that has a kernel",
        source: "kernels",
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
                "Div",
                "Equal",
                "Erf",
                "Gather",
                "GatherND",
                "Gelu",
                "Identity",
                "InstanceNormalization",
                "LayerNormalization",
                "MatMul",
                "Mul",
                "Pow",
                "ReduceL2",
                "ReduceMean",
                "ReduceSum",
                "ReduceSumSquare",
                "Reshape",
                "Sigmoid",
                "Sin",
                "Softmax",
                "Split",
                "Sqrt",
                "Sub",
                "Transpose",
            ])
        },
    },
    Rule {
        what: "no arithmetic of i64",
        source: "tried",
        otherwise: Otherwise::Left,
        keeps: |at| {
            !at.is(&["Add", "Sub", "Mul", "Div", "Concat", "Gather", "Equal", "Cast"])
                || !at.has_type(0, &[Dtype::I64])
        },
    },
    Rule {
        what: "values in floats, of ArgMax in i32, too",
        source: "kernels: WebGpuSupportedFloatTypes, WebGpuSupportedNumberTypes; tried",
        otherwise: Otherwise::Left,
        keeps: |at| {
            at.is(&["Cast", "Equal"])
                || at.has_type(0, &FLOATS)
                || at.is(&["ArgMax"]) && at.has_type(0, &[Dtype::I32])
        },
    },
];

/// Calls `found` with every node and every rule that it breaks.
fn each_broken(
    graph: &Graph,
    rules: &[Rule],
    extents: &BTreeMap<&str, usize>,
    mut found: impl FnMut(&Node, &Rule),
) {
    let fixed = Fixed::new(graph, extents);
    for node in &fixed.nodes {
        let inputs = node.inputs.iter().map(|name| fixed.value(name)).collect();
        let at = At { node, inputs, graph: &fixed };
        rules.iter().filter(|rule| !(rule.keeps)(&at)).for_each(|rule| found(node, rule));
    }
}

/// What breaks a rule: the node, its operator, the rule and its source.
fn broken(graph: &Graph, rules: &[Rule], extents: &BTreeMap<&str, usize>) -> Vec<String> {
    let mut broken = Vec::new();
    each_broken(graph, rules, extents, |node, rule| {
        broken
            .push(format!("{} ({}): expected {} [{}]", node.name, node.op, rule.what, rule.source));
    });
    broken
}

/// How many nodes of which operators a provider leaves, by its rules.
fn left(graph: &Graph, rules: &[Rule], extents: &BTreeMap<&str, usize>) -> BTreeMap<String, usize> {
    let mut nodes = BTreeMap::new();
    each_broken(graph, rules, extents, |node, rule| {
        if rule.otherwise == Otherwise::Left {
            nodes.insert(node.name.clone(), node.op);
        }
    });
    let mut left = BTreeMap::new();
    for op in nodes.into_values() {
        *left.entry(op.to_owned()).or_default() += 1;
    }
    left
}

const PROVIDERS: [(&str, &[Rule]); 2] = [("Core ML", CORE_ML), ("WebGPU", WEB_GPU)];

/// The graphs of a checkpoint that the repository holds.
fn graphs(checkpoint: &str, flavour: Flavour) -> Vec<(Stage, Graph)> {
    networks(checkpoint).graphs(flavour).expect("graphs")
}

fn networks(checkpoint: &str) -> Networks {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(checkpoint);
    let checkpoint = Checkpoint::open(&root).expect("a checkpoint");
    Networks::open(&checkpoint).expect("a checkpoint")
}

fn extents([height, width]: [usize; 2], branches: usize) -> BTreeMap<&'static str, usize> {
    let positions = height * width;
    [("height", height), ("width", width), ("branches", branches), ("positions", positions)]
        .into_iter()
        .chain([("batch", 1)])
        .collect()
}

#[test]
fn every_node_of_f16_is_one_that_core_ml_and_web_gpu_take() {
    for checkpoint in ["models/tiny-world", "tests/fixtures/tiny-256", "tests/fixtures/tiny-512"] {
        for (stage, graph) in graphs(checkpoint, Flavour::F16) {
            for (size, branches) in [([4, 4], 1), ([16, 16], 2), ([32, 32], 2), ([6, 14], 1)] {
                for (provider, rules) in PROVIDERS {
                    let broken = broken(&graph, rules, &extents(size, branches));
                    let at = format!("{provider}, {checkpoint}, {stage}, {size:?}");
                    assert!(broken.is_empty(), "{at}:\n{}", broken.join("\n"));
                }
            }
            let floats = graph.inputs.iter().chain(&graph.outputs);
            assert!(floats.clone().all(|spec| spec.dtype != Dtype::F32), "{checkpoint}, {stage}");
            let constants = graph.initializers.iter();
            assert!(constants.clone().all(|constant| constant.dtype() != Dtype::F32));
        }
    }
}

/// What providers leave to the CPU of the f32 flavour of models/tiny-world, stage by stage.
/// Tests with the real providers compare with the same file.
#[test]
fn the_rules_leave_what_the_providers_left() {
    type ByStage = BTreeMap<Stage, BTreeMap<String, usize>>;
    let all: BTreeMap<String, ByStage> =
        serde_json::from_str(include_str!("left.json")).expect("operators by stage");
    let rules: BTreeMap<&str, &[Rule]> =
        [("qnn", qnn::QNN), ("webgpu", WEB_GPU), ("openvino", &[][..])].into();
    assert_eq!(all.keys().collect::<Vec<_>>(), rules.keys().collect::<Vec<_>>());
    let graphs = graphs("models/tiny-world", Flavour::F32);
    for (provider, expected) in all {
        let of_stage = |(stage, graph): &(Stage, Graph)| {
            (*stage, left(graph, rules[&*provider], &extents([16, 16], 2)))
        };
        let found: ByStage = graphs.iter().map(of_stage).collect();
        assert_eq!(found, expected, "{provider}");
    }
}

/// What the rules find in f32, operator by operator.
#[test]
fn a_graph_that_leaves_the_rules_names_the_node_and_the_rule() {
    let found = |stage: Stage, rules: &[Rule]| {
        let graphs = graphs("models/tiny-world", Flavour::F32);
        let (_, graph) = graphs.iter().find(|(found, _)| *found == stage).expect("all are there");
        broken(graph, rules, &extents([16, 16], 2))
    };
    let cases: [(Stage, usize, &[&str]); 4] = [
        (Stage::TextEncoder, 4, &["(GatherND): expected GatherND: no batch axes", "(Equal): "]),
        (Stage::Step, 5, &["(ReduceL2): expected an operator", "(SpaceToDepth): "]),
        (Stage::Decoder, 42, &["(ReduceSumSquare): ", "(BatchNormalization): expected norms: "]),
        (Stage::Encoder, 27, &["(ReduceSumSquare): ", "(ArgMin): "]),
    ];
    for (stage, count, parts) in cases {
        let found = found(stage, CORE_ML);
        for part in parts {
            assert!(found.iter().any(|broken| broken.contains(part)), "{stage}: {found:#?}");
        }
        let nodes: std::collections::BTreeSet<_> =
            found.iter().filter_map(|broken| broken.split(' ').next()).collect();
        assert_eq!(nodes.len(), count, "{stage}: {found:#?}");
    }
    assert!(found(Stage::Prologue, CORE_ML).is_empty());
    let [space_to_depth] = &found(Stage::Step, WEB_GPU)[..] else { panic!("one") };
    assert!(space_to_depth.contains("(SpaceToDepth): expected an operator that has a kernel"));
    assert!(found(Stage::Decoder, WEB_GPU).is_empty());
}
