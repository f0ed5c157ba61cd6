//! Passes over floats, and attention.

use pocketmuse_package::onnx;

use super::*;
use crate::engine::operators::makes_attention_of;

/// A node that works on the last axis and says so.
fn of_last_axis(operator: &str, input: &str, outputs: [&str; 2]) -> Message {
    let mut axis = Message::default();
    axis.text(onnx::attribute::NAME, "axis").number(onnx::attribute::I, u64::MAX);
    let mut node = node(operator, &[input], outputs[0]);
    node.text(onnx::node::OUTPUT, outputs[1]).message(onnx::node::ATTRIBUTE, &axis);
    node
}

/// Nodes in a row, as `output = Operator(inputs)`.
fn nodes(told: &[&str]) -> Vec<Message> {
    let one = |told: &&str| {
        let (output, call) = told.split_once(" = ").expect("an output");
        let (operator, inputs) =
            call.strip_suffix(')').expect("a call").split_once('(').expect("it");
        node(operator, &inputs.split(' ').collect::<Vec<_>>(), output)
    };
    told.iter().map(one).collect()
}

/// What becomes of nodes that make `z`.
fn made_of(nodes: &[Message], watched: &[&str]) -> Vec<String> {
    let [mut graph, mut model] = [(); 2].map(|()| Message::default());
    for (name, value) in [("half", 0.5), ("one", 1.0), ("two", 2.0), ("root", 2f32.sqrt())] {
        graph.message(onnx::graph::INITIALIZER, &constant(name, 1, &[], &value.to_le_bytes()));
    }
    let [last, first] = [-1i64, 0].map(i64::to_le_bytes);
    graph.message(onnx::graph::INITIALIZER, &constant("last", 7, &[1], &last));
    graph.message(onnx::graph::INITIALIZER, &constant("first", 7, &[1], &first));
    let [heads, all] = [vec![0i64, 0, 2, 64], vec![0, 0, -1]];
    for (name, shape) in [("heads", heads), ("all", all)] {
        let values: Vec<u8> = shape.iter().flat_map(|extent| extent.to_le_bytes()).collect();
        let dims = [shape.len() as u64];
        graph.message(onnx::graph::INITIALIZER, &constant(name, 7, &dims, &values));
    }
    graph.message(onnx::graph::INITIALIZER, &constant("weight", 1, &[9], &[0; 36]));
    graph.message(onnx::graph::INITIALIZER, &constant("epsilon", 1, &[], &[0; 4]));
    for node in nodes {
        graph.message(onnx::graph::NODE, node);
    }
    graph.message(onnx::graph::OUTPUT, &value("z"));
    let model = model.message(onnx::model::GRAPH, &graph).clone().into_bytes();
    let watched: Vec<_> = watched.iter().map(|name| name.as_bytes()).collect();
    operators(&with_own_operators(&model, &watched).unwrap_or(model))
}

/// An RMS norm of `x`, modulated.
const NORM: [&str; 8] = [
    "squared = Pow(x two)",
    "mean = ReduceMean(squared last)",
    "shifted = Add(mean epsilon)",
    "length = Sqrt(shifted)",
    "normal = Div(x length)",
    "weighed = Mul(normal weight)",
    "scaled = Mul(weighed scale)",
    "z = Add(scaled shift)",
];

/// The GELU of `x`.
const GELU: [&str; 5] = [
    "divided = Div(x root)",
    "erf = Erf(divided)",
    "more = Add(erf one)",
    "product = Mul(x more)",
    "gelu = Mul(product half)",
];

#[test]
fn a_modulated_norm_is_one_pass() {
    let inputs = "x weight epsilon scale shift";
    assert_eq!(made_of(&nodes(&NORM), &[]), [format!("ModulatedRmsNorm({inputs})")]);
    let centre = ["mean_of_y = ReduceMean(y last)", "x = Sub(y mean_of_y)"];
    let layer = nodes(&[&centre[..], &NORM].concat());
    let inputs = "y weight epsilon scale shift";
    assert_eq!(made_of(&layer, &[]), [format!("ModulatedLayerNorm({inputs})")]);
    let other = ["mean_of_y = ReduceMean(y first)", "x = Sub(y mean_of_y)"];
    let found = made_of(&nodes(&[&other[..], &NORM].concat()), &[]);
    assert_eq!(found[2], "ModulatedRmsNorm(x weight epsilon scale shift)", "{found:?}");
    assert_eq!(found.len(), 3, "what is subtracted is no mean of a row: {found:?}");
}

#[test]
fn values_that_are_watched_are_made_beside_it() {
    let found = made_of(&nodes(&NORM), &["weighed"]);
    let kept = ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "ModulatedRmsNorm"];
    let begins = |(found, kept): (&String, &&str)| found.starts_with(&format!("{kept}("));
    assert!(found.len() == kept.len() && found.iter().zip(&kept).all(begins), "{found:?}");
}

