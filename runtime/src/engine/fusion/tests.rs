mod floats;

use pocketmuse_package::onnx;
use proptest::prelude::*;

use super::*;
use crate::engine::rewrite::value_info;

/// A constant inside the graph.
fn constant(name: &str, element: u64, dims: &[u64], values: &[u8]) -> Message {
    let mut tensor = Message::default();
    for &extent in dims {
        tensor.number(onnx::tensor::DIMS, extent);
    }
    tensor.number(onnx::tensor::DATA_TYPE, element).text(onnx::tensor::NAME, name);
    tensor.bytes(onnx::tensor::RAW_DATA, values);
    tensor
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let inputs: Vec<Name<'_>> = inputs.iter().map(|name| name.as_bytes()).collect();
    let mut node = Message::default();
    for name in &inputs {
        node.bytes(onnx::node::INPUT, name);
    }
    node.text(onnx::node::OUTPUT, output).text(onnx::node::OP_TYPE, operator);
    node
}

fn value(name: &str) -> Message {
    let mut value = Message::default();
    value.text(onnx::value_info::NAME, name);
    value
}

/// The activation of some rows of `x`, from `scale` and `shift` outside, padded; and what reads it.
fn activation() -> Vec<Message> {
    vec![
        node("Slice", &["x", "start", "end", "rows"], "some"),
        node("DequantizeLinear", &["some", "one", "middle"], "units"),
        node("Mul", &["units", "scale"], "scaled"),
        node("Add", &["scaled", "shift"], "normal"),
        node("Sigmoid", &["normal"], "gate"),
        node("Mul", &["normal", "gate"], "active"),
        node("QuantizeLinear", &["active", "step", "zero"], "bytes"),
        node("Pad", &["bytes", "pads", "zero"], "framed"),
        node("QLinearConv", &["framed"], "y"),
    ]
}

/// A model whose `Scan` has `nodes` in it.
fn model_of(nodes: &[Message]) -> Vec<u8> {
    let [mut body, mut graph, mut attribute, mut scan, mut model] =
        [(); 5].map(|()| Message::default());
    for node in nodes {
        body.message(onnx::graph::NODE, node);
    }
    body.message(onnx::graph::OUTPUT, &value("y"));
    attribute.text(onnx::attribute::NAME, "body").message(onnx::attribute::G, &body);
    scan.text(onnx::node::INPUT, "count").text(onnx::node::OUTPUT, "z");
    scan.text(onnx::node::OP_TYPE, "Scan").message(onnx::node::ATTRIBUTE, &attribute);
    let (one, shape) = (1f32.to_le_bytes(), 2i64.to_le_bytes());
    let minus = [-1i64, 2].map(i64::to_le_bytes).concat();
    for constant in [
        constant("one", 1, &[], &one),
        constant("middle", 2, &[], &[128]),
        constant("step", 1, &[], &0.5f32.to_le_bytes()),
        constant("zero", 2, &[], &[7]),
        constant("rows", 7, &[1], &1i64.to_le_bytes()),
        constant("pixels", 7, &[1], &0i64.to_le_bytes()),
        constant("two", 7, &[1], &shape),
        constant("flat", 7, &[2], &minus),
        constant("factor", 1, &[2], &[0; 8]),
        constant("table", 1, &[2, 2], &[0; 16]),
    ] {
        graph.message(onnx::graph::INITIALIZER, &constant);
    }
    for (from, to) in [("grouped", "scale"), ("grouped.1", "shift")] {
        graph.message(onnx::graph::NODE, &node("Reshape", &[from, "two"], to));
    }
    graph.message(onnx::graph::NODE, &scan).message(onnx::graph::OUTPUT, &value("z"));
    model.message(onnx::model::GRAPH, &graph);
    model.into_bytes()
}

/// The operators of a model and those inside them, each with what it reads.
fn operators(model: &[u8]) -> Vec<String> {
    fn of(graph: &[u8], indent: &str, found: &mut Vec<String>) {
        for node in Scope::read(graph, None).expect("a graph").nodes {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let inputs: Vec<_> = node.inputs.iter().map(|name| text(name)).collect();
            let operator = operator_of(&node.message().expect("a node").into_bytes());
            found.push(format!("{indent}{operator}({})", inputs.join(" ")));
            node.body.iter().for_each(|body| of(body, "  ", found));
        }
    }
    let mut found = Vec::new();
    for_each(model, |number, field| {
        if let (onnx::model::GRAPH, Field::Bytes(graph)) = (number, field) {
            of(graph, "", &mut found);
        }
        Some(())
    });
    found
}

