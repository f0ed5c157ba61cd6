//! ONNX's protobuf messages. Knows the field numbers and nothing of what a graph means.
//!
//! The numbers are those of `onnx.proto` (IR version 10), whose names the functions carry. Messages
//! are small because large constants are external data, so each is built in memory, inner before
//! outer.

use pocketmuse_package::{Dim, FileEntry, TensorSpec, wire::Message};

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
        .number(1, IR_VERSION)
        .text(2, "pocketmuse") // producer_name
        .text(3, env!("CARGO_PKG_VERSION")) // producer_version
        .message(7, &graph_proto(graph, locations, data))
        .message(8, &opset("", OPSET_VERSION)); // opset_import
    for domain in graph.domains().into_iter().filter(|domain| !domain.is_empty()) {
        model.message(8, &opset(domain, 1));
    }
    model.into_bytes()
}

fn opset(domain: &str, version: u64) -> Message {
    let mut message = Message::default();
    message.text(1, domain).number(2, version);
    message
}

/// Taps are not declared: named extents of inner values change how ONNX Runtime plans its memory,
/// by 17 MiB in the step graph. Whoever wants one makes it an output.
fn graph_proto(graph: &Graph, locations: &[Location], data: &str) -> Message {
    let mut message = Message::default();
    for node in &graph.nodes {
        message.message(1, &node_proto(node));
    }
    message.text(2, &graph.name);
    for (initializer, location) in graph.initializers.iter().zip(locations) {
        message.message(5, &tensor_proto(initializer, location, data));
    }
    for input in &graph.inputs {
        message.message(11, &value_info(input));
    }
    for output in &graph.outputs {
        message.message(12, &value_info(output));
    }
    message
}

fn node_proto(node: &Node) -> Message {
    let mut message = Message::default();
    for input in &node.inputs {
        message.text(1, input);
    }
    for output in &node.outputs {
        message.text(2, output);
    }
    let (domain, op) = node.domain_and_op();
    message.text(3, &node.name).text(4, op).text(7, domain);
    for (name, attribute) in &node.attributes {
        message.message(5, &attribute_proto(name, attribute));
    }
    message
}

fn attribute_proto(name: &str, attribute: &Attribute) -> Message {
    let mut message = Message::default();
    message.text(1, name);
    match attribute {
        Attribute::Float(value) => message.float(2, *value).number(20, 1),
        Attribute::Int(value) => message.number(3, value.cast_unsigned()).number(20, 2),
        Attribute::Text(value) => message.text(4, value).number(20, 3),
        Attribute::Ints(values) => {
            for value in values {
                message.number(8, value.cast_unsigned());
            }
            message.number(20, 7)
        }
        Attribute::Graph(graph) => message.message(6, &graph_proto(graph, &[], "")).number(20, 5),
    };
    message
}

fn tensor_proto(initializer: &Initializer, location: &Location, data: &str) -> Message {
    let mut message = Message::default();
    for extent in &initializer.shape {
        message.number(1, *extent as u64);
    }
    message.number(2, initializer.dtype().onnx().cast_unsigned()).text(8, &initializer.name);
    match location {
        Location::Inline(bytes) => message.bytes(9, bytes), // raw_data
        Location::External { offset, length } => {
            for (key, value) in [
                ("location", data),
                ("offset", &offset.to_string()),
                ("length", &length.to_string()),
            ] {
                let mut entry = Message::default();
                entry.text(1, key).text(2, value);
                message.message(13, &entry); // external_data
            }
            message.number(14, 1) // data_location = EXTERNAL
        }
    };
    message
}

fn value_info(spec: &TensorSpec) -> Message {
    let mut shape = Message::default();
    for dim in &spec.shape.0 {
        let mut message = Message::default();
        match dim {
            Dim::Fixed(extent) => message.number(1, *extent as u64),
            Dim::Named(name) => message.text(2, name),
        };
        shape.message(1, &message);
    }
    let mut tensor = Message::default();
    tensor.number(1, spec.dtype.onnx().cast_unsigned()).message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.text(1, &spec.name).message(2, &kind);
    info
}

/// The external data file's name inside the graph: beside it.
pub(crate) fn beside(file: &FileEntry) -> &str {
    file.path.rsplit('/').next().expect("a split has a last part")
}
