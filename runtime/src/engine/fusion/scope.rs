//! A graph as it is looked at: its nodes and constants by the names of their values. Values of
//! graphs around it are seen from inside.

use std::collections::{BTreeMap, BTreeSet};

use pocketmuse_package::{
    constant::Constant,
    onnx,
    wire::{Field, Message, for_each, numbers},
};

use crate::engine::rewrite::{Change, MAX_DEPTH, holds_graph, rewritten};

/// The name of a value.
pub(super) type Name<'a> = &'a [u8];

/// Types of elements, as ONNX numbers them.
pub(super) const FLOAT: u64 = 1;
pub(super) const BYTE: u64 = 2;
pub(super) const INTEGER: u64 = 7;

/// -1, as an attribute has it.
const LAST_AXIS: u64 = u64::MAX;

/// A node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) operator: &'a [u8],
    pub(super) inputs: Vec<Name<'a>>,
    pub(super) outputs: Vec<Name<'a>>,
    /// Its bytes.
    bytes: &'a [u8],
    /// Whether all its attributes are what they are where they are left out.
    is_plain: bool,
    /// In which order it brings axes, if it says so.
    pub(super) order: Vec<u64>,
    /// Whether it works on the last axis, and says so.
    pub(super) is_of_last_axis: bool,
    /// The graph among its attributes, if there is one.
    pub(super) body: Option<&'a [u8]>,
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut node = Self { bytes, is_plain: true, ..Self::default() };
        let mut is_foreign = false;
        for_each(bytes, |number, field| {
            match (number, field) {
                (onnx::node::OP_TYPE, Field::Bytes(operator)) => node.operator = operator,
                (onnx::node::DOMAIN, Field::Bytes(domain)) => is_foreign = !domain.is_empty(),
                (onnx::node::INPUT, Field::Bytes(name)) => node.inputs.push(name),
                (onnx::node::OUTPUT, Field::Bytes(name)) => node.outputs.push(name),
                (onnx::node::ATTRIBUTE, Field::Bytes(attribute)) => {
                    let (mut name, mut number_of, mut axes) = (&b""[..], None, Vec::new());
                    for_each(attribute, |number, field| {
                        match (number, field) {
                            (onnx::attribute::G, Field::Bytes(graph)) => node.body = Some(graph),
                            (onnx::attribute::NAME, Field::Bytes(text)) => name = text,
                            (onnx::attribute::I, Field::Number(found)) => number_of = Some(found),
                            (onnx::attribute::INTS, found) => numbers(found, &mut axes)?,
                            _ => {}
                        }
                        Some(())
                    })?;
                    let is_default = name == b"keepdims" && number_of == Some(1);
                    node.is_plain &= is_default;
                    node.is_of_last_axis |= name == b"axis" && number_of == Some(LAST_AXIS);
                    if name == b"perm" {
                        node.order = axes;
                    }
                }
                _ => {}
            }
            Some(())
        })?;
        if is_foreign {
            node.operator = b""; // no operator that is looked for
        }
        Some(node)
    }

    /// The node with another graph in it.
    pub(super) fn with_body(&self, body: &Message) -> Option<Message> {
        rewritten(self.bytes, |number, attribute| match number {
            onnx::node::ATTRIBUTE if holds_graph(attribute)? => {
                let with_body = |number, _: &[u8]| match number {
                    onnx::attribute::G => Some(Change::Replace(body.clone())),
                    _ => Some(Change::Keep),
                };
                rewritten(attribute, with_body).map(Change::Replace)
            }
            _ => Some(Change::Keep),
        })
    }

    /// The node as it is.
    pub(super) fn message(&self) -> Option<Message> {
        rewritten(self.bytes, |_, _| Some(Change::Keep))
    }

    /// Whether all attributes are what they are where they are left out.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether a graph in it is run once for each part of what it reads.
    pub(super) fn is_loop(&self) -> bool {
        self.operator == b"Scan"
    }
}

/// A constant's extents, type and values, as far as these are in the graph.
#[derive(Clone, Debug)]
struct Known<'a> {
    dims: Vec<u64>,
    element: u64,
    values: Option<&'a [u8]>,
}

