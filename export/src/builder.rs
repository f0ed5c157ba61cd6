//! One method per ONNX operator. Each infers the type and shape of what it makes as the node is
//! added, so a wrong graph fails on the line that built it. Knows no model.
//!
//! The methods panic where operands do not fit each other: sizes come from validated configs and
//! shape-checked tensors, so a misfit is a mistake in the code that builds, never in the
//! checkpoint.

mod integer;
mod tiles;

use std::collections::{HashMap, HashSet};

use pocketmuse_package::{Dim, Dtype, RANGE, Shape, TensorSpec};

use crate::{
    checkpoint::Weight,
    graph::{Attribute, Data, Graph, Initializer, Node},
};

pub use integer::Step;

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

/// One extent of a reshaped value.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// As before at the same axis.
    Keep,
    /// This number.
    Is(usize),
    /// What is left, under a name if it cannot be known.
    Rest(&'static str),
}

/// A graph under construction.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
    names: HashSet<String>,
    counters: HashMap<String, usize>,
    observes: bool,
    constants: HashMap<(Dtype, Vec<usize>, Vec<u8>), Value>,
}

impl Builder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self { graph: Graph { name: name.to_owned(), ..Graph::default() }, ..Self::default() }
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

    /// Makes the range of each channel of `x` `[1, channels, h, w]` a tap, `[2, channels]`:
    /// smallest values, largest ones. Calibration reads them by [`Self::path`]. Does nothing in a
    /// graph that is not to be observed.
    pub fn observe(&mut self, name: &str, x: &Value) {
        if !self.observes {
            return;
        }
        let channels = x.extent(1);
        let [least, most] = ["ReduceMin", "ReduceMax"].map(|op| {
            let range = self.reduce(op, x, &[0, 2, 3]);
            self.reshape(&range, &[To::Is(1), To::Is(channels)])
        });
        let range = self.concat(&[&least, &most], 0);
        let name = format!("{RANGE}{}", self.path(name));
        self.tap(&name, &range);
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

/// Arithmetic, element by element, extents of 1 stretched.
impl Builder {
    #[track_caller]
    fn binary(&mut self, op: &'static str, a: &Value, b: &Value) -> Value {
        assert_eq!(a.dtype, b.dtype, "{op} of {} and {}", a.name, b.name);
        let shape = broadcast(&a.shape, &b.shape)
            .unwrap_or_else(|| panic!("{op} of {:?} and {:?}", a.shape, b.shape));
        self.node(op, &[a, b], (a.dtype, shape), vec![])
    }

    fn unary(&mut self, op: &'static str, x: &Value) -> Value {
        self.node(op, &[x], (x.dtype, x.shape.clone()), vec![])
    }

    /// a + b.
    #[track_caller]
    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Add", a, b)
    }

    /// a - b.
    #[track_caller]
    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Sub", a, b)
    }

    /// a * b.
    #[track_caller]
    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Mul", a, b)
    }

    /// a / b; integers round towards zero.
    #[track_caller]
    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Div", a, b)
    }

    /// a to the power b.
    #[track_caller]
    pub fn pow(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("Pow", a, b)
    }

    /// Whether a = b.
    #[track_caller]
    pub fn equal(&mut self, a: &Value, b: &Value) -> Value {
        let mut value = self.binary("Equal", a, b);
        value.dtype = Dtype::Bool;
        value
    }

    /// The square root.
    pub fn sqrt(&mut self, x: &Value) -> Value {
        self.unary("Sqrt", x)
    }

    /// The cosine of radians.
    pub fn cos(&mut self, x: &Value) -> Value {
        self.unary("Cos", x)
    }

    /// The sine of radians.
    pub fn sin(&mut self, x: &Value) -> Value {
        self.unary("Sin", x)
    }

    /// 1 / (1 + exp(-x)).
    pub fn sigmoid(&mut self, x: &Value) -> Value {
        self.unary("Sigmoid", x)
    }

    /// x * sigmoid(x).
    pub fn silu(&mut self, x: &Value) -> Value {
        let gate = self.sigmoid(x);
        self.mul(x, &gate)
    }

    /// The exact GELU, `x (1 + erf(x / sqrt 2)) / 2`.
    ///
    /// Written as the operators that ONNX Runtime fuses into its own GELU, which is faster than the
    /// one of the standard.
    pub fn gelu(&mut self, x: &Value) -> Value {
        let (root, one, half) =
            (self.scalar(std::f32::consts::SQRT_2), self.scalar(1.0), self.scalar(0.5));
        let scaled = self.div(x, &root);
        let erf = self.unary("Erf", &scaled);
        let shifted = self.add(&erf, &one);
        let product = self.mul(x, &shifted);
        self.mul(&product, &half)
    }

    /// x * sigmoid(1.702 x).
    pub fn quick_gelu(&mut self, x: &Value) -> Value {
        let factor = self.scalar(1.702);
        let scaled = self.mul(x, &factor);
        let gate = self.sigmoid(&scaled);
        self.mul(x, &gate)
    }

    /// `x` with elements of `dtype`: itself, if they are.
    pub fn cast(&mut self, x: &Value, dtype: Dtype) -> Value {
        if x.dtype == dtype {
            return x.clone();
        }
        self.node(
            "Cast",
            &[x],
            (dtype, x.shape.clone()),
            vec![("to", Attribute::Int(dtype.onnx()))],
        )
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, x: &Value) -> Value {
        self.node("Softmax", &[x], (x.dtype, x.shape.clone()), vec![("axis", Attribute::Int(-1))])
    }
}

