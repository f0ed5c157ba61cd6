//! Arithmetic, element by element, extents of 1 stretched.

use pocketmuse_package::Dtype;

use super::{Builder, Value, shapes::broadcast};
use crate::graph::Attribute;

impl Builder {
    #[track_caller]
    pub(super) fn binary(&mut self, op: &'static str, a: &Value, b: &Value) -> Value {
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
    /// For the CPU it is written as the operators that ONNX Runtime fuses into its own GELU, which
    /// is faster than the one of the standard.
    pub fn gelu(&mut self, x: &Value) -> Value {
        if self.form().is_portable() {
            return self.unary("Gelu", x);
        }
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