/// Its name, whatever its domain.
fn operator_of(node: &[u8]) -> String {
    let mut found = String::new();
    for_each(node, |number, field| {
        if let (onnx::node::OP_TYPE, Field::Bytes(name)) = (number, field) {
            found = String::from_utf8_lossy(name).into_owned();
        }
        Some(())
    });
    found
}

#[test]
fn an_activation_becomes_a_table_that_is_made_once() {
    let model = with_own_operators(&model_of(&activation()), &[]).expect("found");
    let expected = [
        "Reshape(grouped two)",
        "Reshape(grouped.1 two)",
        "DequantizeLinear(own.all_bytes one middle)",
        "Reshape(scale own.column)",
        "Reshape(shift own.column)",
        "Mul(framed.units framed.scales)",
        "Add(framed.scaled framed.shifts)",
        "Sigmoid(framed.normal)",
        "Mul(framed.normal framed.gate)",
        "QuantizeLinear(framed.active step zero)",
        "Scan(count)",
        "  Lookup(x framed.table start end pads zero)",
        "  QLinearConv(framed)",
    ];
    assert_eq!(operators(&model), expected);
}

#[test]
fn an_activation_in_floats_becomes_planes() {
    let [mut attribute, mut transpose] = [(); 2].map(|()| Message::default());
    attribute.text(onnx::attribute::NAME, "perm");
    for axis in [0, 3, 1, 2] {
        attribute.number(onnx::attribute::INTS, axis);
    }
    transpose.text(onnx::node::INPUT, "framed").text(onnx::node::OUTPUT, "planes");
    transpose.text(onnx::node::OP_TYPE, "Transpose");
    transpose.message(onnx::node::ATTRIBUTE, &attribute);
    let mut nodes = activation();
    nodes.truncate(6);
    let rest = [
        node("Pad", &["active", "pads", "one"], "framed"),
        transpose,
        node("Conv", &["planes"], "y"),
    ];
    nodes.extend(rest);
    let model = with_own_operators(&model_of(&nodes), &[]).expect("found");
    let expected = [
        "Reshape(grouped two)",
        "Reshape(grouped.1 two)",
        "DequantizeLinear(own.all_bytes one middle)",
        "Reshape(scale own.column)",
        "Reshape(shift own.column)",
        "Mul(planes.units planes.scales)",
        "Add(planes.scaled planes.shifts)",
        "Sigmoid(planes.normal)",
        "Mul(planes.normal planes.gate)",
        "Scan(count)",
        "  LookupFloats(x planes.active start end pads one)",
        "  Conv(planes)",
    ];
    assert_eq!(operators(&model), expected);
}

#[test]
fn a_sum_of_images_and_the_sums_of_pixels_become_one_node_each() {
    let nodes = [
        node("Slice", &["x", "start", "end", "rows"], "some"),
        node("DequantizeLinear", &["some", "one", "middle"], "a"),
        node("DequantizeLinear", &["b.u8", "one", "middle"], "b"),
        node("Mul", &["b", "factor"], "scaled"),
        node("Add", &["a", "scaled"], "sum"),
        node("QuantizeLinear", &["sum", "one", "middle"], "y"),
        node("Reshape", &["y", "flat"], "matrix"),
        node("DequantizeLinear", &["matrix", "one", "middle"], "units"),
        node("Mul", &["units", "units"], "squares"),
        node("ReduceSum", &["units", "pixels"], "first"),
        node("ReduceSum", &["squares", "pixels"], "second"),
        node("Concat", &["first", "second"], "both"),
        node("Identity", &["both"], "y"),
    ];
    let model = with_own_operators(&model_of(&nodes), &[]).expect("found");
    let expected = [
        "Reshape(grouped two)",
        "Reshape(grouped.1 two)",
        "Scan(count)",
        "  ScaledAddition(b.u8 x factor  start end)",
        "  Reshape(y flat)",
        "  Statistics(matrix)",
        "  Concat(first second)",
        "  Identity(both)",
    ];
    assert_eq!(operators(&model), expected);
}

/// A loop over `count`, which gives `output` as bytes.
fn scan(nodes: &[Message], inputs: &[&str], output: &str) -> Message {
    let [mut body, mut attribute] = [(); 2].map(|()| Message::default());
    for node in nodes {
        body.message(onnx::graph::NODE, node);
    }
    body.message(onnx::graph::OUTPUT, &value_info(b"y", BYTE, None));
    attribute.text(onnx::attribute::NAME, "body").message(onnx::attribute::G, &body);
    let mut scan = node("Scan", inputs, output);
    scan.message(onnx::node::ATTRIBUTE, &attribute);
    scan
}

