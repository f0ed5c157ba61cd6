//! Inner values of a graph as further outputs: the few bytes of ONNX that the runtime writes.
//!
//! Protobuf merges messages that follow one another, so these bytes appended to a model add to its
//! graph's outputs.

use pocketmuse_package::{TensorSpec, onnx, wire::Message};

/// A model that holds nothing but `outputs`, without their shapes.
pub(super) fn more_outputs(outputs: &[&TensorSpec]) -> Vec<u8> {
    let mut graph = Message::default();
    for spec in outputs {
        graph.message(onnx::graph::OUTPUT, &value_info(spec));
    }
    let mut model = Message::default();
    model.message(onnx::model::GRAPH, &graph);
    model.into_bytes()
}

fn value_info(spec: &TensorSpec) -> Message {
    let (mut tensor, mut kind, mut value) =
        (Message::default(), Message::default(), Message::default());
    tensor.number(onnx::tensor_type::ELEM_TYPE, spec.dtype.onnx().cast_unsigned());
    kind.message(onnx::value_type::TENSOR, &tensor);
    value.text(onnx::value_info::NAME, &spec.name).message(onnx::value_info::TYPE, &kind);
    value
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
