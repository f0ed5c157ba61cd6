//! Graph to graph: every float value becomes 16-bit integers of a measured range, every weight
//! 8-bit ones with a scale for each output channel. Knows operators, no model.
//!
//! The operators stay those of floats: behind each, `QuantizeLinear` and `DequantizeLinear` say what
//! integers hold what it makes, and every constant comes out of a `DequantizeLinear`. A provider
//! that computes with integers takes all three together; one that does not computes in floats and
//! rounds. Weights of linear layers are the bytes that the flavour int8 has.

mod constants;
mod observe;
mod step;
mod values;

use std::collections::{HashMap, HashSet};

use pocketmuse_package::{Dtype, Ranges};

pub(crate) use self::values::Known;
use self::{observe::node, step::Step, values::Values};
use crate::{
    error::{Error, ErrorKind, Result},
    graph::{Attribute, Data, Graph, Initializer, Node},
    quantize::{self, Bits},
};

/// The graph of floats with taps for the ranges that [`rewrite`] needs; its linear layers are of
/// `bits`, whose results have the same ranges.
///
/// # Errors
///
/// If a constant cannot be read.
pub(crate) fn observed(graph: Graph, known: &[Known], bits: Option<Bits>) -> Result<Graph> {
    let names = Values::of(&graph, known)?.measured().to_vec();
    let graph = match bits {
        Some(bits) => quantize::rewrite(graph, bits),
        None => graph,
    };
    Ok(observe::observed(graph, &names))
}

/// The graph of floats in integers of the measured `ranges`.
///
/// # Errors
///
/// `BadInput` if `ranges` are not those of the taps of [`observed`]; if a constant cannot be read.
pub(crate) fn rewrite(graph: Graph, known: &[Known], ranges: &Ranges) -> Result<Graph> {
    let values = Values::of(&graph, known)?;
    let steps = values.steps(ranges)?;
    let Graph { name, inputs, outputs, nodes, initializers, taps } = graph;
    let constants = initializers.iter().map(|constant| (constant.name.clone(), constant.clone()));
    let mut rewriter = Rewriter {
        values,
        steps,
        constants: constants.collect(),
        given: HashSet::new(),
        nodes: Vec::new(),
        made: Vec::new(),
        rounded: HashMap::new(),
    };
    for input in inputs.iter().filter(|input| input.dtype == Dtype::F32) {
        let (name, rounded) = (input.name.clone(), format!("{}.rounded", input.name));
        rewriter.round(&name, &rounded, &name)?;
        rewriter.given.insert(name);
    }
    nodes.into_iter().try_for_each(|node| rewriter.rewrite(node))?;
    let Rewriter { nodes, mut made, .. } = rewriter;
    let read: HashSet<&String> = nodes.iter().flat_map(|node| &node.inputs).collect();
    made.extend(initializers.into_iter().filter(|constant| read.contains(&constant.name)));
    Ok(Graph { name, inputs, outputs, nodes, initializers: made, taps })
}

/// The values of a constant of floats.
fn floats(constant: &Initializer) -> Result<Vec<f32>> {
    let bytes = constant.values()?;
    let (words, _) = bytes.as_chunks::<4>();
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// A graph in the making, from one of floats.
struct Rewriter {
    values: Values,
    steps: HashMap<usize, Step>,
    /// Those of the graph of floats.
    constants: HashMap<String, Initializer>,
    /// Floats that go in.
    given: HashSet<String>,
    nodes: Vec<Node>,
    made: Vec<Initializer>,
    /// Constants and steps that are there already: what they are called.
    rounded: HashMap<String, String>,
}

impl Rewriter {
    fn rewrite(&mut self, mut node: Node) -> Result<()> {
        node.inputs = match node.op {
            "Conv" => self.convolution(&node)?,
            "LayerNormalization" | "InstanceNormalization" | "SimplifiedLayerNormalization" => {
                self.norm(&node)?
            }
            _ => {
                let operands = (0..node.inputs.len()).map(|at| self.operand(&node, at));
                operands.collect::<Result<_>>()?
            }
        };
        let outputs = node.outputs.clone();
        let is_float = |name: &String| self.values.set_of(name).is_some();
        let floats: Vec<_> = outputs.into_iter().filter(is_float).collect();
        for output in node.outputs.iter_mut().filter(|output| floats.contains(output)) {
            *output = format!("{output}.exact");
        }
        self.nodes.push(node);
        floats.iter().try_for_each(|name| self.round(&format!("{name}.exact"), name, name))
    }

    /// What a node reads as its input `at`.
    fn operand(&mut self, node: &Node, at: usize) -> Result<String> {
        let name = &node.inputs[at];
        if self.values.set_of(name).is_none() {
            return Ok(name.clone());
        }
        if self.given.contains(name) {
            return Ok(format!("{name}.rounded"));
        }
        match self.constants.get(name).cloned() {
            None => Ok(name.clone()),
            Some(weight) if node.op == "MatMul" && at == 1 && weight.shape.len() == 2 => {
                self.matrix(&weight)
            }
            Some(constant) => self.constant(&constant),
        }
    }

    /// The step of a value.
    fn step(&self, name: &str) -> Result<Step> {
        let set = self.values.set_of(name);
        let step = set.and_then(|set| self.steps.get(&set)).copied();
        step.ok_or_else(|| Error::new(ErrorKind::BadInput, name, "expected a range, found none"))
    }

    /// Adds what makes `rounded` of `exact`: the step is that of the value `of`.
    fn round(&mut self, exact: &str, rounded: &str, of: &str) -> Result<()> {
        let step = self.step(of)?;
        let [scale, zero_point] = self.scale_of(step);
        let integers = format!("{rounded}.u16");
        let inputs = [exact, &scale, &zero_point];
        self.nodes.push(node("QuantizeLinear", &inputs, &integers, vec![]));
        self.dequantize(&[&integers, &scale, &zero_point], rounded, None);
        Ok(())
    }

    /// Adds what makes floats, called `floats`, of integers; scales are of places along `axis`.
    fn dequantize(&mut self, inputs: &[&str], floats: &str, axis: Option<i64>) {
        let attributes = axis.map(|axis| ("axis", Attribute::Int(axis))).into_iter().collect();
        self.nodes.push(node("DequantizeLinear", inputs, floats, attributes));
    }

    /// The constants of a step: scale, zero point. Equal steps share them.
    fn scale_of(&mut self, step: Step) -> [String; 2] {
        let Step { scale, zero_point } = step;
        let zero = Data::Inline(Dtype::U16, zero_point.to_le_bytes().to_vec());
        let scale_name = format!("scale.{:08x}", scale.to_bits());
        let scale = Data::Inline(Dtype::F32, scale.to_le_bytes().to_vec());
        [(scale_name, scale), (format!("zero_point.{zero_point}"), zero)].map(|(name, data)| {
            if !self.rounded.contains_key(&name) {
                self.rounded.insert(name.clone(), name.clone());
                self.made.push(Initializer { name: name.clone(), shape: vec![], data });
            }
            name
        })
    }
}
