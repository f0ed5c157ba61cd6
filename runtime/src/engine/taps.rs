//! Inner values of a graph as further outputs.
//!
//! Protobuf merges messages that follow one another, so these bytes appended to a model add to its
//! graph's outputs.

use pocketmuse_package::{TensorSpec, onnx, wire::Message};

use super::rewrite::value_info;

/// A model that holds nothing but `outputs`, without their shapes.
pub(super) fn more_outputs(outputs: &[&TensorSpec]) -> Vec<u8> {
    let mut graph = Message::default();
    for spec in outputs {
        let value = value_info(spec.name.as_bytes(), spec.dtype.onnx().cast_unsigned(), None);
        graph.message(onnx::graph::OUTPUT, &value);
    }
    let mut model = Message::default();
    model.message(onnx::model::GRAPH, &graph);
    model.into_bytes()
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::Dtype;

    use super::*;

    #[test]
    fn writes_what_onnx_writes() {
        // v = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
        // print(onnx.ModelProto(graph=onnx.GraphProto(output=[v])).SerializeToString().hex())
        let spec =
            TensorSpec { name: "x".to_owned(), dtype: Dtype::F32, shape: Default::default() };
        let hex: String = more_outputs(&[&spec]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "3a0b62090a017812040a020801");
    }
}
