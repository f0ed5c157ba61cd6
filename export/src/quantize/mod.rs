//! Graph to graph: f32 products and tables become integer ones. Knows operators, no model.
//!
//! A linear layer, `MatMul` with a constant matrix, becomes `DynamicQuantizeLinear` of the
//! activations (u8, one range for the whole tensor, found at run time) and `MatMulInteger` with s8
//! weights (one scale per output channel): ONNX Runtime fuses the pattern. With 4 bits it becomes
//! `MatMulNBits`, weights in blocks with a scale each. A `Gather` of rows of a large constant table
//! reads s8 rows with one scale each. Norms, softmax, residuals and everything else stay in f32.

mod block;
mod channel;
mod kernel;
mod linear;
mod nibble;
mod scales;
mod table;

use std::collections::HashMap;

pub use self::channel::{columns, pair_safe_scales};
pub(crate) use self::kernel::{KernelRecipes, kernel_recipes};
use pocketmuse_package::{Convolutions, Dtype, Held};

use crate::graph::{Attribute, Data, Graph, Initializer, Node};

/// A convolution of integers.
pub(crate) const INTEGER_CONVOLUTION: &str = "com.microsoft.QLinearConv";

/// Tables below this many bytes are not worth a rounding error.
const SMALL_TABLE_BYTES: usize = 64 << 10;

/// The nearest whole number, the even one of two, for magnitudes below 2^22: in one instruction on
/// every processor.
pub(crate) fn nearest(value: f32) -> f32 {
    // Beside this number an f32 has no fraction.
    const WHOLE: f32 = (3 << 22) as f32;
    value + WHOLE - WHOLE
}

/// How many bits a linear layer's weight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Eight,
    Four,
}

/// The graph with linear layers of `bits`, and tables of 8.
pub(crate) fn rewrite(graph: Graph, bits: Bits) -> Graph {
    let Graph { name, inputs, outputs, nodes, initializers, taps } = graph;
    let mut rewriter = Rewriter {
        weights: by_name(initializers),
        nodes: Vec::new(),
        made: Vec::new(),
        quantized: HashMap::new(),
    };
    for node in nodes {
        match rewriter.constant_operand(&node) {
            Some((Role::Linear, weight)) => match bits {
                Bits::Eight => linear::rewrite(&mut rewriter, &node, &weight),
                Bits::Four => nibble::rewrite(&mut rewriter, &node, &weight),
            },
            Some((Role::Table, table)) => table::rewrite(&mut rewriter, &node, &table),
            None => rewriter.nodes.push(node),
        }
    }
    let Rewriter { weights, nodes, made, .. } = rewriter;
    let mut initializers = made;
    initializers.extend(in_use(weights, &nodes));
    Graph { name, inputs, outputs, nodes, initializers, taps }
}

/// How a graph holds its weights, as its operators say.
pub(crate) fn held(graph: &Graph) -> Held {
    let operators = graph.operators();
    Held {
        linear_bits: if operators.contains(nibble::OPERATOR) {
            4
        } else if operators.contains(linear::OPERATOR) {
            8
        } else {
            Held::FLOATS.linear_bits
        },
        convolutions: if operators.contains(INTEGER_CONVOLUTION) {
            Convolutions::Integer
        } else {
            Convolutions::Float
        },
    }
}

/// What a constant is to the node that reads it.
enum Role {
    Linear,
    Table,
}

struct Rewriter {
    /// The f32 graph's constants, by name, with their order.
    weights: HashMap<String, (usize, Initializer)>,
    nodes: Vec<Node>,
    made: Vec<Initializer>,
    /// Values that have been quantized, so that layers which read the same one share the work.
    quantized: HashMap<String, linear::Quantized>,
}

impl Rewriter {
    fn constant_operand(&self, node: &Node) -> Option<(Role, Initializer)> {
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

    fn constant(&mut self, name: String, shape: &[usize], data: Data) -> String {
        self.made.push(Initializer { name: name.clone(), shape: shape.to_vec(), data });
        name
    }

    /// Adds a cast of `input` to f32.
    fn cast_to_f32(&mut self, name: String, input: &str) -> String {
        self.node_with("Cast", name, &[input], vec![("to", Attribute::Int(Dtype::F32.onnx()))])
    }

    /// Adds a node with one output, called `name`.
    fn node(&mut self, op: &'static str, name: String, inputs: &[&str]) -> String {
        self.node_with(op, name, inputs, vec![])
    }

    fn node_with(
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
    let read: std::collections::HashSet<_> = nodes.iter().flat_map(|node| &node.inputs).collect();
    let mut kept: Vec<_> =
        weights.into_values().filter(|(_, constant)| read.contains(&constant.name)).collect();
    kept.sort_by_key(|(order, _)| *order);
    kept.into_iter().map(|(_, constant)| constant).collect()
}
