//! Which constants of a graph lie in the file of its weights, and where.

use std::collections::BTreeMap;

use pocketmuse_package::{constant, onnx};

use crate::engine::rewrite::{Change, model};

/// Where constants must begin: as exporters align them at least.
const ALIGNMENT: usize = 16;

/// A constant in the file of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Constant {
    pub(super) name: String,
    /// The type of its elements, as ONNX numbers them.
    pub(super) element: u64,
    pub(super) shape: Vec<i64>,
    pub(super) offset: usize,
    pub(super) bytes: usize,
}

/// The constants of the graph `bytes` that lie within the first `length` bytes of the file of its
/// weights, under names that no other constant has. `None` if it is no model.
///
/// A graph that was checked has no constants in other files.
pub(super) fn of(bytes: &[u8], length: usize) -> Option<Vec<Constant>> {
    let mut found: BTreeMap<String, Option<Constant>> = BTreeMap::new();
    model(bytes, &mut |tensor| {
        let (name, constant) = constant(tensor)?;
        let constant = constant.filter(|constant| {
            let end = constant.offset.checked_add(constant.bytes);
            constant.offset.is_multiple_of(ALIGNMENT) && end.is_some_and(|end| end <= length)
        });
        found.entry(name).and_modify(|known| *known = None).or_insert(constant);
        Some(Change::Keep)
    })?;
    Some(found.into_values().flatten().collect())
}

/// The name of a constant, and where it lies unless that is in the graph.
fn constant(tensor: &[u8]) -> Option<(String, Option<Constant>)> {
    let found = constant::Constant::of(tensor)?;
    let name = str::from_utf8(found.name).ok()?.to_owned();
    if found.entries.is_empty() {
        return Some((name, None));
    }
    let offset = found.entries.iter().rfind(|[key, _]| *key == onnx::OFFSET.as_bytes());
    let offset = offset.map_or(Some(0), |[_, value]| str::from_utf8(value).ok()?.parse().ok())?;
    let bytes = usize::try_from(found.bytes()?).ok()?;
    let extents = found.dims.iter().map(|&extent| i64::try_from(extent).ok());
    let shape = extents.collect::<Option<_>>()?;
    Some((name.clone(), Some(Constant { name, element: found.element, shape, offset, bytes })))
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::wire::Message;
    use proptest::prelude::*;

    use super::*;

    /// A constant of `[2, 3]` floats at `offset` of a file; without, inside the graph.
    fn tensor(name: &str, offset: Option<&str>) -> Message {
        let mut tensor = Message::default();
        tensor.number(onnx::tensor::DIMS, 2).number(onnx::tensor::DIMS, 3);
        tensor.number(onnx::tensor::DATA_TYPE, 1).text(onnx::tensor::NAME, name);
        let Some(offset) = offset else {
            tensor.bytes(onnx::tensor::RAW_DATA, &[0; 24]);
            return tensor;
        };
        for (key, value) in [(onnx::LOCATION, "step.data"), (onnx::OFFSET, offset)] {
            let mut entry = Message::default();
            entry.text(onnx::entry::KEY, key).text(onnx::entry::VALUE, value);
            tensor.message(onnx::tensor::EXTERNAL_DATA, &entry);
        }
        tensor
    }

    /// A model with `outer` constants, and `inner` ones in the graph of a node.
    fn model_of(outer: &[Message], inner: &[Message]) -> Vec<u8> {
        let [mut body, mut graph, mut attribute, mut node, mut model] =
            [(); 5].map(|()| Message::default());
        inner.iter().for_each(|tensor| {
            body.message(onnx::graph::INITIALIZER, tensor);
        });
        attribute.text(onnx::attribute::NAME, "body").message(onnx::attribute::G, &body);
        node.text(onnx::node::OP_TYPE, "Scan").message(onnx::node::ATTRIBUTE, &attribute);
        outer.iter().for_each(|tensor| {
            graph.message(onnx::graph::INITIALIZER, tensor);
        });
        graph.message(onnx::graph::NODE, &node);
        model.message(onnx::model::GRAPH, &graph);
        model.into_bytes()
    }

    #[test]
    fn constants_of_the_file_are_found_wherever_they_are_used() {
        let outer = [tensor("a", Some("64")), tensor("inside", None)];
        let model = model_of(&outer, &[tensor("b", Some("128"))]);
        let expected = |name: &str, offset| Constant {
            name: name.to_owned(),
            element: 1,
            shape: vec![2, 3],
            offset,
            bytes: 24,
        };
        assert_eq!(of(&model, 152), Some(vec![expected("a", 64), expected("b", 128)]));
        assert_eq!(of(&model, 151), Some(vec![expected("a", 64)]), "the other one ends behind it");
    }

    #[test]
    fn names_that_mean_two_things_and_crooked_places_are_left_alone() {
        let twice = model_of(&[tensor("a", Some("64"))], &[tensor("a", Some("128"))]);
        let hidden = model_of(&[tensor("a", Some("64"))], &[tensor("a", None)]);
        let crooked = model_of(&[tensor("a", Some("72"))], &[]);
        for model in [twice, hidden, crooked] {
            assert_eq!(of(&model, 1 << 20), Some(Vec::new()));
        }
        assert_eq!(of(&model_of(&[tensor("a", Some("-1"))], &[]), 1 << 20), None);
        assert_eq!(of(b"no model", 1 << 20), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&bytes, 1 << 20);
        }
    }
}
