//! How many operations a graph takes, from its nodes and the shapes of their values. Runs nothing.
//!
//! A multiply-add is two operations. Matrix products and convolutions count, everything else does not: it is well below
//! a hundredth of them.

use std::collections::{BTreeMap, BTreeSet};

use pocketmuse_package::wire::{Field, for_each, numbers};

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

impl Operations {
    /// Adds what another run takes.
    pub(super) fn add(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        for (layer, count) in &other.layers {
            *self.layers.entry(*layer).or_default() += count;
        }
    }
}

/// The products of a graph: what must be known to count their operations.
#[derive(Debug)]
pub(super) struct Products<'a> {
    nodes: Vec<Product<'a>>,
    /// Extents of the constants.
    constants: BTreeMap<&'a str, Vec<usize>>,
}

#[derive(Debug)]
struct Product<'a> {
    kind: Kind,
    input: &'a str,
    weight: &'a str,
    output: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Matrix,
    Convolution,
}

impl<'a> Products<'a> {
    /// The products of an ONNX model; `None` if the bytes are not one.
    pub(super) fn of(model: &'a [u8]) -> Option<Self> {
        let mut found = Self { nodes: Vec::new(), constants: BTreeMap::new() };
        for_each(model, |number, field| {
            let (7, Field::Bytes(graph)) = (number, field) else { return Some(()) }; // ModelProto.graph
            for_each(graph, |number, field| {
                match (number, field) {
                    (1, Field::Bytes(node)) => found.nodes.extend(product(node)?), // GraphProto.node
                    (5, Field::Bytes(tensor)) => found.constants.extend([constant(tensor)?]), // GraphProto.initializer
                    _ => {}
                }
                Some(())
            })
        })?;
        Some(found)
    }

