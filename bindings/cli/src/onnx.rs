//! Counting the constants of an ONNX graph by walking its protobuf bytes: for `inspect`, which has
//! no ONNX Runtime. Knows no operator.

use std::collections::BTreeMap;

use pocketmuse_package::{
    onnx::{self, graph, model, tensor},
    wire::{Field, for_each, numbers},
};

/// The constants of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Constants {
    /// How many there are.
    pub(crate) tensors: usize,
    /// Their values, by element type: `f32` => 603,537,664.
    pub(crate) by_type: BTreeMap<&'static str, u64>,
}

/// Counts the constants of an ONNX model; `None` if the bytes are not one.
pub(crate) fn constants(bytes: &[u8]) -> Option<Constants> {
    let mut found = Constants::default();
    for_each(bytes, |number, field| {
        let (model::GRAPH, Field::Bytes(graph)) = (number, field) else { return Some(()) };
        for_each(graph, |number, field| {
            let (graph::INITIALIZER, Field::Bytes(tensor)) = (number, field) else {
                return Some(());
            };
            let (dtype, count) = tensor_size(tensor)?;
            found.tensors += 1;
            let sum = found.by_type.entry(dtype).or_default();
            *sum = sum.checked_add(count)?;
            Some(())
        })
    })?;
    Some(found)
}

/// The element type and the number of values of a constant.
fn tensor_size(bytes: &[u8]) -> Option<(&'static str, u64)> {
    let (mut dtype, mut extents) = ("other", Vec::new());
    for_each(bytes, |number, field| match (number, field) {
        (tensor::DIMS, extent) => numbers(extent, &mut extents),
        (tensor::DATA_TYPE, Field::Number(number)) => {
            dtype = onnx::element_name(number).unwrap_or("other");
            Some(())
        }
        _ => Some(()),
    })?;
    let count = extents.into_iter().try_fold(1u64, u64::checked_mul)?;
    Some((dtype, count))
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
        fn never_panics(bytes: Vec<u8>) {
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
