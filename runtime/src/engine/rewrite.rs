//! An ONNX model with its constants changed, field by field. Knows where constants are, not what
//! they mean.

use pocketmuse_package::{
    onnx,
    wire::{self, Field, Message},
};

/// Graphs inside each other, at most.
pub(crate) const MAX_DEPTH: usize = 16;

/// What becomes of a field of a message.
pub(crate) enum Change {
    Keep,
    Replace(Message),
}

/// What becomes of a constant.
pub(crate) type OfTensor<'a> = &'a mut dyn FnMut(&[u8]) -> Option<Change>;

/// A model with the constants of all its graphs changed as `of_tensor` says; `None` if it is none.
pub(crate) fn model(bytes: &[u8], of_tensor: OfTensor<'_>) -> Option<Message> {
    rewritten(bytes, |number, inner| match number {
        onnx::model::GRAPH => graph(inner, of_tensor, MAX_DEPTH).map(Change::Replace),
        _ => Some(Change::Keep),
    })
}

/// A graph with its constants changed, and those of the graphs in its nodes.
fn graph(bytes: &[u8], of_tensor: OfTensor<'_>, depth: usize) -> Option<Message> {
    let depth = depth.checked_sub(1)?;
    rewritten(bytes, |number, inner| match number {
        onnx::graph::INITIALIZER => of_tensor(inner),
        onnx::graph::NODE => rewritten(inner, |number, inner| match number {
            onnx::node::ATTRIBUTE if holds_graph(inner)? => {
                rewritten(inner, |number, inner| match number {
                    onnx::attribute::G => graph(inner, of_tensor, depth).map(Change::Replace),
                    _ => Some(Change::Keep),
                })
                .map(Change::Replace)
            }
            _ => Some(Change::Keep),
        })
        .map(Change::Replace),
        _ => Some(Change::Keep),
    })
}

/// A value's name, the type of its elements as ONNX numbers them, and its extents where they are
/// told.
pub(crate) fn value_info(name: &[u8], element: u64, extents: Option<&[u64]>) -> Message {
    let [mut tensor, mut kind, mut value] = [(); 3].map(|()| Message::default());
    tensor.number(onnx::tensor_type::ELEM_TYPE, element);
    if let Some(extents) = extents {
        let mut shape = Message::default();
        for &extent in extents {
            let mut dimension = Message::default();
            dimension.number(onnx::dimension::VALUE, extent);
            shape.message(onnx::shape::DIM, &dimension);
        }
        tensor.message(onnx::tensor_type::SHAPE, &shape);
    }
    kind.message(onnx::value_type::TENSOR, &tensor);
    value.bytes(onnx::value_info::NAME, name).message(onnx::value_info::TYPE, &kind);
    value
}

/// Whether an attribute is a graph.
pub(crate) fn holds_graph(attribute: &[u8]) -> Option<bool> {
    let mut found = false;
    wire::for_each(attribute, |number, _| {
        found |= number == onnx::attribute::G;
        Some(())
    })?;
    Some(found)
}

/// A message whose fields are changed as `change` says, which is given the bytes of those that have
/// any. `None` if it is none, if it has numbers of a fixed size, which no message here has, or if
/// `change` says so.
pub(crate) fn rewritten(
    message: &[u8],
    mut change: impl FnMut(u64, &[u8]) -> Option<Change>,
) -> Option<Message> {
    let mut made = Message::default();
    wire::for_each(message, |number, field| {
        let made = &mut made;
        let inner = if let Field::Bytes(bytes) = field { bytes } else { &[] };
        match (change(number, inner)?, field) {
            (_, Field::Fixed) => return None,
            (Change::Keep, Field::Number(value)) => made.number(number, value),
            (Change::Keep, Field::Bytes(bytes)) => made.bytes(number, bytes),
            (Change::Replace(inner), _) => made.message(number, &inner),
        };
        Some(())
    })?;
    Some(made)
}
