//! A graph at one size: the type, the extents and, of integers, the values of everything in it, as
//! ONNX Runtime knows them when names of extents are fixed at load. Nodes that it then computes at
//! load are none any more.

use std::collections::BTreeMap;

use pocketmuse_package::{Dim, Dtype};

use crate::graph::{Attribute, Data, Graph, Node};

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Whether it is a constant.
    pub(super) is_constant: bool,
    /// Integers that are known.
    ints: Option<Vec<i64>>,
}

/// A graph at one size.
pub(super) struct Fixed<'a> {
    pub(super) nodes: Vec<&'a Node>,
    values: BTreeMap<&'a str, Known>,
    /// What goes in.
    inputs: Vec<&'a str>,
}

impl<'a> Fixed<'a> {
    /// The graph with `extents` for the names of its inputs' extents.
    ///
    /// # Panics
    ///
    /// At an operator that this does not know.
    pub(super) fn new(graph: &'a Graph, extents: &BTreeMap<&str, usize>) -> Self {
        let mut fixed = Self { nodes: Vec::new(), values: BTreeMap::new(), inputs: Vec::new() };
        for spec in &graph.inputs {
            let shape = spec.shape.0.iter().map(|dim| extent(dim, extents)).collect();
            let known = Known { dtype: spec.dtype, shape, is_constant: false, ints: None };
            fixed.values.insert(&spec.name, known);
            fixed.inputs.push(&spec.name);
        }
        for constant in &graph.initializers {
            let ints = match &constant.data {
                Data::Inline(Dtype::I64, bytes) => {
                    let (words, _) = bytes.as_chunks::<8>();
                    Some(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
                }
                _ => None,
            };
            let (dtype, shape) = (constant.dtype(), constant.shape.clone());
            let known = Known { dtype, shape, is_constant: true, ints };
            fixed.values.insert(&constant.name, known);
        }
        for node in &graph.nodes {
            let made = fixed.made(node);
            if !made.iter().all(|known| known.is_constant) {
                fixed.nodes.push(node);
            }
            fixed.values.extend(node.outputs.iter().map(String::as_str).zip(made));
        }
        fixed
    }

    pub(super) fn value(&self, name: &str) -> &Known {
        self.values.get(name).unwrap_or_else(|| panic!("nothing makes {name}"))
    }

    /// The node that makes a value.
    pub(super) fn maker(&self, name: &str) -> Option<&'a Node> {
        self.nodes.iter().copied().find(|node| node.outputs.iter().any(|output| output == name))
    }

    pub(super) fn is_input(&self, name: &str) -> bool {
        self.inputs.contains(&name)
    }