/// A graph.
pub(super) struct Scope<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    constants: BTreeMap<Name<'a>, Known<'a>>,
    /// The number of the node that makes a value.
    makers: BTreeMap<Name<'a>, usize>,
    pub(super) outputs: Vec<Name<'a>>,
    /// The types of their elements; 0 where none is told.
    pub(super) output_elements: Vec<u64>,
    /// Images that nobody reads any more once a node here did.
    pub(super) last: BTreeSet<Name<'a>>,
    outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    /// Reads a `GraphProto` inside `outer`; `None` if it is none.
    pub(super) fn read(bytes: &'a [u8], outer: Option<&'a Scope<'a>>) -> Option<Self> {
        let (nodes, constants, makers, outputs, output_elements, last) = Default::default();
        let mut scope = Self { nodes, constants, makers, outputs, output_elements, last, outer };
        for_each(bytes, |number, field| {
            match (number, field) {
                (onnx::graph::NODE, Field::Bytes(inner)) => {
                    let node = Node::read(inner)?;
                    let at = scope.nodes.len();
                    scope.makers.extend(node.outputs.iter().map(|name| (*name, at)));
                    scope.nodes.push(node);
                }
                (onnx::graph::INITIALIZER, Field::Bytes(inner)) => {
                    let (name, known) = known(inner)?;
                    scope.constants.insert(name, known);
                }
                (onnx::graph::OUTPUT, Field::Bytes(inner)) => {
                    let (mut output, mut element) = (None, 0);
                    for_each(inner, |number, field| {
                        match (number, field) {
                            (onnx::value_info::NAME, Field::Bytes(name)) => output = Some(name),
                            (onnx::value_info::TYPE, Field::Bytes(kind)) => {
                                element = element_of(kind)?;
                            }
                            _ => {}
                        }
                        Some(())
                    })?;
                    scope.outputs.extend(output);
                    scope.output_elements.extend(output.map(|_| element));
                }
                _ => {}
            }
            Some(())
        })?;
        Some(scope)
    }

    /// The node of this graph that makes `value`, if it is an `operator` with the usual attributes.
    pub(super) fn plain(&self, value: Name<'_>, operator: &str) -> Option<(usize, &Node<'a>)> {
        let at = *self.makers.get(value)?;
        let node = self.nodes.get(at)?;
        (node.is_plain && node.operator == operator.as_bytes()).then_some((at, node))
    }

    /// The number of the node of this graph that makes `value`.
    pub(super) fn maker(&self, value: Name<'_>) -> Option<usize> {
        self.makers.get(value).copied()
    }

    /// The values that a node reads, here and inside; `None` if a graph inside is none.
    pub(super) fn read_by(node: &Node<'a>) -> Option<BTreeSet<Name<'a>>> {
        let mut read: BTreeSet<_> = node.inputs.iter().copied().collect();
        if let Some(body) = node.body {
            read_inside(body, &mut read, MAX_DEPTH)?;
        }
        Some(read)
    }

    fn constant(&self, name: Name<'_>) -> Option<&Known<'a>> {
        let here = self.constants.get(name);
        here.or_else(|| self.outer?.constant(name))
    }

    /// Whether `names` are the scale and the zero point of bytes, one for all.
    pub(super) fn are_step_of_bytes(&self, names: [Name<'_>; 2]) -> bool {
        let is_one_of = |(name, element)| {
            let known = self.constant(name);
            known.is_some_and(|known| known.dims.is_empty() && known.element == element)
        };
        names.into_iter().zip([FLOAT, BYTE]).all(is_one_of)
    }

    /// Whether `name` is a constant with these values, as they lie in the graph.
    pub(super) fn holds(&self, name: Name<'_>, values: &[u8]) -> bool {
        self.constant(name).is_some_and(|known| known.values == Some(values))
    }

    /// Whether whoever runs this graph gives `name`.
    pub(super) fn is_given(&self, name: Name<'_>) -> bool {
        !self.makers.contains_key(name) && self.constant(name).is_none()
    }

    /// The integers of a constant, as far as they lie in the graph.
    pub(super) fn integers(&self, name: Name<'_>) -> Option<Vec<i64>> {
        let known = self.constant(name).filter(|known| known.element == INTEGER)?;
        let (values, []) = known.values?.as_chunks() else { return None };
        Some(values.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// The node here that makes `value`, if it is an `operator`, whatever its attributes.
    pub(super) fn made_by(&self, value: Name<'_>, operator: &str) -> Option<&Node<'a>> {
        let node = self.nodes.get(self.maker(value)?)?;
        (node.operator == operator.as_bytes()).then_some(node)
    }

    /// What the node here that makes `value` reads, if it is an `operator` of two values with the
    /// usual attributes.
    pub(super) fn operands(&self, value: Name<'_>, operator: &str) -> Option<[Name<'a>; 2]> {
        self.plain(value, operator)?.1.inputs.as_slice().try_into().ok()
    }

    /// Whether `name` is the shape of a matrix whose rows are pixels.
    pub(super) fn is_shape_of_matrix(&self, name: Name<'_>) -> bool {
        let values = self.constant(name).and_then(|known| known.values);
        values
            .is_some_and(|values| values.len() == 16 && values.starts_with(&(-1i64).to_le_bytes()))
    }

    /// Whether `name` is of the graph around this one, or of this one where none is around it, and
    /// has one axis: a constant, or what a `Reshape` makes of something.
    pub(super) fn is_outer_vector(&self, name: Name<'_>) -> bool {
        if self.outer.is_some() && self.makers.contains_key(name) {
            return false;
        }
        if let Some(known) = self.constant(name) {
            return known.dims.len() == 1;
        }
        let top = self.outer.unwrap_or(self);
        let Some((_, reshape)) = top.plain(name, "Reshape") else { return false };
        let target = reshape.inputs.get(1).and_then(|target| top.constant(target));
        target.is_some_and(|target| target.dims == [1])
    }

    /// The values that are read, by nodes here and inside, and by whoever runs this graph. Nodes
    /// that are `gone` read nothing.
    pub(super) fn read_values(&self, gone: &[bool]) -> Option<BTreeSet<Name<'a>>> {
        let mut read: BTreeSet<_> = self.outputs.iter().copied().collect();
        let left = self.nodes.iter().zip(gone).filter(|(_, gone)| !**gone);
        for (node, _) in left {
            read.extend(Self::read_by(node)?);
        }
        Some(read)
    }

    /// Those of `images` that one node here reads, and no other.
    pub(super) fn read_once(&self, mut images: BTreeSet<Name<'a>>) -> Option<BTreeSet<Name<'a>>> {
        let read = self.nodes.iter().map(Self::read_by).collect::<Option<Vec<_>>>()?;
        let count = |image: &Name<'a>| read.iter().filter(|read| read.contains(image)).count();
        images.retain(|image| count(image) == 1 && !self.outputs.contains(image));
        Some(images)
    }

    /// The one node here that reads `value`, if it is an `operator` with the usual attributes.
    pub(super) fn reader(&self, value: Name<'_>, operator: &str) -> Option<(usize, &Node<'a>)> {
        let reads = |node: &Node<'a>| node.inputs.contains(&value);
        let mut found = self.nodes.iter().enumerate().filter(|(_, node)| reads(node));
        let (at, node) = found.next()?;
        let is_it = node.is_plain && node.operator == operator.as_bytes();
        (is_it && found.next().is_none() && !self.outputs.contains(&value)).then_some((at, node))
    }
}

/// Adds what the nodes of a graph read, and those inside.
fn read_inside<'a>(graph: &'a [u8], read: &mut BTreeSet<Name<'a>>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let Scope { nodes, outputs, .. } = Scope::read(graph, None)?;
    read.extend(outputs);
    nodes.into_iter().try_for_each(|node| {
        read.extend(node.inputs);
        node.body.map_or(Some(()), |body| read_inside(body, read, depth))
    })
}

/// The type of the elements that a `TypeProto` says; 0 if it is no tensor.
fn element_of(kind: &[u8]) -> Option<u64> {
    let mut element = 0;
    for_each(kind, |number, field| match (number, field) {
        (onnx::value_type::TENSOR, Field::Bytes(tensor)) => for_each(tensor, |number, field| {
            if let (onnx::tensor_type::ELEM_TYPE, Field::Number(found)) = (number, field) {
                element = found;
            }
            Some(())
        }),
        _ => Some(()),
    })?;
    Some(element)
}

fn known(tensor: &[u8]) -> Option<(Name<'_>, Known<'_>)> {
    let Constant { name, dims, element, .. } = Constant::of(tensor)?;
    let mut values = None;
    for_each(tensor, |number, field| {
        if let (onnx::tensor::RAW_DATA, Field::Bytes(bytes)) = (number, field) {
            values = Some(bytes);
        }
        Some(())
    })?;
    Some((name, Known { dims, element, values }))
}
