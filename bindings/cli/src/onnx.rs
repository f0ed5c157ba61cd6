//! Counting the constants of an ONNX graph by walking its protobuf bytes: for
//! `inspect`, which has no ONNX Runtime. Knows four field numbers and no operator.

use std::collections::BTreeMap;

use pocketmuse_package::wire::{Field, for_each, numbers};

/// The constants of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Constants {
    /// How many there are.
    pub(crate) tensors: usize,
    /// Their values, by element type: `f32` => 603,537,664.
    pub(crate) by_type: BTreeMap<&'static str, u64>,
}

/// Counts the constants of an ONNX model; `None` if the bytes are not one.
pub(crate) fn constants(model: &[u8]) -> Option<Constants> {
    let mut found = Constants::default();
    for_each(model, |number, field| {
        let (7, Field::Bytes(graph)) = (number, field) else { return Some(()) }; // ModelProto.graph
        for_each(graph, |number, field| {
            let (5, Field::Bytes(tensor)) = (number, field) else { return Some(()) }; // GraphProto.initializer
            let (dtype, count) = tensor_size(tensor)?;
            found.tensors += 1;
            let sum = found.by_type.entry(dtype).or_default();
            *sum = sum.checked_add(count)?;
            Some(())
        })
    })?;
    Some(found)
}

/// The element type and the number of values of a `TensorProto`.
fn tensor_size(tensor: &[u8]) -> Option<(&'static str, u64)> {
    let (mut dtype, mut extents) = ("other", Vec::new());
    for_each(tensor, |number, field| match (number, field) {
        (1, extent) => numbers(extent, &mut extents), // dims
        (2, Field::Number(number)) => {
            dtype = dtype_name(number); // data_type
            Some(())
        }
        _ => Some(()),
    })?;
    let count = extents.into_iter().try_fold(1u64, u64::checked_mul)?;
    Some((dtype, count))
}

/// `TensorProto.DataType`.
fn dtype_name(number: u64) -> &'static str {
    match number {
        1 => "f32",
        2 => "u8",
        3 => "i8",
        6 => "i32",
        7 => "i64",
        9 => "bool",
        10 => "f16",
        16 => "bf16",
        21 => "u4",
        22 => "i4",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message field with a length before it.
    fn message(number: u8, body: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(body.len()).expect("small")], body].concat()
    }

    fn model() -> Vec<u8> {
        let unpacked = [0x08, 2, 0x08, 3, 0x10, 1]; // dims 2, 3; f32
        let packed = [&message(1, &[0x80, 1, 2])[..], &[0x10, 10]].concat(); // dims 128, 2; f16
        let graph =
            [message(2, b"g"), message(5, &unpacked), message(5, &packed), message(5, &unpacked)]
                .concat();
        [&[0x08, 10][..], &message(7, &graph)].concat()
    }

    #[test]
    fn counts_by_type() {
        assert_eq!(
            constants(&model()),
            Some(Constants { tensors: 3, by_type: [("f32", 12), ("f16", 256)].into() })
        );
        assert_eq!(constants(&[]), Some(Constants::default()));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
            let _ = constants(&bytes);
        }

        #[test]
        fn never_panics_on_a_changed_byte(at in 0usize..60, byte: u8) {
            let mut model = model();
            let at = at % model.len();
            model[at] = byte;
            let _ = constants(&model);
        }
    }
}
