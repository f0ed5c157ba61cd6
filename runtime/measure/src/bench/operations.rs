//! How many operations a graph takes: its nodes say what is multiplied, a profile of its runs says
//! how much. Runs nothing itself.
//!
//! A multiply-add is two operations. Matrix products and convolutions count, everything else does
//! not: it is well below a hundredth of them.

use std::collections::{BTreeMap, BTreeSet};

use pocketmuse_package::{
    onnx,
    wire::{Field, for_each, numbers},
};
use serde::Deserialize;

/// Graphs inside graphs inside graphs are deep enough.
const DEEPEST: usize = 3;

/// A linear layer as it is run: rows, inputs and outputs of its product.
pub(super) type Layer = [usize; 3];

/// What a graph takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operations {
    /// All products.
    pub(super) total: u64,
    /// The linear layers, products with a constant matrix, and how often each is run.
    pub(super) layers: BTreeMap<Layer, u64>,
}

/// The products of a graph, those of loops inside it included.
#[derive(Debug, Default)]
pub(super) struct Products<'a> {
    /// By the names of their nodes.
    nodes: BTreeMap<&'a str, Product<'a>>,
    /// Extents of the constants.
    constants: BTreeMap<&'a str, Vec<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Product<'a> {
    kind: Kind,
    weight: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Matrix,
    Convolution,
}

/// What ONNX Runtime writes of a run of a node, as far as it counts.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Shapes,
}

#[derive(Default, Deserialize)]
struct Shapes {
    /// One type and its extents for each input.
    #[serde(default)]
    input_type_shape: Vec<BTreeMap<String, Vec<usize>>>,
    #[serde(default)]
    output_type_shape: Vec<BTreeMap<String, Vec<usize>>>,
}

/// As many events are kept of a profile, and no more: what is longer has lost some.
const MOST_EVENTS: usize = 1_000_000;

impl<'a> Products<'a> {
    /// The products of an ONNX model; `None` if the bytes are not one.
    pub(super) fn of(model: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        for_each(model, |number, field| match (number, field) {
            (onnx::model::GRAPH, Field::Bytes(graph)) => found.add(graph, 0),
            _ => Some(()),
        })?;
        Some(found)
    }

    fn add(&mut self, graph: &'a [u8], depth: usize) -> Option<()> {
        for_each(graph, |number, field| match (number, field) {
            (onnx::graph::NODE, Field::Bytes(node)) => self.add_node(node, depth),
            (onnx::graph::INITIALIZER, Field::Bytes(tensor)) => {
                self.constants.extend([constant(tensor)?]);
                Some(())
            }
            _ => Some(()),
        })
    }

