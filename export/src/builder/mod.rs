//! One method per ONNX operator. Each infers the type and shape of what it makes as the node is
//! added, so a wrong graph fails on the line that built it. Knows no model.
//!
//! The methods panic where operands do not fit each other: sizes come from validated configs and
//! shape-checked tensors, so a misfit is a mistake in the code that builds, never in the
//! checkpoint.

mod arithmetic;
mod integer;
mod observe;
mod products;
mod shapes;
mod tiles;

use std::collections::{HashMap, HashSet};

use pocketmuse_package::{Dim, Dtype, Shape, TensorSpec};

use crate::{
    checkpoint::Weight,
    form::Form,
    graph::{Attribute, Data, Graph, Initializer, Node},
};

pub use self::{integer::Step, products::Conv, shapes::To};

/// A value in the graph under construction.
#[derive(Clone, Debug)]
pub struct Value {
    name: String,
    dtype: Dtype,
    shape: Vec<Dim>,
}

impl Value {
    /// The extent of an axis that is known at export.
    #[track_caller]
    pub fn extent(&self, axis: isize) -> usize {
        match self.dim(axis) {
            Dim::Fixed(extent) => *extent,
            Dim::Named(name) => panic!("axis {axis} of {} is {name}, not a number", self.name),
        }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[Dim] {
        &self.shape
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    #[track_caller]
    fn dim(&self, axis: isize) -> &Dim {
        &self.shape[self.axis(axis)]
    }

    #[track_caller]
    fn axis(&self, axis: isize) -> usize {
        let rank = self.shape.len();
        let index =
            if axis < 0 { rank.checked_add_signed(axis) } else { usize::try_from(axis).ok() };
        index
            .filter(|index| *index < rank)
            .unwrap_or_else(|| panic!("axis {axis} of {} with rank {rank}", self.name))
    }

    fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), dtype: self.dtype, shape: Shape(self.shape.clone()) }
    }
}

/// A graph under construction.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
    names: HashSet<String>,
    counters: HashMap<String, usize>,
    observes: bool,
    form: Form,
    constants: HashMap<(Dtype, Vec<usize>, Vec<u8>), Value>,
}