    /// What a node makes.
    fn made(&self, node: &Node) -> Vec<Known> {
        let of: Vec<&Known> = node.inputs.iter().map(|name| self.value(name)).collect();
        let x = of[0];
        let shaped =
            |shape: Vec<usize>| Known { shape, is_constant: false, ints: None, ..x.clone() };
        let same = || shaped(x.shape.clone());
        vec![match node.op {
            "Shape" => {
                let (start, end) = (int(node, "start") as usize, int(node, "end") as usize);
                let ints: Vec<i64> = x.shape[start..end].iter().map(|side| *side as i64).collect();
                Known { dtype: Dtype::I64, ..constant(ints) }
            }
            "Concat" if of.iter().all(|part| part.ints.is_some()) => {
                constant(of.iter().flat_map(|part| part.ints.clone().unwrap_or_default()).collect())
            }
            "Div" | "Mul" if of.iter().all(|part| part.ints.is_some()) => {
                let [a, b] = [0, 1].map(|at| of[at].ints.clone().unwrap_or_default());
                let compute = |(a, b): (i64, i64)| if node.op == "Div" { a / b } else { a * b };
                constant(a.into_iter().zip(b).map(compute).collect())
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => shaped(broadcast(&x.shape, &of[1].shape)),
            "Equal" => Known { dtype: Dtype::Bool, ..shaped(broadcast(&x.shape, &of[1].shape)) },
            "Cast" => {
                let to = int(node, "to");
                let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.onnx() == to);
                Known {
                    dtype: dtype.expect("a type of packages"),
                    is_constant: x.is_constant,
                    ..same()
                }
            }
            "QuantizeLinear" => Known { dtype: of[2].dtype, ..same() },
            "DequantizeLinear" => Known { dtype: Dtype::F32, ..same() },
            "Sigmoid"
            | "SimplifiedLayerNormalization"
            | "Sqrt"
            | "Erf"
            | "Gelu"
            | "Softmax"
            | "Cos"
            | "Sin"
            | "Identity"
            | "LayerNormalization"
            | "InstanceNormalization"
            | "BatchNormalization" => same(),
            "Gather" => {
                let axis = int(node, "axis") as usize;
                let (before, after) = (&x.shape[..axis], &x.shape[axis + 1..]);
                shaped([before, &of[1].shape, after].concat())
            }
            "GatherND" => shaped(vec![x.shape[0], x.shape[2]]),
            "Reshape" => {
                let target = of[1].ints.as_ref().expect("a known shape");
                shaped(reshaped(&x.shape, target))
            }
            "Transpose" => {
                shaped(ints(node, "perm").iter().map(|axis| x.shape[*axis as usize]).collect())
            }
            "Concat" => {
                let axis = int(node, "axis") as usize;
                let mut shape = x.shape.clone();
                shape[axis] = of.iter().map(|part| part.shape[axis]).sum();
                shaped(shape)
            }
            "Split" => {
                let mut shape = x.shape.clone();
                *shape.last_mut().expect("an axis") /= node.outputs.len();
                return vec![shaped(shape); node.outputs.len()];
            }
            "MatMul" => {
                let [a, b] = [&x.shape, &of[1].shape];
                let mut shape = broadcast(&a[..a.len() - 2], &b[..b.len() - 2]);
                assert_eq!(a.last(), b.iter().rev().nth(1), "{}", node.name);
                shape.extend([a[a.len() - 2], b[b.len() - 1]]);
                shaped(shape)
            }
            "Conv" => {
                let (kernel, pads, strides) =
                    (&of[1].shape, ints(node, "pads"), ints(node, "strides"));
                let side = |axis: usize| {
                    let padded = x.shape[2 + axis] + (pads[axis] + pads[2 + axis]) as usize;
                    (padded - kernel[2 + axis]) / strides[axis] as usize + 1
                };
                shaped(vec![x.shape[0], kernel[0], side(0), side(1)])
            }
            "ReduceMean" | "ReduceSum" | "ReduceSumSquare" | "ReduceL2" => {
                let mut shape = x.shape.clone();
                for axis in of[1].ints.as_ref().expect("known axes") {
                    let rank = shape.len() as i64;
                    shape[((axis + rank) % rank) as usize] = 1;
                }
                shaped(shape)
            }
            "ArgMax" | "ArgMin" => {
                Known { dtype: Dtype::I64, ..shaped(x.shape[..x.shape.len() - 1].to_vec()) }
            }
            "DepthToSpace" => {
                shaped(vec![x.shape[0], x.shape[1] / 4, x.shape[2] * 2, x.shape[3] * 2])
            }
            "SpaceToDepth" => {
                shaped(vec![x.shape[0], x.shape[1] * 4, x.shape[2] / 2, x.shape[3] / 2])
            }
            op => panic!("{op} is not known"),
        }]
    }
}

fn constant(ints: Vec<i64>) -> Known {
    Known { dtype: Dtype::I64, shape: vec![ints.len()], is_constant: true, ints: Some(ints) }
}

/// An extent: a number, a name, or a multiple of one, as `8 * height`.
fn extent(dim: &Dim, extents: &BTreeMap<&str, usize>) -> usize {
    if let Dim::Fixed(extent) = dim {
        return *extent;
    }
    let (factor, name) = dim.multiple().unwrap_or_else(|| panic!("no multiple: {dim}"));
    factor * extents.get(name).unwrap_or_else(|| panic!("no extent for {name}"))
}

fn attribute<'a>(node: &'a Node, name: &str) -> &'a Attribute {
    let found = node.attributes.iter().find(|(found, _)| *found == name);
    &found.unwrap_or_else(|| panic!("{} has no {name}", node.name)).1
}

fn int(node: &Node, name: &str) -> i64 {
    match attribute(node, name) {
        Attribute::Int(value) => *value,
        other => panic!("{}: {name} is {other:?}", node.name),
    }
}

fn ints<'a>(node: &'a Node, name: &str) -> &'a [i64] {
    match attribute(node, name) {
        Attribute::Ints(values) => values,
        other => panic!("{}: {name} is {other:?}", node.name),
    }
}

fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let side = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at])
    };
    (0..rank)
        .map(|axis| match (side(a, axis), side(b, axis)) {
            (1, other) | (other, 1) => other,
            (one, other) => {
                assert_eq!(one, other, "{a:?} and {b:?}");
                one
            }
        })
        .collect()
}

fn reshaped(from: &[usize], target: &[i64]) -> Vec<usize> {
    let known = |(axis, extent): (usize, &i64)| match extent {
        0 => from[axis],
        -1 => 1,
        extent => *extent as usize,
    };
    let mut shape: Vec<usize> = target.iter().enumerate().map(known).collect();
    let (all, said) = (from.iter().product::<usize>(), shape.iter().product::<usize>());
    match target.iter().position(|extent| *extent == -1) {
        Some(rest) => shape[rest] = all / said,
        None => assert_eq!(all, said, "{from:?} to {target:?}"),
    }
    shape
}
