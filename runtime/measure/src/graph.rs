//! Small ONNX models written by hand, to measure a few operators by themselves: matrices in and out,
//! constants inside. Knows field numbers, no operator.
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

use pocketmuse_package::{Dtype, wire::Message};

/// The version of the intermediate representation that a model names.
const IR_VERSION: u64 = 10;

/// The version of the operators: what the exporter writes too.
const OPSET_VERSION: u64 = 21;

/// A graph in the making.
#[derive(Clone, Debug, Default)]
pub struct Graph(Message);

impl Graph {
    /// An f32 matrix that the graph is given.
    pub fn input(&mut self, name: &str, extents: [usize; 2]) -> &mut Self {
        self.0.message(11, &matrix(name, extents)); // GraphProto.input
        self
    }

    /// An f32 matrix that the graph makes.
    pub fn output(&mut self, name: &str, extents: [usize; 2]) -> &mut Self {
        self.0.message(12, &matrix(name, extents)); // GraphProto.output
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
        let mut tensor = Message::default();
        for extent in extents {
            tensor.number(1, extent as u64); // TensorProto.dims
        }
        tensor.number(2, dtype.onnx().cast_unsigned()).text(8, name).bytes(9, bytes); // data_type, name, raw_data
        self.0.message(5, &tensor); // GraphProto.initializer
        self
    }

    /// A node without attributes, named after its first output.
    pub fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str]) -> &mut Self {
        self.0.message(1, &node(op, inputs, outputs)); // GraphProto.node
        self
    }

    /// A node that converts `input` to `dtype`.
    pub fn cast(&mut self, input: &str, dtype: Dtype, output: &str) -> &mut Self {
        let mut to = Message::default();
        to.text(1, "to").number(3, dtype.onnx().cast_unsigned()).number(20, 2); // name, i, type = INT
        let mut cast = node("Cast", &[input], &[output]);
        cast.message(5, &to); // NodeProto.attribute
        self.0.message(1, &cast); // GraphProto.node
        self
    }

    /// The bytes of a model that holds the graph.
    pub fn into_model(self) -> Vec<u8> {
        let (mut graph, mut opset, mut model) = (self.0, Message::default(), Message::default());
        graph.text(2, "measured"); // GraphProto.name
        opset.text(1, "").number(2, OPSET_VERSION); // OperatorSetIdProto.domain, version
        model.number(1, IR_VERSION).message(7, &graph).message(8, &opset); // ir_version, graph, opset_import
        model.into_bytes()
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node.text(1, input); // NodeProto.input
    }
    for output in outputs {
        node.text(2, output); // NodeProto.output
    }
    node.text(3, outputs.first().unwrap_or(&"")).text(4, op); // name, op_type
    node
}

fn matrix(name: &str, extents: [usize; 2]) -> Message {
    let mut shape = Message::default();
    for extent in extents {
        let mut dim = Message::default();
        dim.number(1, extent as u64); // Dimension.dim_value
        shape.message(1, &dim); // TensorShapeProto.dim
    }
    let (mut tensor, mut kind, mut value) =
        (Message::default(), Message::default(), Message::default());
    tensor.number(1, Dtype::F32.onnx().cast_unsigned()).message(2, &shape); // elem_type, shape
    kind.message(1, &tensor); // TypeProto.tensor_type
    value.text(1, name).message(2, &kind); // ValueInfoProto.name, type
    value
}