/// Products, norms and sums.
impl Builder {
    /// The matrix product over the last two axes.
    #[track_caller]
    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        let inner = (a.dim(-1), b.dim(-2));
        assert_eq!(
            inner.0, inner.1,
            "product of {} {:?} and {} {:?}",
            a.name, a.shape, b.name, b.shape
        );
        let outer = |value: &Value| value.shape[..value.shape.len() - 2].to_vec();
        let mut shape = broadcast(&outer(a), &outer(b)).expect("outer extents that fit");
        shape.extend([a.dim(-2).clone(), b.dim(-1).clone()]);
        self.node("MatMul", &[a, b], (a.dtype, shape), vec![])
    }

    /// A reduction over `axes`, whose extents become 1.
    #[track_caller]
    fn reduce(&mut self, op: &'static str, x: &Value, axes: &[i64]) -> Value {
        let mut shape = x.shape.clone();
        for axis in axes {
            shape[x.axis(*axis as isize)] = Dim::Fixed(1);
        }
        let axes = self.ints(axes);
        self.node(op, &[x, &axes], (x.dtype, shape), vec![("keepdims", Attribute::Int(1))])
    }

    /// The mean over `axes`.
    #[track_caller]
    pub fn mean(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.reduce("ReduceMean", x, axes)
    }

    /// The sum over `axes`.
    #[track_caller]
    pub fn sum(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.reduce("ReduceSum", x, axes)
    }

    /// The sum of squares over `axes`.
    #[track_caller]
    pub fn sum_of_squares(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.reduce("ReduceSumSquare", x, axes)
    }

    /// The square root of the sum of squares over `axes`.
    #[track_caller]
    pub fn l2_norm(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.reduce("ReduceL2", x, axes)
    }

    /// The index of the first largest (or smallest) value along the last axis, which goes away.
    fn arg(&mut self, op: &'static str, x: &Value) -> Value {
        let shape = x.shape[..x.shape.len() - 1].to_vec();
        let attributes = vec![("axis", Attribute::Int(-1)), ("keepdims", Attribute::Int(0))];
        self.node(op, &[x], (Dtype::I64, shape), attributes)
    }

    /// The index of the first largest value along the last axis, which goes away.
    pub fn argmax(&mut self, x: &Value) -> Value {
        self.arg("ArgMax", x)
    }

    /// The index of the first smallest value along the last axis, which goes away.
    pub fn argmin(&mut self, x: &Value) -> Value {
        self.arg("ArgMin", x)
    }

    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias` over the last axis.
    #[track_caller]
    pub fn layer_norm(&mut self, x: &Value, scale: &Value, bias: &Value, epsilon: f32) -> Value {
        assert_eq!(
            (x.dim(-1), x.dim(-1)),
            (scale.dim(-1), bias.dim(-1)),
            "layer norm of {}",
            x.name
        );
        let attributes = vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.node("LayerNormalization", &[x, scale, bias], (x.dtype, x.shape.clone()), attributes)
    }

    /// `x * scale + shift` by channel; `x` is `[n, channels, ...]`, the others `[channels]`.
    ///
    /// Written as a batch norm of statistics 0 and 1, which reads and writes a large tensor once.
    #[track_caller]
    pub fn affine_by_channel(&mut self, x: &Value, scale: &Value, shift: &Value) -> Value {
        assert_eq!(
            (x.dim(1), x.dim(1)),
            (scale.dim(0), shift.dim(0)),
            "scale by channel of {}",
            x.name
        );
        let channels = x.extent(1);
        let mean = self.floats(&[channels], &vec![0.0; channels]);
        let variance = self.floats(&[channels], &vec![1.0; channels]);
        let attributes = vec![("epsilon", Attribute::Float(1e-12))]; // vanishes beside 1
        self.node(
            "BatchNormalization",
            &[x, scale, shift, &mean, &variance],
            (x.dtype, x.shape.clone()),
            attributes,
        )
    }

    /// A convolution: `x` `[n, in, h, w]`, `weight` `[out, in / group, kh, kw]`, `pads` top, left,
    /// bottom, right. `size` names the output's height and width.
    #[track_caller]
    pub fn conv(
        &mut self,
        x: &Value,
        weight: &Value,
        bias: Option<&Value>,
        conv: Conv,
        size: [Dim; 2],
    ) -> Value {
        let (input, group) = (x.extent(1), conv.group as usize);
        assert_eq!(
            input,
            weight.extent(1) * group,
            "convolution of {} {:?} and {:?}",
            x.name,
            x.shape,
            weight.shape
        );
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        let attributes = vec![
            ("group", Attribute::Int(conv.group)),
            (
                "kernel_shape",
                Attribute::Ints(vec![weight.extent(2) as i64, weight.extent(3) as i64]),
            ),
            ("pads", Attribute::Ints(conv.pads.to_vec())),
            ("strides", Attribute::Ints(vec![conv.stride; 2])),
        ];
        let [height, width] = size;
        let shape = vec![x.dim(0).clone(), weight.dim(0).clone(), height, width];
        self.node("Conv", &inputs, (x.dtype, shape), attributes)
    }
}

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Zeros added at the top, left, bottom and right.
    pub pads: [i64; 4],
    /// Pixels from one output to the next.
    pub stride: i64,
    /// Groups of channels that do not see each other.
    pub group: i64,
}

impl Conv {
    /// Stride 1, one group, `pad` zeros on every side.
    pub fn same(pad: i64) -> Self {
        Self { pads: [pad; 4], stride: 1, group: 1 }
    }
}

/// Moving values about.
impl Builder {
    /// The axes in another order.
    #[track_caller]
    pub fn transpose(&mut self, x: &Value, axes: &[usize]) -> Value {
        assert_eq!(axes.len(), x.shape.len(), "transpose of {}", x.name);
        let shape = axes.iter().map(|axis| x.shape[*axis].clone()).collect();
        let perm = axes.iter().map(|axis| *axis as i64).collect();
        self.node("Transpose", &[x], (x.dtype, shape), vec![("perm", Attribute::Ints(perm))])
    }

    /// The same elements in another shape.
    #[track_caller]
    pub fn reshape(&mut self, x: &Value, to: &[To]) -> Value {
        let kept = |axis: usize| {
            x.shape.get(axis).unwrap_or_else(|| panic!("axis {axis} of {}", x.name)).clone()
        };
        let shape = reshaped(&x.shape, to);
        let target: Vec<i64> = to
            .iter()
            .enumerate()
            .map(|(axis, to)| match to {
                To::Keep => matches!(kept(axis), Dim::Named(_))
                    .then_some(0)
                    .unwrap_or_else(|| x.extent(axis as isize) as i64),
                To::Is(extent) => *extent as i64,
                To::Rest(_) => -1,
            })
            .collect();
        let target = self.ints(&target);
        self.node("Reshape", &[x, &target], (x.dtype, shape), vec![])
    }

    /// The same elements in a shape that is computed: `target` is a vector of integers, `shape`
    /// what it will be.
    pub fn reshape_to(&mut self, x: &Value, target: &Value, shape: &[Dim]) -> Value {
        self.node("Reshape", &[x, target], (x.dtype, shape.to_vec()), vec![])
    }

    /// Rows of `table` at `indices`: `[..indices, ..table without its first axis]`.
    pub fn gather(&mut self, table: &Value, indices: &Value) -> Value {
        let shape = indices.shape.iter().chain(&table.shape[1..]).cloned().collect();
        self.node(
            "Gather",
            &[table, indices],
            (table.dtype, shape),
            vec![("axis", Attribute::Int(0))],
        )
    }

    /// `x` at `indices` (a vector) along `axis`.
    #[track_caller]
    pub fn gather_axis(&mut self, x: &Value, indices: &Value, axis: usize) -> Value {
        let mut shape = x.shape.clone();
        shape[axis] = indices.dim(0).clone();
        self.node(
            "Gather",
            &[x, indices],
            (x.dtype, shape),
            vec![("axis", Attribute::Int(axis as i64))],
        )
    }

    /// One row per sample: `x` `[n, rows, c]`, `index` `[n, 1]`, gives `[n, c]`.
    #[track_caller]
    pub fn pick_row(&mut self, x: &Value, index: &Value) -> Value {
        assert_eq!((x.shape.len(), index.extent(1)), (3, 1), "one row of {}", x.name);
        let shape = vec![x.shape[0].clone(), x.shape[2].clone()];
        self.node(
            "GatherND",
            &[x, index],
            (x.dtype, shape),
            vec![("batch_dims", Attribute::Int(1))],
        )
    }

    /// Values one after the other along `axis`.
    #[track_caller]
    pub fn concat(&mut self, parts: &[&Value], axis: usize) -> Value {
        let mut shape = parts[0].shape.clone();
        shape[axis] = Dim::Fixed(parts.iter().map(|part| part.extent(axis as isize)).sum());
        self.node(
            "Concat",
            parts,
            (parts[0].dtype, shape),
            vec![("axis", Attribute::Int(axis as i64))],
        )
    }

    /// `count` equal parts along the last axis.
    #[track_caller]
    pub fn split(&mut self, x: &Value, count: usize) -> Vec<Value> {
        let whole = x.extent(-1);
        assert_eq!(whole % count, 0, "{count} equal parts of {}", x.name);
        let mut shape = x.shape.clone();
        *shape.last_mut().expect("a last axis") = Dim::Fixed(whole / count);
        let names: Vec<_> = (0..count).map(|_| self.fresh("split")).collect();
        let attributes =
            vec![("axis", Attribute::Int(-1)), ("num_outputs", Attribute::Int(count as i64))];
        self.push("Split", &[x], names.clone(), attributes);
        names.into_iter().map(|name| Value { name, dtype: x.dtype, shape: shape.clone() }).collect()
    }

    /// The extents of axes `start..end` as a vector of integers.
    pub fn shape_of(&mut self, x: &Value, start: i64, end: i64) -> Value {
        let attributes = vec![("start", Attribute::Int(start)), ("end", Attribute::Int(end))];
        self.node("Shape", &[x], (Dtype::I64, vec![Dim::Fixed((end - start) as usize)]), attributes)
    }

    /// 2 x 2 blocks of pixels into channels, `[n, c, h, w]` to `[n, 4c, h/2, w/2]`, channel order
    /// (row, column, c).
    pub fn space_to_depth(&mut self, x: &Value, size: [Dim; 2]) -> Value {
        let [height, width] = size;
        let shape = vec![x.dim(0).clone(), Dim::Fixed(x.extent(1) * 4), height, width];
        self.node("SpaceToDepth", &[x], (x.dtype, shape), vec![("blocksize", Attribute::Int(2))])
    }

    /// The reverse of [`Self::space_to_depth`].
    pub fn depth_to_space(&mut self, x: &Value, size: [Dim; 2]) -> Value {
        let [height, width] = size;
        let shape = vec![x.dim(0).clone(), Dim::Fixed(x.extent(1) / 4), height, width];
        let attributes = vec![("blocksize", Attribute::Int(2)), ("mode", Attribute::Text("DCR"))];
        self.node("DepthToSpace", &[x], (x.dtype, shape), attributes)
    }
}

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

fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::Fixed(1);
    (0..rank)
        .map(|axis| {
            let of = |shape: &[Dim]| {
                (axis + shape.len()).checked_sub(rank).map_or(one.clone(), |at| shape[at].clone())
            };
            let (a, b) = (of(a), of(b));
            if a == b || b == one {
                Some(a)
            } else if a == one {
                Some(b)
            } else {
                None
            }
        })
        .collect()
}

#[track_caller]
fn reshaped(from: &[Dim], to: &[To]) -> Vec<Dim> {
    let kept = |axis: usize| matches!(to.get(axis), Some(To::Keep));
    let mut changed = from.iter().enumerate().filter(|(axis, _)| !kept(*axis)).map(|(_, dim)| dim);
    let whole =
        changed.try_fold(
            1,
            |whole, dim| if let Dim::Fixed(extent) = dim { Some(whole * extent) } else { None },
        );
    let said: usize =
        to.iter().map(|to| if let To::Is(extent) = to { *extent } else { 1 }).product();
    let rest = to.iter().any(|to| matches!(to, To::Rest(_)));
    if let Some(whole) = whole {
        let fits = if rest { whole % said == 0 } else { whole == said };
        assert!(fits, "reshape of {from:?} to {to:?}");
    }
    to.iter()
        .enumerate()
        .map(|(axis, to)| match to {
            To::Keep => from[axis].clone(),
            To::Is(extent) => Dim::Fixed(*extent),
            To::Rest(name) => whole
                .map_or_else(|| Dim::Named((*name).to_owned()), |whole| Dim::Fixed(whole / said)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            reshaped(&dims(&[2, 6, 4]), &[To::Keep, To::Rest("n"), To::Is(8)]),
            dims(&[2, 3, 8])
        );
        let open = ["b".into(), "h".into(), Dim::Fixed(4)];
        assert_eq!(
            reshaped(&open, &[To::Keep, To::Rest("n"), To::Is(4)]),
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