    fn add_node(&mut self, node: &'a [u8], depth: usize) -> Option<()> {
        let (mut inputs, mut name, mut op) = (Vec::new(), "", "");
        for_each(node, |number, field| {
            match (number, field) {
                (onnx::node::INPUT, Field::Bytes(input)) => {
                    inputs.push(std::str::from_utf8(input).ok()?)
                }
                (onnx::node::NAME, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
                (onnx::node::OP_TYPE, Field::Bytes(text)) => op = std::str::from_utf8(text).ok()?,
                (onnx::node::ATTRIBUTE, Field::Bytes(attribute)) if depth < DEEPEST => {
                    for_each(attribute, |number, field| match (number, field) {
                        (onnx::attribute::G, Field::Bytes(graph)) => self.add(graph, depth + 1),
                        _ => Some(()),
                    })?
                }
                _ => {}
            }
            Some(())
        })?;
        // Where the second operand is: after the first, or after its scale and zero point too.
        let (kind, weight) = match op {
            "MatMul" | "MatMulInteger" | "MatMulNBits" => (Kind::Matrix, 1),
            "QLinearMatMul" => (Kind::Matrix, 3),
            "Conv" | "ConvInteger" => (Kind::Convolution, 1),
            "QLinearConv" => (Kind::Convolution, 3),
            _ => return Some(()),
        };
        self.nodes.insert(name, Product { kind, weight: inputs.get(weight)? });
        Some(())
    }

    /// Counts the operations of all runs in a profile; what is missing, if anything is.
    pub(super) fn count(&self, profile: &str) -> Result<Operations, String> {
        let events: Vec<Event> = serde_json::from_str(profile)
            .map_err(|error| format!("expected a profile: {error}"))?;
        if events.len() >= MOST_EVENTS {
            return Err(format!(
                "expected fewer than {MOST_EVENTS} events, found {}: bench fewer steps",
                events.len()
            ));
        }
        let (mut sum, mut seen) = (Operations::default(), BTreeSet::new());
        for Event { name, args } in &events {
            let Some((name, node)) =
                name.strip_suffix("_kernel_time").and_then(|name| self.nodes.get_key_value(name))
            else {
                continue;
            };
            self.count_run(*node, args, &mut sum)
                .ok_or_else(|| format!("expected the shapes of {name}, found others"))?;
            seen.insert(*name);
        }
        match self.nodes.keys().find(|name| !seen.contains(*name)) {
            Some(name) => Err(format!("expected a run of {name}, found none")),
            None => Ok(sum),
        }
    }

    fn count_run(&self, node: Product<'_>, shapes: &Shapes, sum: &mut Operations) -> Option<()> {
        let first =
            |shapes: &'_ [BTreeMap<String, Vec<usize>>]| shapes.first()?.values().next().cloned();
        let product =
            |extents: &[usize]| extents.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent));
        let output = first(&shapes.output_type_shape)?;
        let constant = self.constants.get(node.weight);
        let inner = match node.kind {
            Kind::Matrix => *first(&shapes.input_type_shape)?.last()?,
            Kind::Convolution => product(constant?.get(1..)?)?,
        };
        let values = product(&output)?;
        sum.total =
            sum.total.checked_add(2u64.checked_mul((values as u64).checked_mul(inner as u64)?)?)?;
        if node.kind == Kind::Matrix && constant.is_some() {
            let columns = *output.last()?;
            *sum.layers.entry([values.checked_div(columns)?, inner, columns]).or_default() += 1;
        }
        Some(())
    }
}

