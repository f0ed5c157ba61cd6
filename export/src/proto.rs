//! ONNX's protobuf messages, whose names the functions carry. Knows nothing of what a graph means.
//!
//! Messages are small because large constants are external data, so each is built in memory, inner
//! before outer.

use pocketmuse_package::{
    Dim, TensorSpec,
    onnx::{
        self, LENGTH, LOCATION, OFFSET, attribute_type, data_location, dimension, entry, node,
        tensor, tensor_type, value_type,
    },
    wire::Message,
};

use crate::graph::{Attribute, Graph, Initializer, Node};

/// The version of the intermediate representation.
const IR_VERSION: u64 = 10;

/// The version of the operators: 21, the newest that ONNX Runtime 1.18 and later all run.
const OPSET_VERSION: u64 = 21;

/// Where an initializer's values are.
pub(crate) enum Location {
    /// In the message itself.
    Inline(Vec<u8>),
    /// In the external data file.
    External {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

/// A whole model. `locations` says where each initializer's values are, `data` the external file's
/// name.
pub(crate) fn model(graph: &Graph, locations: &[Location], data: &str) -> Vec<u8> {
    let mut model = Message::default();
    model
        .number(onnx::model::IR_VERSION, IR_VERSION)
        .text(onnx::model::PRODUCER_NAME, "pocketmuse")
        .text(onnx::model::PRODUCER_VERSION, env!("CARGO_PKG_VERSION"))
        .message(onnx::model::GRAPH, &graph_proto(graph, locations, data))
        .message(onnx::model::OPSET_IMPORT, &opset("", OPSET_VERSION));
    for domain in graph.domains().into_iter().filter(|domain| !domain.is_empty()) {
        model.message(onnx::model::OPSET_IMPORT, &opset(domain, 1));
    }
    model.into_bytes()
}

fn opset(domain: &str, version: u64) -> Message {
    let mut message = Message::default();
    message.text(onnx::opset::DOMAIN, domain).number(onnx::opset::VERSION, version);
    message
}

/// Taps are not declared: named extents of inner values change how ONNX Runtime plans its memory,
/// by 18 MB in the step graph. Whoever wants one makes it an output.
fn graph_proto(graph: &Graph, locations: &[Location], data: &str) -> Message {
    let mut message = Message::default();
    for node in &graph.nodes {
        message.message(onnx::graph::NODE, &node_proto(node));
    }
    message.text(onnx::graph::NAME, &graph.name);
    for (initializer, location) in graph.initializers.iter().zip(locations) {
        let tensor = tensor_proto(initializer, location, data);
        message.message(onnx::graph::INITIALIZER, &tensor);
    }
    for input in &graph.inputs {
        message.message(onnx::graph::INPUT, &value_info(input));
    }
    for output in &graph.outputs {
        message.message(onnx::graph::OUTPUT, &value_info(output));
    }
    message
}

fn node_proto(operator: &Node) -> Message {
    let mut message = Message::default();
    for input in &operator.inputs {
        message.text(node::INPUT, input);
    }
    for output in &operator.outputs {
        message.text(node::OUTPUT, output);
    }
    let (domain, op) = operator.domain_and_op();
    message.text(node::NAME, &operator.name).text(node::OP_TYPE, op).text(node::DOMAIN, domain);
    for (name, attribute) in &operator.attributes {
        message.message(node::ATTRIBUTE, &attribute_proto(name, attribute));
    }
    message
}

fn attribute_proto(name: &str, attribute: &Attribute) -> Message {
    use onnx::attribute::{F, G, I, INTS, NAME, S, TYPE};
    let mut message = Message::default();
    message.text(NAME, name);
    let kind = match attribute {
        Attribute::Float(value) => {
            message.float(F, *value);
            attribute_type::FLOAT
        }
        Attribute::Int(value) => {
            message.number(I, value.cast_unsigned());
            attribute_type::INT
        }
        Attribute::Text(value) => {
            message.text(S, value);
            attribute_type::STRING
        }
        Attribute::Ints(values) => {
            for value in values {
                message.number(INTS, value.cast_unsigned());
            }
            attribute_type::INTS
        }
        Attribute::Graph(graph) => {
            message.message(G, &graph_proto(graph, &[], ""));
            attribute_type::GRAPH
        }
    };
    message.number(TYPE, kind);
    message
}

fn tensor_proto(initializer: &Initializer, location: &Location, data: &str) -> Message {
    let mut message = Message::default();
    for extent in &initializer.shape {
        message.number(tensor::DIMS, *extent as u64);
    }
    message
        .number(tensor::DATA_TYPE, initializer.dtype().onnx().cast_unsigned())
        .text(tensor::NAME, &initializer.name);
    match location {
        Location::Inline(bytes) => message.bytes(tensor::RAW_DATA, bytes),
        Location::External { offset, length } => {
            for (key, value) in
                [(LOCATION, data), (OFFSET, &offset.to_string()), (LENGTH, &length.to_string())]
            {
                let mut part = Message::default();
                part.text(entry::KEY, key).text(entry::VALUE, value);
                message.message(tensor::EXTERNAL_DATA, &part);
            }
            message.number(tensor::DATA_LOCATION, data_location::EXTERNAL)
        }
    };
    message
}

fn value_info(spec: &TensorSpec) -> Message {
    let mut shape = Message::default();
    for dim in &spec.shape.0 {
        let mut message = Message::default();
        match dim {
            Dim::Fixed(extent) => message.number(dimension::VALUE, *extent as u64),
            Dim::Named(name) => message.text(dimension::PARAM, name),
        };
        shape.message(onnx::shape::DIM, &message);
    }
    let mut tensor = Message::default();
    tensor
        .number(tensor_type::ELEM_TYPE, spec.dtype.onnx().cast_unsigned())
        .message(tensor_type::SHAPE, &shape);
    let mut kind = Message::default();
    kind.message(value_type::TENSOR, &tensor);
    let mut info = Message::default();
    info.text(onnx::value_info::NAME, &spec.name).message(onnx::value_info::TYPE, &kind);
    info
}