/// Which loops of these nodes read rows of `x` for the last time, by the names of their outputs.
fn last_readers(nodes: &[Message]) -> Vec<String> {
    let [mut graph, mut model] = [(); 2].map(|()| Message::default());
    graph.message(onnx::graph::INITIALIZER, &constant("rows", 7, &[1], &1i64.to_le_bytes()));
    for node in nodes {
        graph.message(onnx::graph::NODE, node);
    }
    graph.message(onnx::graph::OUTPUT, &value("z"));
    let model = model.message(onnx::model::GRAPH, &graph).clone().into_bytes();
    let found = with_own_operators(&model, &[]).map(|model| operators(&model)).unwrap_or_default();
    let is_last = |at: &usize| found[*at] == "  LastRows(x start end)";
    let lasts = (0..found.len()).filter(is_last);
    lasts
        .map(|at| {
            found[..at].iter().rfind(|told| told.starts_with("Scan")).cloned().expect("a loop")
        })
        .collect()
}

#[test]
fn rows_go_with_the_loop_that_reads_them_last() {
    let slice = || node("Slice", &["x", "start", "end", "rows"], "some");
    let reads = || [slice(), node("Identity", &["some"], "y")];
    let makes_x = || [scan(&[], &["n"], "parts"), node("Reshape", &["parts", "shape"], "x")];
    let found = |rest: &[Message]| last_readers(&[&makes_x()[..], rest].concat());
    let (first, second) = (scan(&reads(), &["n"], "a"), scan(&reads(), &["a"], "z"));
    assert_eq!(found(&[first.clone(), second.clone()]), ["Scan(a)"]);
    assert_eq!(found(&[second.clone(), first.clone()]), ["Scan(a)"], "whatever order they are in");
    let beside = scan(&reads(), &["n"], "b");
    assert_eq!(found(&[beside, first.clone(), second.clone()]), [""; 0], "who is last?");
    let shape = node("Shape", &["x"], "b");
    assert_eq!(found(&[shape, first.clone(), second.clone()]), [""; 0], "another kind of reader");
    let other = node("Neg", &["parts"], "b");
    assert_eq!(found(&[other, first.clone(), second]), [""; 0], "the same memory");
    let twice = [&reads()[..], &[node("Neg", &["x"], "w")]].concat();
    assert_eq!(found(&[first.clone(), scan(&twice, &["a"], "z")]), [""; 0], "in two places");
    let as_output = node("Identity", &["x"], "z");
    assert_eq!(found(&[first, as_output]), [""; 0], "what the graph gives");
    let input = last_readers(&[scan(&reads(), &["n"], "z")]);
    assert_eq!(input, [""; 0], "what the graph is given");
}

#[test]
fn what_is_not_quite_so_stays() {
    let changed = |from: &str, to: &str, other: &str| {
        let mut nodes = activation();
        let at = nodes.iter().position(|node| {
            let node = node.clone().into_bytes();
            node.windows(from.len()).any(|window| window == from.as_bytes())
        });
        nodes[at.expect("a node")] = node(to, &other.split(' ').collect::<Vec<_>>(), from);
        with_own_operators(&model_of(&nodes), &[])
    };
    for (output, operator, inputs) in [
        ("scaled", "Mul", "units table"), // one for each pixel, or whatever
        ("scaled", "Mul", "units unknown"),
        ("normal", "Sub", "scaled shift"),
        ("gate", "Sigmoid", "scaled"),
        ("units", "DequantizeLinear", "some factor middle"), // a step for each channel
        ("units", "DequantizeLinear", "some one rows"),      // no bytes
    ] {
        let found = changed(output, operator, inputs);
        assert_eq!(found, None, "{output} = {operator}({inputs})");
    }
    assert!(changed("framed", "Identity", "bytes").is_some(), "a table without what is padded");
    assert_eq!(with_own_operators(&model_of(&[]), &[]), None, "nothing to find");
    assert_eq!(with_own_operators(b"\xff\xff\xff", &[]), None, "no model");
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = with_own_operators(&bytes, &[]);
    }

    #[test]
    fn never_panics_on_a_model_that_was_changed(
        at in 0usize..2000, byte in any::<u8>(), cut in 0usize..4000,
    ) {
        let mut model = model_of(&activation());
        let length = model.len();
        model[at % length] = byte;
        model.truncate(cut.max(at));
        let _ = with_own_operators(&model, &[]);
    }
}