#[test]
fn a_norm_that_is_not_quite_so_stays() {
    for (at, other) in [
        (0, "squared = Pow(y two)"),
        (0, "squared = Pow(x one)"),
        (1, "mean = ReduceMean(squared first)"),
        (4, "normal = Div(length x)"),
        (6, "scaled = Mul(weighed weight)"), // a constant is no scale of a branch
        (6, "scaled = Mul(weighed mean)"),
        (7, "z = Sub(scaled shift)"),
    ] {
        let mut told = NORM;
        told[at] = other;
        let found = made_of(&nodes(&told), &[]);
        assert_eq!(found.len(), NORM.len(), "{other}: {found:?}");
    }
}

#[test]
fn gelu_of_one_half_gates_the_other() {
    let split = of_last_axis("Split", "both", ["gate", "x"]);
    let gated = |split: Message, last: &str| {
        let rest = nodes(&[&GELU[..], &[last]].concat());
        made_of(&[&[split][..], &rest].concat(), &[])
    };
    assert_eq!(gated(split.clone(), "z = Mul(gate gelu)"), ["GatedGelu(both)"]);
    let halves = ["Split(both)", "Gelu(x)", "Mul(gate gelu)"];
    let swapped = of_last_axis("Split", "both", ["x", "gate"]);
    assert_eq!(gated(swapped, "z = Mul(gate gelu)"), halves, "the other half");
    let mut other_axis = node("Split", &["both"], "gate");
    other_axis.text(onnx::node::OUTPUT, "x");
    assert_eq!(gated(other_axis, "z = Mul(gate gelu)"), halves, "axis 0");
    assert_eq!(gated(split, "z = Sub(gate gelu)")[1], "Gelu(x)");
    for (at, other) in [(0, "divided = Div(x two)"), (3, "product = Mul(y more)")] {
        let mut told = GELU;
        told[at] = other;
        let told = nodes(&[&told[..], &["z = Mul(gate gelu)"]].concat());
        assert_eq!(made_of(&told, &[]).len(), told.len(), "{other}");
    }
}

/// A node that brings axes into an order.
fn transposed(input: &str, order: [u64; 4], output: &str) -> Message {
    let mut attribute = Message::default();
    attribute.text(onnx::attribute::NAME, "perm");
    for axis in order {
        attribute.number(onnx::attribute::INTS, axis);
    }
    let mut node = node("Transpose", &[input], output);
    node.message(onnx::node::ATTRIBUTE, &attribute);
    node
}

/// What becomes of attention, and how many nodes it had: of `parts` to themselves, or of `q` to keys
/// and values that are given. `order` is that of joined heads.
fn attention(is_of_itself: bool, order: [u64; 4]) -> (Vec<String>, usize) {
    let apart = |input: &str, order| {
        let whole = format!("{input}.apart");
        [node("Reshape", &[input, "heads"], &whole), transposed(&whole, order, &input.repeat(2))]
    };
    let mut made: Vec<Message> = match is_of_itself {
        true => {
            let mut split = of_last_axis("Split", "parts", ["q", "k"]);
            split.text(onnx::node::OUTPUT, "v");
            [vec![split], apart("k", [0, 2, 3, 1]).into(), apart("v", [0, 2, 1, 3]).into()].concat()
        }
        false => nodes(&["kk = Cast(keys)", "vv = Cast(values)"]),
    };
    made.extend(apart("q", [0, 2, 1, 3]));
    made.extend(nodes(&["scores = MatMul(qq kk)"]));
    made.push(of_last_axis("Softmax", "scores", ["weights", "unused"]));
    made.extend(nodes(&["mixed = MatMul(weights vv)"]));
    made.push(transposed("mixed", order, "joined"));
    made.extend(nodes(&["z = Reshape(joined all)"]));
    (made_of(&made, &[]), made.len())
}

#[test]
fn attention_is_one_node_where_the_processor_can() {
    if !makes_attention_of(64) {
        println!("skipped: attention is one node: no AVX-512 here");
        return;
    }
    let joined = [0, 2, 1, 3];
    assert_eq!(attention(true, joined).0, ["SelfAttention(parts heads)"]);
    let crossed = ["Cast(keys)", "Cast(values)", "CrossAttention(q kk vv)"];
    assert_eq!(attention(false, joined).0, crossed);
    for is_of_itself in [true, false] {
        let (found, count) = attention(is_of_itself, [0, 1, 2, 3]);
        assert_eq!(found.len(), count, "heads that are not joined: {found:?}");
    }
}