    /// The values whose extents [`Self::count`] must be told.
    pub(super) fn values(&self) -> Vec<&'a str> {
        let all = self.nodes.iter().flat_map(|node| match node.kind {
            Kind::Matrix => [node.input, node.output],
            Kind::Convolution => [node.weight, node.output],
        });
        all.filter(|name| !self.constants.contains_key(name)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Counts the operations; `None` if a value's extents are missing or the number is beyond all bounds.
    pub(super) fn count(&self, extents: &BTreeMap<String, Vec<usize>>) -> Option<Operations> {
        let mut sum = Operations::default();
        let extents = |name: &str| extents.get(name).or_else(|| self.constants.get(name));
        for node in &self.nodes {
            let output = extents(node.output)?;
            let products = match node.kind {
                Kind::Matrix => *extents(node.input)?.last()?,
                Kind::Convolution => {
                    extents(node.weight)?.get(1..)?.iter().try_fold(1, |n: usize, e| n.checked_mul(*e))?
                }
            };
            let values = output.iter().try_fold(1, |n: usize, extent| n.checked_mul(*extent))?;
            sum.total = sum.total.checked_add(2u64.checked_mul((values as u64).checked_mul(products as u64)?)?)?;
            if node.kind == Kind::Matrix && self.constants.contains_key(node.weight) {
                let columns = *output.last()?;
                let rows = values.checked_div(columns)?;
                *sum.layers.entry([rows, products, columns]).or_default() += 1;
            }
        }
        Some(sum)
    }
}

/// What a `NodeProto` multiplies; an inner `None` for a node that does not. An outer one if the bytes are not a node.
fn product(node: &[u8]) -> Option<Option<Product<'_>>> {
    let (mut inputs, mut outputs, mut op) = (Vec::new(), Vec::new(), "");
    for_each(node, |number, field| {
        match (number, field) {
            (1, Field::Bytes(name)) => inputs.push(std::str::from_utf8(name).ok()?),
            (2, Field::Bytes(name)) => outputs.push(std::str::from_utf8(name).ok()?),
            (4, Field::Bytes(name)) => op = std::str::from_utf8(name).ok()?,
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
        _ => return Some(None),
    };
    let (input, weight, output) = (inputs.first()?, inputs.get(weight)?, outputs.first()?);
    Some(Some(Product { kind, input, weight, output }))
}

/// The name and the extents of a `TensorProto`.
fn constant(tensor: &[u8]) -> Option<(&str, Vec<usize>)> {
    let (mut name, mut extents) = ("", Vec::new());
    for_each(tensor, |number, field| {
        match (number, field) {
            (1, field) => numbers(field, &mut extents)?,                       // dims
            (8, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?, // name
            _ => {}
        }
        Some(())
    })?;
    let extents = extents.into_iter().map(|extent| usize::try_from(extent).ok()).collect::<Option<_>>()?;
    Some((name, extents))
}
#[cfg(test)]
mod tests {
    use pocketmuse_package::wire::Message;

    use super::*;

    fn node(op: &str, inputs: &[&str], output: &str) -> Message {
        let mut node = Message::default();
        for input in inputs {
            node.text(1, input);
        }
        node.text(2, output).text(4, op);
        node
    }

    fn constant(name: &str, extents: &[u64]) -> Message {
        let mut tensor = Message::default();
        for extent in extents {
            tensor.number(1, *extent);
        }
        tensor.number(2, 1).text(8, name);
        tensor
    }

    fn model() -> Vec<u8> {
        let nodes = [
            node("MatMul", &["x", "w"], "y"),
            node("MatMulInteger", &["u8", "s8", "zero"], "y8"),
            node("MatMul", &["y", "key"], "scores"),
            node("Add", &["y", "y8"], "z"),
            node("Conv", &["planes", "kernel"], "more"),
            node("QLinearConv", &["p", "ps", "pz", "kernel8", "ks", "kz"], "q"),
        ];
        let constants = [
            constant("w", &[8, 4]),
            constant("s8", &[8, 4]),
            constant("kernel", &[6, 1, 3, 3]),
            constant("kernel8", &[2, 3, 1, 1]),
        ];
        let mut graph = Message::default();
        for node in &nodes {
            graph.message(1, node);
        }
        for tensor in &constants {
            graph.message(5, tensor);
        }
        let mut model = Message::default();
        model.number(1, 10).message(7, &graph);
        model.into_bytes()
    }

    fn extents() -> BTreeMap<String, Vec<usize>> {
        let known: [(&str, &[usize]); 8] = [
            ("x", &[2, 5, 8]),
            ("y", &[2, 5, 4]),
            ("u8", &[2, 5, 8]),
            ("y8", &[2, 5, 4]),
            ("scores", &[2, 5, 7]),
            ("more", &[1, 6, 10, 10]),
            ("q", &[1, 2, 10, 10]),
            ("z", &[2, 5, 4]),
        ];
        known.into_iter().map(|(name, extents)| (name.to_owned(), extents.to_vec())).collect()
    }

    #[test]
    fn products_count_and_constant_matrices_are_layers() {
        let model = model();
        let products = Products::of(&model).expect("a model");
        assert_eq!(products.values(), ["more", "q", "scores", "u8", "x", "y", "y8"]);
        let layers = 2 * (10 * 8 * 4); // [10, 8] by [8, 4], twice
        let attention = 10 * 4 * 7;
        let convolutions = 600 * 9 + 200 * 3; // the first one's channels are by themselves
        let expected = Operations { total: 2 * (layers + attention + convolutions), layers: [([10, 8, 4], 2)].into() };
        assert_eq!(products.count(&extents()), Some(expected));
    }

    #[test]
    fn what_is_not_known_is_not_counted() {
        let model = model();
        let products = Products::of(&model).expect("a model");
        for name in products.values() {
            let mut known = extents();
            known.remove(name);
            assert_eq!(products.count(&known), None, "{name}");
        }
        let mut huge = extents();
        huge.insert("more".to_owned(), vec![usize::MAX, 2]);
        assert_eq!(products.count(&huge), None);
        assert!(Products::of(b"no model").is_none());
    }

    #[test]
    fn sums_are_of_runs() {
        let model = model();
        let once = Products::of(&model).expect("a model").count(&extents()).expect("known");
        let mut twice = once.clone();
        twice.add(&once);
        assert_eq!((twice.total, &twice.layers), (2 * once.total, &[([10, 8, 4], 4)].into()));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(at in 0usize..400, byte: u8) {
            let mut model = model();
            let at = at % model.len();
            model[at] = byte;
            if let Some(products) = Products::of(&model) {
                let _ = products.count(&extents());
            }
        }
    }
}