/// The name and the extents of a `TensorProto`.
fn constant(tensor: &[u8]) -> Option<(&str, Vec<usize>)> {
    let (mut name, mut extents) = ("", Vec::new());
    for_each(tensor, |number, field| {
        match (number, field) {
            (onnx::tensor::DIMS, field) => numbers(field, &mut extents)?,
            (onnx::tensor::NAME, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
            _ => {}
        }
        Some(())
    })?;
    let extents =
        extents.into_iter().map(|extent| usize::try_from(extent).ok()).collect::<Option<_>>()?;
    Some((name, extents))
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::wire::Message;

    use super::*;

    fn node(name: &str, op: &str, inputs: &[&str]) -> Message {
        let mut node = Message::default();
        for input in inputs {
            node.text(onnx::node::INPUT, input);
        }
        node.text(onnx::node::OUTPUT, "made")
            .text(onnx::node::NAME, name)
            .text(onnx::node::OP_TYPE, op);
        node
    }

    fn constant(name: &str, extents: &[u64]) -> Message {
        let mut tensor = Message::default();
        for extent in extents {
            tensor.number(onnx::tensor::DIMS, *extent);
        }
        tensor.number(onnx::tensor::DATA_TYPE, 1).text(onnx::tensor::NAME, name);
        tensor
    }

    fn graph(nodes: &[Message], constants: &[Message]) -> Message {
        let mut graph = Message::default();
        for node in nodes {
            graph.message(onnx::graph::NODE, node);
        }
        for tensor in constants {
            graph.message(onnx::graph::INITIALIZER, tensor);
        }
        graph
    }

    /// A scan with a convolution inside, among other products.
    fn model() -> Vec<u8> {
        let body =
            graph(&[node("inside", "QLinearConv", &["p", "ps", "pz", "kernel8", "ks", "kz"])], &[]);
        let (mut attribute, mut repeat) = (Message::default(), node("scan", "Scan", &["rounds"]));
        attribute.text(onnx::attribute::NAME, "body").message(onnx::attribute::G, &body);
        repeat.message(onnx::node::ATTRIBUTE, &attribute);
        let nodes = [
            node("linear", "MatMul", &["x", "w"]),
            node("integer", "MatMulInteger", &["u8", "s8", "zero"]),
            node("scores", "MatMul", &["y", "key"]),
            node("sum", "Add", &["y", "y8"]),
            node("conv", "Conv", &["planes", "kernel"]),
            repeat,
        ];
        let extents: [(&str, &[u64]); 4] = [
            ("w", &[8, 4]),
            ("s8", &[8, 4]),
            ("kernel", &[6, 1, 3, 3]),
            ("kernel8", &[2, 3, 1, 1]),
        ];
        let mut model = Message::default();
        model.number(onnx::model::IR_VERSION, 10).message(
            onnx::model::GRAPH,
            &graph(&nodes, &extents.map(|(name, extents)| constant(name, extents))),
        );
        model.into_bytes()
    }

    fn event(name: &str, input: &[usize], output: &[usize]) -> serde_json::Value {
        serde_json::json!({"cat": "Node", "name": format!("{name}_kernel_time"), "dur": 3, "args": {
            "op_name": "any",
            "input_type_shape": [{"float": input}],
            "output_type_shape": [{"float": output}],
        }})
    }

    fn events() -> Vec<serde_json::Value> {
        vec![
            serde_json::json!({"cat": "Session", "name": "model_run", "args": {}}),
            event("linear", &[2, 5, 8], &[2, 5, 4]),
            event("integer", &[2, 5, 8], &[2, 5, 4]),
            event("scores", &[2, 5, 4], &[2, 5, 7]),
            event("sum", &[2, 5, 4], &[2, 5, 4]),
            event("conv", &[1, 6, 10, 10], &[1, 6, 10, 10]),
            event("inside", &[1, 5, 10, 3], &[1, 5, 10, 2]),
            event("inside", &[1, 5, 10, 3], &[1, 5, 10, 2]),
        ]
    }

    fn profile(events: &[serde_json::Value]) -> String {
        serde_json::to_string(events).expect("plain data")
    }

    #[test]
    fn products_count_each_time_they_run_and_constant_matrices_are_layers() {
        let model = model();
        let layers = 2 * (10 * 8 * 4); // [10, 8] by [8, 4], twice
        let attention = 10 * 4 * 7;
        // The first one's channels are by themselves, the second's runs twice.
        let convolutions = 600 * 9 + 2 * 100 * 3;
        let expected = Operations {
            total: 2 * (layers + attention + convolutions),
            layers: [([10, 8, 4], 2)].into(),
        };
        assert_eq!(Products::of(&model).expect("a model").count(&profile(&events())), Ok(expected));
    }

    #[test]
    fn what_is_missing_is_not_passed_over() {
        let model = model();
        let products = Products::of(&model).expect("a model");
        for name in ["linear", "integer", "scores", "conv", "inside"] {
            let without: Vec<_> = events()
                .into_iter()
                .filter(|event| event["name"] != format!("{name}_kernel_time"))
                .collect();
            let expected = format!("expected a run of {name}, found none");
            assert_eq!(products.count(&profile(&without)), Err(expected));
        }
        let huge = [events(), vec![event("conv", &[1], &[usize::MAX, 2])]].concat();
        assert_eq!(
            products.count(&profile(&huge)),
            Err("expected the shapes of conv, found others".to_owned())
        );
        assert!(
            products.count("no profile").expect_err("none").starts_with("expected a profile: ")
        );
        assert!(Products::of(b"no model").is_none());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(at in 0usize..500, byte: u8) {
            let mut model = model();
            let at = at % model.len();
            model[at] = byte;
            if let Some(products) = Products::of(&model) {
                let _ = products.count(&profile(&events()));
            }
        }
    }
}
