//! A graph of integers with [operators of our own](super::operators): found node by node when it is
//! loaded. Packages hold operators of ONNX and ONNX Runtime alone.
//!
//! What an activation makes of bytes is a table of 256 bytes for each channel. ONNX Runtime's own
//! operators compute it, once for an image: the same that would compute every pixel, so every byte
//! is the same. [`ScaledAddition`](super::operators::ADDITION) is the same to the bit as well.
//! [`Statistics`](super::operators::STATISTICS) are rounded once, not with every pixel. Norms and GELU
//! of floats become one pass each, the same but for the order in which numbers are added.

mod attention;
mod last;
mod passes;
mod patterns;
mod scope;

use std::collections::BTreeSet;

use pocketmuse_package::{
    graph::MICROSOFT_DOMAIN,
    onnx,
    wire::{Field, Message, for_each},
};

use self::{
    last::Readers,
    patterns::{Activation, Addition, Rows, Statistics},
    scope::{BYTE, INTEGER, Name, Node, Scope},
};
use crate::engine::{
    operators::{ADDITION, DOMAIN, LAST_ROWS, LOOKUP, LOOKUP_FLOATS, STATISTICS, VERSION},
    rewrite::{Change, rewritten},
};

/// Every byte, a constant.
const ALL_BYTES: &str = "own.all_bytes";

/// The shape of a column, a constant.
const COLUMN: &str = "own.column";

