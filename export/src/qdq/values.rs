//! The float values of a graph, and which of them share one range. Knows operators, no model.

use std::collections::HashMap;

use pocketmuse_package::{Dtype, Ranges};

use super::step::Step;
use crate::{
    error::Result,
    graph::{Graph, Initializer, Node},
};

/// Operators that move values about and change none: what goes in and what comes out has one range.
const MOVES: [&str; 7] =
    ["Concat", "DepthToSpace", "Gather", "Reshape", "SpaceToDepth", "Split", "Transpose"];

/// Operators whose results lie between 0 and 1.
const SHARES: [&str; 2] = ["Sigmoid", "Softmax"];

/// Calibration sees few images, and 16 bits have room: values may be larger by this before they are
/// clipped. More is not better: docs/quantization.md.
const HEADROOM: f32 = 1.25;

/// A value's name and the least and the most that it can be.
pub(crate) type Known = (&'static str, [f32; 2]);

/// The float values of a graph, in sets that share one range.
pub(super) struct Values {
    ids: HashMap<String, usize>,
    /// Another value of the same set, or the value itself for one of each set.
    parents: Vec<usize>,
    /// Values whose ranges have to be measured.
    measured: Vec<String>,
    /// The least and the most of values that are known.
    known: Vec<(usize, [f32; 2])>,
}

impl Values {
    /// The values of `graph`; `known` ranges are not measured.
    ///
    /// # Errors
    ///
    /// If a constant cannot be read.
    pub(super) fn of(graph: &Graph, known: &[Known]) -> Result<Self> {
        let (ids, parents) = Default::default();
        let mut values = Self { ids, parents, measured: Vec::new(), known: Vec::new() };
        for input in graph.inputs.iter().filter(|input| input.dtype == Dtype::F32) {
            let id = values.add(&input.name);
            match known.iter().find(|(name, _)| *name == input.name) {
                Some((_, range)) => values.known.push((id, *range)),
                None => values.measured.push(input.name.clone()),
            }
        }
        let constants = graph.initializers.iter();
        let constants: HashMap<_, _> =
            constants.map(|constant| (&constant.name, constant)).collect();
        for constant in constants.values().filter(|constant| constant.dtype() == Dtype::F32) {
            values.add(&constant.name);
        }
        for node in graph.nodes.iter().filter(|node| node.op != "Shape") {
            let Some(first) = values.id(&node.inputs[0]) else { continue };
            let outputs: Vec<_> = node.outputs.iter().map(|name| values.add(name)).collect();
            if MOVES.contains(&node.op) {
                values.join(node, first, &outputs);
                if let Some(table) = constants.get(&node.inputs[0]) {
                    values.known.push((first, range_of(table)?));
                }
            } else if SHARES.contains(&node.op) {
                values.known.extend(outputs.into_iter().map(|id| (id, [0.0, 1.0])));
            } else {
                values.measured.extend(node.outputs.iter().cloned());
            }
        }
        Ok(values)
    }

    fn add(&mut self, name: &str) -> usize {
        let id = self.parents.len();
        self.ids.insert(name.to_owned(), id);
        self.parents.push(id);
        id
    }

    /// Whether it is a float.
    fn id(&self, name: &str) -> Option<usize> {
        self.ids.get(name).copied()
    }

    fn set(&self, mut id: usize) -> usize {
        while self.parents[id] != id {
            id = self.parents[id];
        }
        id
    }

    fn join(&mut self, node: &Node, first: usize, outputs: &[usize]) {
        let beside = if node.op == "Concat" { &node.inputs[1..] } else { &[] };
        let beside: Vec<_> = beside.iter().filter_map(|name| self.id(name)).collect();
        for other in outputs.iter().chain(&beside) {
            let (set, other) = (self.set(first), self.set(*other));
            self.parents[other] = set;
        }
    }

    /// The set of a value; `None` if it is no float.
    pub(super) fn set_of(&self, name: &str) -> Option<usize> {
        self.id(name).map(|id| self.set(id))
    }

    /// The values whose ranges have to be measured.
    pub(super) fn measured(&self) -> &[String] {
        &self.measured
    }

    /// The step of each set whose range is known or measured.
    ///
    /// # Errors
    ///
    /// `BadInput` if `ranges` lack a value.
    pub(super) fn steps(&self, ranges: &Ranges) -> Result<HashMap<usize, Step>> {
        let mut found = HashMap::new();
        let mut widen = |id: usize, [least, most]: [f32; 2]| {
            let range = found.entry(self.set(id)).or_insert([0.0f32; 2]);
            *range = [range[0].min(least), range[1].max(most)];
        };
        for name in &self.measured {
            widen(self.ids[name], ranges.whole(name, 1)?.map(|end| HEADROOM * end));
        }
        self.known.iter().for_each(|(id, range)| widen(*id, *range));
        Ok(found.into_iter().map(|(set, range)| (set, Step::holding(range))).collect())
    }
}

/// The least and the most of a constant.
fn range_of(constant: &Initializer) -> Result<[f32; 2]> {
    Ok(range(&floats(constant)?))
}

/// The least and the most of values.
pub(super) fn range(values: &[f32]) -> [f32; 2] {
    values.iter().fold([0.0; 2], |[least, most], value| [least.min(*value), most.max(*value)])
}

/// The values of a constant of floats.
pub(super) fn floats(constant: &Initializer) -> Result<Vec<f32>> {
    let bytes = constant.values()?;
    let (words, _) = bytes.as_chunks::<4>();
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}
