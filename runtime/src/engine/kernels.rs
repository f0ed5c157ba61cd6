//! Which weights are packed though the rest stays in its file. A graph that computes an image by
//! tiles reads the kernels of large images once for each tile, and would pack them as often. They
//! are small: the larger an image, the fewer channels it has.

use pocketmuse_package::{
    constant::Constant,
    onnx,
    wire::{Field, Message, for_each},
};

use super::rewrite::{holds_graph, value_info};

/// Larger constants stay as they are. Of a full-size decoder 10 MB of 95 are packed, which are read
/// in five sixths of its time.
const PACKED_BYTES: u64 = 640 << 10;

/// What, appended to the model `bytes`, has ONNX Runtime pack no constant that is large: an input
/// that has a value already, which somebody might change, is not packed. Protobuf merges messages
/// that follow one another. `None` if this is no model, or has no loop.
pub(super) fn large_as_inputs(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut graph, mut has_loop) = (Message::default(), false);
    for_each(bytes, |number, field| {
        let (onnx::model::GRAPH, Field::Bytes(inner)) = (number, field) else { return Some(()) };
        for_each(inner, |number, field| {
            match (number, field) {
                (onnx::graph::INITIALIZER, Field::Bytes(tensor)) => {
                    let constant = Constant::of(tensor)?;
                    if constant.bytes()? > PACKED_BYTES {
                        let Constant { name, element, dims, .. } = constant;
                        graph.message(onnx::graph::INPUT, &value_info(name, element, Some(&dims)));
                    }
                }
                (onnx::graph::NODE, Field::Bytes(node)) => {
                    for_each(node, |number, field| {
                        if let (onnx::node::ATTRIBUTE, Field::Bytes(inner)) = (number, field) {
                            has_loop |= holds_graph(inner)?;
                        }
                        Some(())
                    })?;
                }
                _ => {}
            }
            Some(())
        })
    })?;
    let mut model = Message::default();
    model.message(onnx::model::GRAPH, &graph);
    has_loop.then(|| model.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A model with two constants of bytes, and a node that has a graph in it or none.
    fn model_of(has_loop: bool) -> Vec<u8> {
        let [mut attribute, mut node, mut graph, mut model] = [(); 4].map(|()| Message::default());
        if has_loop {
            attribute.bytes(onnx::attribute::G, &[]);
        }
        node.text(onnx::node::OP_TYPE, "Scan").message(onnx::node::ATTRIBUTE, &attribute);
        for (name, extent) in [("small", PACKED_BYTES), ("large", PACKED_BYTES + 1)] {
            let mut tensor = Message::default();
            tensor.number(onnx::tensor::DIMS, extent).number(onnx::tensor::DATA_TYPE, 3);
            graph.message(onnx::graph::INITIALIZER, tensor.text(onnx::tensor::NAME, name));
        }
        model
            .message(onnx::model::GRAPH, graph.message(onnx::graph::NODE, &node))
            .clone()
            .into_bytes()
    }

    #[test]
    fn what_is_large_becomes_an_input_where_there_is_a_loop() {
        let [mut graph, mut model] = [(); 2].map(|()| Message::default());
        let large = value_info(b"large", 3, Some(&[PACKED_BYTES + 1]));
        model.message(onnx::model::GRAPH, graph.message(onnx::graph::INPUT, &large));
        assert_eq!(large_as_inputs(&model_of(true)), Some(model.into_bytes()));
        assert_eq!(large_as_inputs(&model_of(false)), None);
        assert_eq!(large_as_inputs(b"no model"), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = large_as_inputs(&bytes);
        }
    }
}
