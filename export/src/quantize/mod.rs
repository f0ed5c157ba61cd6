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
mod rewriter;
mod rounding;
mod scales;
mod table;

use pocketmuse_package::{Convolutions, Dtype, Held};

pub use self::channel::{columns, pair_safe_scales};
use self::rewriter::{Rewriter, Role};
pub(crate) use self::{
    channel::rows,
    kernel::{KernelRecipes, kernel_recipe, kernel_recipes, kernel_scales},
    linear::matrix_recipes,
    rewriter::SMALL_TABLE_BYTES,
    rounding::nearest,
};
use crate::graph::Graph;

/// A convolution of integers.
pub(crate) const INTEGER_CONVOLUTION: &str = "com.microsoft.QLinearConv";

/// How many bits a linear layer's weight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Eight,
    Four,
}

/// The graph with linear layers of `bits`, and tables of 8.
pub(crate) fn rewrite(graph: Graph, bits: Bits) -> Graph {
    let Graph { name, inputs, outputs, nodes, initializers, taps } = graph;
    let mut rewriter = Rewriter::new(initializers);
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
    let (nodes, initializers) = rewriter.finish();
    Graph { name, inputs, outputs, nodes, initializers, taps }
}

/// How a graph holds its weights, as its operators say.
pub(crate) fn held(graph: &Graph) -> Held {
    let operators = graph.operators();
    Held {
        linear_bits: if operators.contains(nibble::OPERATOR) {
            4
        } else if operators.contains(linear::OPERATOR) || is_of_integers(graph) {
            8
        } else if graph.initializers.iter().all(|constant| constant.dtype() != Dtype::F32) {
            16
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

/// Whether every value of the graph is of integers that are floats for one operator alone.
fn is_of_integers(graph: &Graph) -> bool {
    let is_rounded = graph.nodes.iter().any(|node| node.op == "QuantizeLinear");
    is_rounded && !graph.operators().contains(INTEGER_CONVOLUTION)
}
