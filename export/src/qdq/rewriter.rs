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
    /// What comes out, and how many axes it has.
    pub(super) results: HashMap<String, usize>,
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
                let mut operands: Vec<_> = operands.collect::<Result<_>>()?;
                if node.op == "MatMul" && !self.constants.contains_key(&node.inputs[1]) {
                    operands[1] = self.signed(&node.inputs[1], &operands[1])?;
                }
                operands
            }
        };
        let outputs = node.outputs.clone();
        let is_float = |name: &String| self.values.set_of(name).is_some();
        let floats: Vec<_> = outputs.into_iter().filter(is_float).collect();
        let is_split = node.op == "Split";
        let results = floats.iter().filter(|name| is_split && self.results.contains_key(*name));
        let parts: Vec<_> = results.cloned().collect();
        for output in node.outputs.iter_mut().filter(|output| floats.contains(output)) {
            let part = if parts.contains(output) { ".part" } else { "" };
            *output = format!("{output}{part}.exact");
        }
        self.nodes.push(node);
        parts.iter().try_for_each(|name| self.part(name))?;
        floats.iter().try_for_each(|name| self.round(&format!("{name}.exact"), name, name))
    }

    /// A part of a Split that comes out, by way of a Reshape that changes nothing: OpenVINO fails to
    /// compile what rounds such a part and comes out at once.
    fn part(&mut self, name: &str) -> Result<()> {
        let part = format!("{name}.part");
        self.round(&format!("{part}.exact"), &part, name)?;
        let axes = self.results[name];
        let zeros = Data::Inline(Dtype::I64, vec![0; axes * Dtype::I64.bytes()]);
        let shape = self.once(&format!("same.{axes}"), &[axes], zeros);
        self.nodes.push(node("Reshape", &[&part, &shape], &format!("{name}.exact"), vec![]));
        Ok(())
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

    /// The value `of` in signed integers with 0 in their middle; its floats are called `floats`.
    /// A Hexagon multiplies by such: by others it is up to 5 % off.
    fn signed(&mut self, of: &str, floats: &str) -> Result<String> {
        let signed = format!("{of}.signed");
        if self.rounded.insert(signed.clone()) {
            let scale = self.scale(self.step(of)?.symmetric());
            let zero = Data::Inline(Dtype::I16, 0i16.to_le_bytes().to_vec());
            let zero = self.once("zero_point.s16", &[], zero);
            let integers = format!("{of}.s16");
            let inputs = [floats, &scale, &zero];
            self.nodes.push(node("QuantizeLinear", &inputs, &integers, vec![]));
            self.dequantize(&[&integers, &scale, &zero], &signed, None);
        }
        Ok(signed)
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
        [self.scale(scale), self.once(&format!("zero_point.{zero_point}"), &[], zero)]
    }

    fn scale(&mut self, scale: f32) -> String {
        let bytes = Data::Inline(Dtype::F32, scale.to_le_bytes().to_vec());
        self.once(&format!("scale.{:08x}", scale.to_bits()), &[], bytes)
    }

    /// A constant that is there once.
    fn once(&mut self, name: &str, shape: &[usize], data: Data) -> String {
        if self.rounded.insert(name.to_owned()) {
            self.made.push(Initializer { name: name.to_owned(), shape: shape.to_vec(), data });
        }
        name.to_owned()
    }
}