/// The model `bytes` with operators of our own; `None` if it is no model or has nothing that they
/// stand for. The values of its graph that are `watched` are made as they were, beside what makes its
/// outputs now.
pub(super) fn with_own_operators(bytes: &[u8], watched: &[Name<'_>]) -> Option<Vec<u8>> {
    let mut found = 0;
    let mut model = rewritten(bytes, |number, inner| match number {
        onnx::model::GRAPH => top(inner, watched, &mut found).map(Change::Replace),
        _ => Some(Change::Keep),
    })?;
    for (domain, number) in [(DOMAIN, VERSION), (MICROSOFT_DOMAIN, 1)] {
        let mut version = Message::default();
        version.text(onnx::opset::DOMAIN, domain).number(onnx::opset::VERSION, number);
        model.message(onnx::model::OPSET_IMPORT, &version);
    }
    (found > 0).then(|| model.into_bytes())
}

/// A node to be.
struct NewNode {
    operator: &'static str,
    domain: &'static str,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl NewNode {
    /// An operator of ONNX.
    fn of(operator: &'static str, inputs: &[Name<'_>], output: &[u8]) -> Self {
        Self::own(operator, inputs, &[output]).within("")
    }

    /// An operator of our own.
    fn own(operator: &'static str, inputs: &[Name<'_>], outputs: &[Name<'_>]) -> Self {
        let [inputs, outputs] =
            [inputs, outputs].map(|names| names.iter().map(|name| name.to_vec()).collect());
        Self { operator, domain: DOMAIN, inputs, outputs }
    }

    fn within(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    fn message(&self) -> Message {
        let mut node = Message::default();
        for name in &self.inputs {
            node.bytes(onnx::node::INPUT, name);
        }
        for name in &self.outputs {
            node.bytes(onnx::node::OUTPUT, name);
        }
        node.text(onnx::node::OP_TYPE, self.operator);
        if let Some(name) = self.outputs.first() {
            node.bytes(onnx::node::NAME, name);
        }
        if !self.domain.is_empty() {
            node.text(onnx::node::DOMAIN, self.domain);
        }
        node
    }
}

/// What becomes of a node.
#[derive(Default)]
struct Fate {
    is_gone: bool,
    replacement: Option<NewNode>,
    /// What goes before it, or before the node whose graph it is in.
    before: Vec<NewNode>,
}

/// The graph of a model.
fn top(bytes: &[u8], watched: &[Name<'_>], found: &mut usize) -> Option<Message> {
    let mut scope = Scope::read(bytes, None)?;
    scope.outputs.extend(watched);
    let readers = Readers::of(&scope)?;
    let (mut nodes, mut before, mut has_tables) = (Vec::new(), Vec::new(), false);
    for (at, (node, fate)) in scope.nodes.iter().zip(fates(&scope, found)?).enumerate() {
        before.extend(fate.before);
        let inside = node.body.map(|body| {
            let mut inner = Scope::read(body, Some(&scope))?;
            inner.last = inner.read_once(readers.last_read(at))?;
            let mut nodes = Vec::new();
            for (node, fate) in inner.nodes.iter().zip(fates(&inner, found)?) {
                before.extend(fate.before);
                nodes.extend(fate.replacement.map_or_else(
                    || if fate.is_gone { None } else { node.message() },
                    |new| Some(new.message()),
                ));
            }
            node.with_body(&with_nodes(body, &nodes)?)
        });
        has_tables |= !before.is_empty();
        nodes.extend(before.drain(..).map(|new| new.message()));
        match (inside, fate.replacement) {
            (_, Some(new)) => nodes.push(new.message()),
            _ if fate.is_gone => {}
            (Some(node), None) => nodes.push(node?),
            (None, None) => nodes.push(node.message()?),
        }
    }
    let mut graph = with_nodes(bytes, &nodes)?;
    if has_tables {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let column: Vec<u8> = [-1i64, 1].iter().flat_map(|extent| extent.to_le_bytes()).collect();
        for (name, extent, element, values) in
            [(ALL_BYTES, 256, BYTE, all), (COLUMN, 2, INTEGER, column)]
        {
            let mut constant = Message::default();
            constant.number(onnx::tensor::DIMS, extent);
            constant.number(onnx::tensor::DATA_TYPE, element);
            constant.text(onnx::tensor::NAME, name).bytes(onnx::tensor::RAW_DATA, &values);
            graph.message(onnx::graph::INITIALIZER, &constant);
        }
    }
    Some(graph)
}

/// A graph with other nodes.
fn with_nodes(graph: &[u8], nodes: &[Message]) -> Option<Message> {
    let mut made = Message::default();
    for node in nodes {
        made.message(onnx::graph::NODE, node);
    }
    for_each(graph, |number, field| {
        let made = &mut made;
        match field {
            Field::Bytes(_) if number == onnx::graph::NODE => made,
            Field::Bytes(bytes) => made.bytes(number, bytes),
            Field::Number(value) => made.number(number, value),
            Field::Fixed => return None,
        };
        Some(())
    })?;
    Some(made)
}

/// What becomes of each node of a graph.
fn fates(scope: &Scope<'_>, found: &mut usize) -> Option<Vec<Fate>> {
    let mut fates: Vec<Fate> = scope.nodes.iter().map(|_| Fate::default()).collect();
    for (at, node) in scope.nodes.iter().enumerate() {
        if node.operator == b"QuantizeLinear" && node.is_plain() {
            if let Some(activation) = scope.activation(at, node) {
                replace(&activation, &mut fates);
            } else if let Some(addition) = scope.addition(node) {
                fates[at].is_gone = true;
                fates[at].replacement = Some(sum_of(&addition));
            }
        } else if node.operator == b"Transpose" && node.order == [0, 3, 1, 2] {
            if let Some(activation) = scope.planes(at, node) {
                replace(&activation, &mut fates);
            }
        } else if let Some(new) = of_floats(scope, node) {
            fates[at].is_gone = true;
            fates[at].replacement = Some(new);
        } else if let Some(rows) = scope.last_rows(node) {
            fates[at].is_gone = true;
            fates[at].replacement = Some(last_of(&rows, &node.outputs));
        } else if let Some(statistics) = scope.statistics(node) {
            let Statistics { pixels, outputs, squares } = statistics;
            [at, squares].iter().for_each(|&replaced| fates[replaced].is_gone = true);
            fates[at.min(squares)].replacement =
                Some(NewNode::own(STATISTICS, &[pixels], &outputs));
        }
    }
    let new = fates.iter().filter(|fate| fate.replacement.is_some()).count();
    *found += new;
    if new > 0 {
        drop_unread(scope, &mut fates)?;
    }
    Some(fates)
}

/// The operator on floats that ends with `node`.
fn of_floats(scope: &Scope<'_>, node: &Node<'_>) -> Option<NewNode> {
    match node.operator {
        b"Mul" => scope.gelu(node),
        b"Reshape" => scope.attention(node),
        b"Add" => scope.modulated_norm(node),
        _ => None,
    }
}

fn replace(activation: &Activation<'_>, fates: &mut [Fate]) {
    activation.replaced.iter().for_each(|&replaced| fates[replaced].is_gone = true);
    let (before, table) = table(activation);
    let place = &mut fates[activation.replaced[0]];
    (place.before, place.replacement) = (before, Some(lookup_in(activation, &table)));
}

/// Has nodes go whose results nobody reads any more.
fn drop_unread(scope: &Scope<'_>, fates: &mut [Fate]) -> Option<()> {
    loop {
        let gone: Vec<bool> = fates.iter().map(|fate| fate.is_gone).collect();
        let new: BTreeSet<Vec<u8>> = fates
            .iter()
            .flat_map(|fate| fate.replacement.iter().chain(&fate.before))
            .flat_map(|new| new.inputs.iter().cloned())
            .collect();
        let read = scope.read_values(&gone)?;
        let is_unread = |name: &Name<'_>| !read.contains(name) && !new.contains(*name);
        let unread = |(node, fate): (&Node<'_>, &mut Fate)| {
            let is_new = match &fate.replacement {
                Some(new) => new.outputs.iter().all(|name| is_unread(&name.as_slice())),
                None => !fate.is_gone && node.outputs.iter().all(is_unread),
            };
            if is_new {
                (fate.is_gone, fate.replacement) = (true, None);
            }
            is_new
        };
        if scope.nodes.iter().zip(&mut *fates).map(unread).filter(|is_new| *is_new).count() == 0 {
            return Some(());
        }
    }
}

/// The nodes that make the table of an activation, and the table: the nodes that are replaced, for
/// every byte.
fn table(activation: &Activation<'_>) -> (Vec<NewNode>, Vec<u8>) {
    let Activation { read, made, scale, shift, output, .. } = activation;
    let name = |part: &str| [output, b".".as_slice(), part.as_bytes()].concat();
    let [units, scales, shifts, scaled] = ["units", "scales", "shifts", "scaled"].map(name);
    let [normal, gate, active, table] = ["normal", "gate", "active", "table"].map(name);
    let mut nodes = vec![
        NewNode::of("DequantizeLinear", &[ALL_BYTES.as_bytes(), read[0], read[1]], &units),
        NewNode::of("Reshape", &[scale, COLUMN.as_bytes()], &scales),
        NewNode::of("Reshape", &[shift, COLUMN.as_bytes()], &shifts),
        NewNode::of("Mul", &[&units, &scales], &scaled),
        NewNode::of("Add", &[&scaled, &shifts], &normal),
        NewNode::of("Sigmoid", &[&normal], &gate),
        NewNode::of("Mul", &[&normal, &gate], &active),
    ];
    let Some(made) = made else { return (nodes, active) };
    nodes.push(NewNode::of("QuantizeLinear", &[&active, made[0], made[1]], &table));
    (nodes, table)
}

/// The operator that looks up what [`table`] made.
fn lookup_in(activation: &Activation<'_>, table: &[u8]) -> NewNode {
    let Activation { rows: Rows { image, range }, made, pads, output, .. } = activation;
    let operator = if made.is_some() { LOOKUP } else { LOOKUP_FLOATS };
    let [[start, end], [pads, fill]] = [range, pads].map(|pair| pair.unwrap_or_default());
    NewNode::own(operator, &[image, table, start, end, pads, fill], &[output])
}

/// The operator that reads rows for the last time.
fn last_of(Rows { image, range }: &Rows<'_>, outputs: &[Name<'_>]) -> NewNode {
    let [start, end] = range.unwrap_or_default();
    NewNode::own(LAST_ROWS, &[image, start, end], outputs)
}

/// The operator that adds two images.
fn sum_of(addition: &Addition<'_>) -> NewNode {
    let Addition { one, other: Rows { image, range }, factors, output } = addition;
    let ([factor, other_factor], [start, end]) =
        (factors.map(Option::unwrap_or_default), range.unwrap_or_default());
    NewNode::own(ADDITION, &[one, image, factor, other_factor, start, end], &[output])
}

#[cfg(test)]
mod tests;
