//! What every rewrite needs: the constants of the old graph, and the nodes of the new one.

use std::collections::{HashMap, HashSet};

use pocketmuse_package::Dtype;

use crate::graph::{Attribute, Data, Initializer, Node};

/// Tables below this many bytes are not worth a rounding error.
pub(crate) const SMALL_TABLE_BYTES: usize = 64 << 10;

/// What a constant is to the node that reads it.
pub(super) enum Role {
    Linear,
    Table,
}

/// A value as u8, with its scale and zero point.
#[derive(Clone)]
pub(super) struct Quantized {
    pub(super) value: String,
    pub(super) scale: String,
    pub(super) zero_point: String,
}

/// A graph in the making, from another.
pub(super) struct Rewriter {
    /// The f32 graph's constants, by name, with their order.
    weights: HashMap<String, (usize, Initializer)>,
    pub(super) nodes: Vec<Node>,
    made: Vec<Initializer>,
    /// Values that have been quantized, so that layers which read the same one share the work.
    pub(super) quantized: HashMap<String, Quantized>,
}

impl Rewriter {
    /// Begins with the constants of a graph.
    pub(super) fn new(initializers: Vec<Initializer>) -> Self {
        Self {
            weights: by_name(initializers),
            nodes: Vec::new(),
            made: Vec::new(),
            quantized: HashMap::new(),
        }
    }

    /// The nodes, and the constants that they read: those made for them first.
    pub(super) fn finish(self) -> (Vec<Node>, Vec<Initializer>) {
        let Self { weights, nodes, made: mut initializers, .. } = self;
        initializers.extend(in_use(weights, &nodes));
        (nodes, initializers)
    }

    pub(super) fn constant_operand(&self, node: &Node) -> Option<(Role, Initializer)> {
        let matrix = |name: &str| {
            let (_, constant) = self.weights.get(name)?;
            (constant.shape.len() == 2 && matches!(constant.data, Data::Weight(_)))
                .then(|| constant.clone())
        };
        match node.op {
            "MatMul" => Some((Role::Linear, matrix(&node.inputs[1])?)),
            "Gather" => {
                let table = matrix(&node.inputs[0])?;
                (table.bytes() >= SMALL_TABLE_BYTES).then_some((Role::Table, table))
            }
            _ => None,
        }
    }

    pub(super) fn constant(&mut self, name: String, shape: &[usize], data: Data) -> String {
        self.made.push(Initializer { name: name.clone(), shape: shape.to_vec(), data });
        name
    }

    /// Adds a cast of `input` to f32.
    pub(super) fn cast_to_f32(&mut self, name: String, input: &str) -> String {
        self.node_with("Cast", name, &[input], vec![("to", Attribute::Int(Dtype::F32.onnx()))])
    }

    /// Adds a node with one output, called `name`.
    pub(super) fn node(&mut self, op: &'static str, name: String, inputs: &[&str]) -> String {
        self.node_with(op, name, inputs, vec![])
    }

    pub(super) fn node_with(
        &mut self,
        op: &'static str,
        name: String,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let inputs = inputs.iter().map(|input| (*input).to_owned()).collect();
        let (node, outputs) = (format!("{name}/{op}"), vec![name.clone()]);
        self.nodes.push(Node { name: node, op, inputs, outputs, attributes });
        name
    }
}

fn by_name(initializers: Vec<Initializer>) -> HashMap<String, (usize, Initializer)> {
    let named =
        |(order, constant): (usize, Initializer)| (constant.name.clone(), (order, constant));
    initializers.into_iter().enumerate().map(named).collect()
}

/// The constants that nodes still read, in their old order.
fn in_use(weights: HashMap<String, (usize, Initializer)>, nodes: &[Node]) -> Vec<Initializer> {
    let read: HashSet<_> = nodes.iter().flat_map(|node| &node.inputs).collect();
    let mut kept: Vec<_> =
        weights.into_values().filter(|(_, constant)| read.contains(&constant.name)).collect();
    kept.sort_by_key(|(order, _)| *order);
    kept.into_iter().map(|(_, constant)| constant).collect()
}