impl Builder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self { graph: Graph { name: name.to_owned(), ..Graph::default() }, ..Self::default() }
    }

    /// An empty graph in the operators of `form`.
    pub(crate) fn of_form(name: &str, form: Form) -> Self {
        Self { form, ..Self::new(name) }
    }

    /// Which operators the graph is written in.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// An empty graph in which [`Self::observe`] has an effect.
    pub fn observing(name: &str) -> Self {
        Self { observes: true, ..Self::new(name) }
    }

    /// Prefixes the names of all that `build` adds.
    pub fn within<T>(&mut self, name: impl Into<String>, build: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.into());
        let built = build(self);
        self.scope.pop();
        built
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, dtype: Dtype, shape: &[Dim]) -> Value {
        self.claim(name);
        let value = Value { name: name.to_owned(), dtype, shape: shape.to_vec() };
        self.graph.inputs.push(value.spec());
        value
    }

    /// Declares `value` an output called `name`.
    pub fn output(&mut self, name: &str, value: &Value) {
        self.claim(name);
        let named = Value { name: name.to_owned(), ..value.clone() };
        self.push("Identity", &[value], vec![name.to_owned()], vec![]);
        self.graph.outputs.push(named.spec());
    }

    /// Marks `value` as worth looking at under the name it has in reference files.
    pub fn tap(&mut self, reference: &str, value: &Value) {
        self.graph.taps.insert(reference.to_owned(), value.spec());
    }

    /// `name` behind the scope's names: what [`Self::observe`] calls a value.
    pub fn path(&self, name: &str) -> String {
        self.scope.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    /// The finished graph, each output directly the node's that makes it.
    pub fn finish(mut self) -> Graph {
        self.graph.elide_output_copies();
        self.graph
    }

    /// A weight of the checkpoint as a constant.
    pub fn weight(&mut self, name: &str, weight: &Weight) -> Value {
        let name = self.fresh(name);
        let shape = weight.shape().to_vec();
        self.constant_named(name, Dtype::F32, shape, Data::Weight(weight.clone()))
    }

    /// A float.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.inline(Dtype::F32, &[], value.to_le_bytes().to_vec())
    }

    /// Floats of any shape.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.inline(
            Dtype::F32,
            shape,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    /// A vector of integers.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        self.inline(
            Dtype::I64,
            &[values.len()],
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    fn inline(&mut self, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Value {
        let key = (dtype, shape.to_vec(), bytes.clone());
        if let Some(value) = self.constants.get(&key) {
            return value.clone();
        }
        let name = format!("constant_{}", self.constants.len());
        self.claim(&name);
        let value = self.constant_named(name, dtype, shape.to_vec(), Data::Inline(dtype, bytes));
        self.constants.insert(key, value.clone());
        value
    }

    fn constant_named(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        data: Data,
    ) -> Value {
        let value = Value {
            name: name.clone(),
            dtype,
            shape: shape.iter().copied().map(Dim::Fixed).collect(),
        };
        self.graph.initializers.push(Initializer { name, shape, data });
        value
    }

    fn claim(&mut self, name: &str) {
        assert!(self.names.insert(name.to_owned()), "{name} is taken");
    }

    fn fresh(&mut self, stem: &str) -> String {
        let scoped = self.path(stem);
        loop {
            let count =
                self.counters.entry(scoped.clone()).and_modify(|count| *count += 1).or_insert(1);
            let name = if *count == 1 { scoped.clone() } else { format!("{scoped}_{count}") };
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }

    fn push(
        &mut self,
        op: &'static str,
        inputs: &[&Value],
        outputs: Vec<String>,
        attributes: Attributes,
    ) {
        let inputs = inputs.iter().map(|value| value.name.clone()).collect();
        self.graph.nodes.push(Node {
            name: format!("{}/{op}", outputs[0]),
            op,
            inputs,
            outputs,
            attributes,
        });
    }

    fn node(
        &mut self,
        op: &'static str,
        inputs: &[&Value],
        made: (Dtype, Vec<Dim>),
        attributes: Attributes,
    ) -> Value {
        let name = self.fresh(&op.to_lowercase());
        self.push(op, inputs, vec![name.clone()], attributes);
        Value { name, dtype: made.0, shape: made.1 }
    }
}

type Attributes = Vec<(&'static str, Attribute)>;

impl Graph {
    /// Removes the copies that `Builder::output` put in: the value itself takes the output's name.
    fn elide_output_copies(&mut self) {
        let outputs: HashSet<_> = self.outputs.iter().map(|spec| spec.name.clone()).collect();
        let mut renamed: HashMap<String, String> = HashMap::new();
        let made: HashSet<_> = self.nodes.iter().flat_map(|node| node.outputs.clone()).collect();
        self.nodes.retain(|node| {
            let copy = node.op == "Identity" && outputs.contains(&node.outputs[0]);
            let source = &node.inputs[0];
            if !copy
                || !made.contains(source)
                || outputs.contains(source)
                || renamed.contains_key(source)
            {
                return true;
            }
            renamed.insert(source.clone(), node.outputs[0].clone());
            false
        });
        let rename = |name: &mut String| {
            if let Some(new) = renamed.get(name) {
                name.clone_from(new);
            }
        };
        for node in &mut self.nodes {
            node.inputs.iter_mut().chain(&mut node.outputs).for_each(rename);
        }
        self.taps.values_mut().for_each(|spec| rename(&mut spec.name));
    }
}

#[cfg(test)]
mod tests {
    use super::{shapes::shape_of_reshape, *};

    fn dims(extents: &[usize]) -> Vec<Dim> {
        extents.iter().copied().map(Dim::Fixed).collect()
    }

    #[test]
    fn infers_shapes_as_nodes_are_added() {
        let mut b = Builder::new("test");
        let x = b.input("x", Dtype::F32, &["batch".into(), 77.into(), 8.into()]);
        let w = b.floats(&[8, 3], &[0.0; 24]);
        let y = b.matmul(&x, &w);
        assert_eq!(y.shape(), ["batch".into(), 77.into(), 3.into()]);
        let z = b.reshape(&x, &[To::Keep, To::Keep, To::Is(2), To::Is(4)]);
        assert_eq!(z.shape(), ["batch".into(), 77.into(), 2.into(), 4.into()]);
        let one = b.floats(&[1, 77, 8], &[0.0; 616]);
        assert_eq!(b.add(&one, &x).shape(), x.shape());
        assert_eq!(b.mean(&x, &[-1]).shape(), ["batch".into(), 77.into(), 1.into()]);
    }

    #[test]
    fn reshape_knows_what_is_left() {
        assert_eq!(
            shape_of_reshape(&dims(&[2, 6, 4]), &[To::Keep, To::Rest("n"), To::Is(8)]),
            dims(&[2, 3, 8])
        );
        let open = ["b".into(), "h".into(), Dim::Fixed(4)];
        assert_eq!(
            shape_of_reshape(&open, &[To::Keep, To::Rest("n"), To::Is(4)]),
            ["b".into(), "n".into(), 4.into()]
        );
    }

    #[test]
    #[should_panic(expected = "product of x")]
    fn a_wrong_product_fails_on_its_line() {
        let mut b = Builder::new("test");
        let x = b.input("x", Dtype::F32, &dims(&[2, 3]));
        let w = b.floats(&[2, 3], &[0.0; 6]);
        b.matmul(&x, &w);
    }

    #[test]
    fn outputs_are_the_values_themselves() {
        let mut b = Builder::new("test");
        let x = b.input("x", Dtype::F32, &dims(&[2]));
        let y = b.silu(&x);
        b.tap("y", &y);
        b.output("out", &y);
        b.output("same", &y);
        let graph = b.finish();
        assert_eq!(
            graph.nodes.iter().map(|node| node.op).collect::<Vec<_>>(),
            ["Sigmoid", "Mul", "Identity"]
        );
        assert_eq!(graph.nodes[1].outputs, ["out"]);
        assert_eq!(graph.nodes[2].inputs, ["out"]);
        assert_eq!(graph.taps["y"].name, "out");
    }
}
