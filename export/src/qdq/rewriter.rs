//! A graph in the making: operators with what rounds behind each.

use std::collections::{HashMap, HashSet};

use pocketmuse_package::Dtype;

use super::{observe::node, step::Step, values::Values};
use crate::{
    error::{Error, ErrorKind, Result},
    graph::{Attribute, Data, Initializer, Node},
};

/// How large tables of rows are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// In 16 bits.
    Whole,
    /// In 8 bits with a scale for each row, as the flavour int8 has them.
    ByRow,
}

/// A graph in the making, from one of floats.
pub(super) struct Rewriter {
    pub(super) values: Values,
    pub(super) steps: HashMap<usize, Step>,
    pub(super) tables: Tables,
    /// Those of the graph of floats.
    pub(super) constants: HashMap<String, Initializer>,
    /// Floats that go in.
    pub(super) given: HashSet<String>,
    pub(super) nodes: Vec<Node>,
    pub(super) made: Vec<Initializer>,
    /// The names of constants and steps that are there already.
    pub(super) rounded: HashSet<String>,
}

impl Rewriter {
    pub(super) fn rewrite(&mut self, mut node: Node) -> Result<()> {
        if let Some(table) = self.table_by_row(&node) {
            return self.rows(&node, &table);
        }
        node.inputs = match node.op {
            "Conv" => self.convolution(&node)?,
            "InstanceNormalization" => self.norm_of_groups(&node)?,
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
    pub(super) fn operand(&mut self, node: &Node, at: usize) -> Result<String> {
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
    pub(super) fn step(&self, name: &str) -> Result<Step> {
        let set = self.values.set_of(name);
        let step = set.and_then(|set| self.steps.get(&set)).copied();
        step.ok_or_else(|| Error::new(ErrorKind::BadInput, name, "expected a range, found none"))
    }

    /// Adds what makes `rounded` of `exact`: the step is that of the value `of`.
    pub(super) fn round(&mut self, exact: &str, rounded: &str, of: &str) -> Result<()> {
        let step = self.step(of)?;
        self.round_to(exact, rounded, step);
        Ok(())
    }

    /// Adds what makes `rounded` of `exact`.
    pub(super) fn round_to(&mut self, exact: &str, rounded: &str, step: Step) {
        let [scale, zero_point] = self.scale_of(step);
        let integers = format!("{rounded}.u16");
        let inputs = [exact, &scale, &zero_point];
        self.nodes.push(node("QuantizeLinear", &inputs, &integers, vec![]));
        self.dequantize(&[&integers, &scale, &zero_point], rounded, None);
    }

    /// Adds what makes floats, called `floats`, of integers; scales are of places along `axis`.
    pub(super) fn dequantize(&mut self, inputs: &[&str], floats: &str, axis: Option<i64>) {
        let attributes = axis.map(|axis| ("axis", Attribute::Int(axis))).into_iter().collect();
        self.nodes.push(node("DequantizeLinear", inputs, floats, attributes));
    }

    /// The constants of a step: scale, zero point. Equal steps share them.
    pub(super) fn scale_of(&mut self, step: Step) -> [String; 2] {
        let Step { scale, zero_point } = step;
        let zero = Data::Inline(Dtype::U16, zero_point.to_le_bytes().to_vec());
        let scale_name = format!("scale.{:08x}", scale.to_bits());
        let scale = Data::Inline(Dtype::F32, scale.to_le_bytes().to_vec());
        [(scale_name, scale), (format!("zero_point.{zero_point}"), zero)].map(|(name, data)| {
            if self.rounded.insert(name.clone()) {
                self.made.push(Initializer { name: name.clone(), shape: vec![], data });
            }
            name
        })
    }
}
