//! An ONNX graph as plain data: what the builder makes, the quantizer rewrites and the writer
//! writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use pocketmuse_package::{Dtype, TensorSpec};

use crate::{checkpoint::Weight, error::Result};

/// A graph: nodes in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name, for people.
    pub name: String,
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// The operators.
    pub nodes: Vec<Node>,
    /// The constants.
    pub initializers: Vec<Initializer>,
    /// Inner values worth looking at, by the name they have in reference files.
    pub taps: BTreeMap<String, TensorSpec>,
}

impl Graph {
    /// The operators, those inside operators included, each behind its domain as in [`Node::op`].
    pub fn operators(&self) -> BTreeSet<&'static str> {
        let inner =
            self.nodes.iter().flat_map(|node| &node.attributes).filter_map(|(_, attribute)| {
                match attribute {
                    Attribute::Graph(graph) => Some(graph.operators()),
                    _ => None,
                }
            });
        self.nodes.iter().map(|node| node.op).chain(inner.flatten()).collect()
    }

    /// The domains of the operators.
    pub fn domains(&self) -> BTreeSet<&'static str> {
        self.operators().into_iter().map(|op| domain_and_op(op).0).collect()
    }
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique in the graph.
    pub name: String,
    /// The operator's name, behind its domain and a dot unless that is ONNX's own:
    /// `com.microsoft.QLinearConv`.
    pub op: &'static str,
    /// Names of values; empty for an optional input left out.
    pub inputs: Vec<String>,
    /// Names of the values made.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: Vec<(&'static str, Attribute)>,
}

impl Node {
    /// The operator's domain, empty for ONNX's own, and its name there.
    pub fn domain_and_op(&self) -> (&'static str, &'static str) {
        domain_and_op(self.op)
    }
}

fn domain_and_op(op: &'static str) -> (&'static str, &'static str) {
    op.rsplit_once('.').unwrap_or(("", op))
}

/// An attribute's value.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// One integer.
    Int(i64),
    /// One float.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// A word.
    Text(&'static str),
    /// A graph that the operator runs. It has no constants of its own and sees the values of the
    /// graph around it.
    Graph(Box<Graph>),
}

/// A constant.
#[derive(Clone, Debug)]
pub struct Initializer {
    /// Unique among the graph's values.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The values.
    pub data: Data,
}

/// A constant's values, in memory or still in the checkpoint.
#[derive(Clone, Debug)]
pub enum Data {
    /// Small constants.
    Inline(Dtype, Vec<u8>),
    /// f32 values, read when the graph is written.
    Weight(Weight),
    /// Values of any type, computed when the graph is written.
    Recipe(Dtype, Recipe),
}

/// How to compute a constant's bytes, little-endian.
#[derive(Clone)]
pub struct Recipe(Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>);

impl Recipe {
    /// A recipe that `compute` carries out.
    pub fn new(compute: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(compute))
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// If the checkpoint cannot be read or holds values that are not finite.
    pub fn compute(&self) -> Result<Vec<u8>> {
        (self.0)()
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipe")
    }
}

impl Initializer {
    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        match &self.data {
            Data::Inline(dtype, _) | Data::Recipe(dtype, _) => *dtype,
            Data::Weight(_) => Dtype::F32,
        }
    }

    /// Its size when written.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().bytes()
    }

    /// Its values, little-endian.
    ///
    /// # Errors
    ///
    /// If the checkpoint cannot be read or holds values that are not finite.
    pub fn values(&self) -> Result<Vec<u8>> {
        match &self.data {
            Data::Inline(_, bytes) => Ok(bytes.clone()),
            Data::Weight(weight) => Ok(little_endian(weight.values()?)),
            Data::Recipe(_, recipe) => recipe.compute(),
        }
    }
}

/// The bytes of f32 values in the order of the files, which is the processor's nearly everywhere.
pub(crate) fn little_endian(values: Vec<f32>) -> Vec<u8> {
    if cfg!(target_endian = "little") {
        bytemuck::cast_slice(&values).to_vec()
    } else {
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    }
}
