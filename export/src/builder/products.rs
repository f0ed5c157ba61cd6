//! Products, convolutions, norms and sums.

use pocketmuse_package::{Dim, Dtype};

use super::{Builder, Value, shapes::broadcast};
use crate::graph::Attribute;

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
    pub(super) fn reduce(&mut self, op: &'static str, x: &Value, axes: &[i64]) -> Value {
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

    /// `x / sqrt(mean of squares + epsilon) * scale` over the last axis, as the one operator that
    /// ONNX Runtime has for it.
    #[track_caller]
    pub fn rms_norm(&mut self, x: &Value, scale: &Value, epsilon: f32) -> Value {
        assert_eq!(x.dim(-1), scale.dim(-1), "norm of {}", x.name);
        let attributes = vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.node(
            "SimplifiedLayerNormalization",
            &[x, scale],
            (x.dtype, x.shape.clone()),
            attributes,
        )
    }

    /// `(x - mean) / sqrt(variance + epsilon)` of each group's values: `x` is `[n, groups, ...]`.
    #[track_caller]
    pub fn instance_norm(&mut self, x: &Value, epsilon: f32) -> Value {
        let groups = x.extent(1);
        let (scale, bias) = (
            self.floats(&[groups], &vec![1.0; groups]),
            self.floats(&[groups], &vec![0.0; groups]),
        );
        let made = (x.dtype, x.shape.clone());
        let attributes = vec![("epsilon", Attribute::Float(epsilon))];
        self.node("InstanceNormalization", &[x, &scale, &bias], made, attributes)
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
