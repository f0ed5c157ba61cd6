//! The few bytes of ONNX protobuf that the runtime writes: further outputs for a graph. Reads none.
//!
//! Protobuf merges messages that follow one another, so these bytes appended to a model add to its graph's outputs.

use pocketmuse_package::{Dtype, TensorSpec};

// Field numbers of onnx.proto: ModelProto.graph, GraphProto.output, ValueInfoProto, TypeProto, TypeProto.Tensor.
const MODEL_GRAPH: u8 = 7;
const GRAPH_OUTPUT: u8 = 12;
const VALUE_NAME: u8 = 1;
const VALUE_TYPE: u8 = 2;
const TYPE_TENSOR: u8 = 1;
const TENSOR_ELEMENT: u8 = 1;

/// A model that holds nothing but `outputs`, without their shapes.
pub(crate) fn more_outputs(outputs: &[&TensorSpec]) -> Vec<u8> {
    let graph: Vec<u8> = outputs.iter().flat_map(|spec| message(GRAPH_OUTPUT, &value_info(spec))).collect();
    message(MODEL_GRAPH, &graph)
}

fn value_info(spec: &TensorSpec) -> Vec<u8> {
    let tensor = [TENSOR_ELEMENT << 3, element(spec.dtype)]; // a varint below 128
    let name = message(VALUE_NAME, spec.name.as_bytes());
    [name, message(VALUE_TYPE, &message(TYPE_TENSOR, &tensor))].concat()
}

/// TensorProto.DataType.
fn element(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::U8 => 2,
        Dtype::I8 => 3,
        Dtype::I32 => 6,
        Dtype::I64 => 7,
        Dtype::Bool => 9,
        Dtype::F16 => 10,
        Dtype::Bf16 => 16,
        _ => 1, // f32
    }
}

/// A field of wire type 2: tag, length, bytes.
fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut written = vec![(field << 3) | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        written.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    written.push(length as u8);
    written.extend(bytes);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_onnx_writes() {
        // v = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
        // print(onnx.ModelProto(graph=onnx.GraphProto(output=[v])).SerializeToString().hex())
        let spec = TensorSpec { name: "x".to_owned(), dtype: Dtype::F32, shape: Default::default() };
        let hex: String = more_outputs(&[&spec]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "3a0b62090a017812040a020801");
    }

    #[test]
    fn long_lengths_take_two_bytes() {
        assert_eq!(message(7, &[0; 300])[..3], [0x3a, 0xac, 0x02]);
    }
}
