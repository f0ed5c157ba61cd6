//! Small ONNX models written by hand, to measure a few operators by themselves: matrices in and
//! out, constants inside. Knows field numbers, no operator.
//!
//! ```
//! use pocketmuse_measure::graph::Graph;
//! use pocketmuse_package::Dtype;
//!
//! let mut graph = Graph::default();
//! graph
//!     .input("x", [4, 2])
//!     .constant("w", Dtype::F32, [2, 1], &[1.5f32, -0.5].map(f32::to_le_bytes).concat())
//!     .node("MatMul", &["x", "w"], &["y"])
//!     .output("y", [4, 1]);
//! assert!(!graph.into_model().is_empty());
//! ```

use pocketmuse_package::{
    Dim, Dtype,
    onnx::{self, attribute, attribute_type, dimension, opset, tensor, tensor_type, value_info},
    wire::Message,
};

/// The version of the intermediate representation that a model names.
const IR_VERSION: u64 = 10;

/// The version of the operators: what the exporter writes too.
const OPSET_VERSION: u64 = 21;

/// A graph in the making.
#[derive(Clone, Debug, Default)]
pub struct Graph(Message);

impl Graph {
    /// An f32 matrix that the graph is given.
    pub fn input(&mut self, name: &str, extents: [impl Into<Dim>; 2]) -> &mut Self {
        self.0.message(onnx::graph::INPUT, &matrix(name, extents));
        self
    }

    /// An f32 matrix that the graph makes.
    pub fn output(&mut self, name: &str, extents: [impl Into<Dim>; 2]) -> &mut Self {
        self.0.message(onnx::graph::OUTPUT, &matrix(name, extents));
        self
    }

    /// A constant matrix; `bytes` are its values, row-major, little-endian.
    pub fn constant(
        &mut self,
        name: &str,
        dtype: Dtype,
        extents: [usize; 2],
        bytes: &[u8],
    ) -> &mut Self {
        let mut constant = Message::default();
        for extent in extents {
            constant.number(tensor::DIMS, extent as u64);
        }
        constant
            .number(tensor::DATA_TYPE, dtype.onnx().cast_unsigned())
            .text(tensor::NAME, name)
            .bytes(tensor::RAW_DATA, bytes);
        self.0.message(onnx::graph::INITIALIZER, &constant);
        self
    }

    /// A node without attributes, named after its first output.
    pub fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str]) -> &mut Self {
        self.0.message(onnx::graph::NODE, &node(op, inputs, outputs));
        self
    }

    /// A node that converts `input` to `dtype`.
    pub fn cast(&mut self, input: &str, dtype: Dtype, output: &str) -> &mut Self {
        let mut to = Message::default();
        to.text(attribute::NAME, "to")
            .number(attribute::I, dtype.onnx().cast_unsigned())
            .number(attribute::TYPE, attribute_type::INT);
        let mut cast = node("Cast", &[input], &[output]);
        cast.message(onnx::node::ATTRIBUTE, &to);
        self.0.message(onnx::graph::NODE, &cast);
        self
    }

    /// The bytes of a model that holds the graph.
    pub fn into_model(self) -> Vec<u8> {
        let (mut graph, mut version, mut model) = (self.0, Message::default(), Message::default());
        graph.text(onnx::graph::NAME, "measured");
        version.text(opset::DOMAIN, "").number(opset::VERSION, OPSET_VERSION);
        model
            .number(onnx::model::IR_VERSION, IR_VERSION)
            .message(onnx::model::GRAPH, &graph)
            .message(onnx::model::OPSET_IMPORT, &version);
        model.into_bytes()
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node.text(onnx::node::INPUT, input);
    }
    for output in outputs {
        node.text(onnx::node::OUTPUT, output);
    }
    node.text(onnx::node::NAME, outputs.first().unwrap_or(&"")).text(onnx::node::OP_TYPE, op);
    node
}

fn matrix(name: &str, extents: [impl Into<Dim>; 2]) -> Message {
    let mut shape = Message::default();
    for extent in extents {
        let mut dim = Message::default();
        match extent.into() {
            Dim::Fixed(extent) => dim.number(dimension::VALUE, extent as u64),
            Dim::Named(name) => dim.text(dimension::PARAM, &name),
        };
        shape.message(onnx::shape::DIM, &dim);
    }
    let (mut tensor, mut kind, mut value) =
        (Message::default(), Message::default(), Message::default());
    tensor
        .number(tensor_type::ELEM_TYPE, Dtype::F32.onnx().cast_unsigned())
        .message(tensor_type::SHAPE, &shape);
    kind.message(onnx::value_type::TENSOR, &tensor);
    value.text(value_info::NAME, name).message(value_info::TYPE, &kind);
    value
}
