//! Operators on quantized values: a u8 `q` with scale `s` and zero point `z` stands for `s (q -
//! z)`.

use pocketmuse_package::{Dim, Dtype};

use super::{Builder, Conv, Value};
use crate::{
    checkpoint::Weight,
    graph::{Attribute, Data, Recipe},
    quantize::{INTEGER_CONVOLUTION, KernelRecipes, kernel_recipes, nearest},
};

/// A scale and a zero point, one pair for a whole value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What a unit of the integer is worth.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: u8,
}

impl Step {
    /// Integers as they are, less 128.
    pub const CENTRED: Self = Self { scale: 1.0, zero_point: 128 };

    /// The finest step that holds `least..=most` and 0.
    ///
    /// # Example
    ///
    /// ```
    /// use pocketmuse_export::builder::Step;
    /// assert_eq!(Step::holding(-1.0, 1.55), Step { scale: 0.01, zero_point: 100 });
    /// assert_eq!(Step::holding(0.0, 0.0), Step { scale: 1.0, zero_point: 0 });
    /// ```
    pub fn holding(least: f32, most: f32) -> Self {
        let (least, most) = (least.min(0.0), most.max(0.0));
        let scale = (most - least) / 255.0;
        if scale <= 0.0 {
            return Self { scale: 1.0, zero_point: 0 };
        }
        Self { scale, zero_point: (-least / scale).round() as u8 }
    }
}

impl Step {
    /// What [`Builder::quantize`] makes of a value.
    fn quantize(self, value: f32) -> u8 {
        let (least, most) = (-f32::from(self.zero_point), f32::from(u8::MAX - self.zero_point));
        (nearest((value / self.scale).clamp(least, most)) - least) as u8
    }
}

impl Builder {
    /// A weight in integers.
    pub fn weight_of_step(&mut self, name: &str, weight: &Weight, step: Step) -> Value {
        let name = self.fresh(&format!("{name}.u8"));
        let (shape, weight) = (weight.shape().to_vec(), weight.clone());
        let bytes =
            move || Ok(weight.values()?.into_iter().map(|value| step.quantize(value)).collect());
        self.constant_named(name, Dtype::U8, shape, Data::Recipe(Dtype::U8, Recipe::new(bytes)))
    }

    /// A byte.
    pub fn byte(&mut self, value: u8) -> Value {
        self.inline(Dtype::U8, &[], vec![value])
    }

    /// `x / scale + zero point`, rounded to the nearest even and clipped to u8.
    pub fn quantize(&mut self, x: &Value, step: Step) -> Value {
        let (scale, zero_point) = (self.scalar(step.scale), self.byte(step.zero_point));
        self.node("QuantizeLinear", &[x, &scale, &zero_point], (Dtype::U8, x.shape.clone()), vec![])
    }

    /// `scale (x - zero point)`.
    pub fn dequantize(&mut self, x: &Value, step: Step) -> Value {
        let (scale, zero_point) = (self.scalar(step.scale), self.byte(step.zero_point));
        self.node(
            "DequantizeLinear",
            &[x, &scale, &zero_point],
            (Dtype::F32, x.shape.clone()),
            vec![],
        )
    }

    /// A convolution of integers, channels last: `x` u8 `[1, h, w, in]` of step `input`, `weight`
    /// `[out, in, kh, kw]`, to u8 `[1, h', w', out]` of zero point 128 whose channel `c` has the
    /// scale `scales[c]`.
    ///
    /// Pixels added at the border stand for 0. The weight is quantized as [`kernel_recipes`] says.
    #[track_caller]
    #[expect(clippy::too_many_arguments, reason = "a convolution of integers is all of these")]
    pub fn integer_conv(
        &mut self,
        x: &Value,
        input: Step,
        name: &str,
        weight: &Weight,
        bias: &Weight,
        scales: &[f32],
        conv: Conv,
        size: [Dim; 2],
    ) -> Value {
        let &[outputs, inputs, height, width] = weight.shape() else {
            panic!("a kernel, not {:?}", weight.shape())
        };
        assert_eq!(
            (x.dtype, x.extent(3), scales.len()),
            (Dtype::U8, inputs, outputs),
            "convolution of {}",
            x.name
        );
        let KernelRecipes { values, scales, bias } =
            kernel_recipes(weight, bias, input.scale, scales);
        let mut constant = |part: &str, shape: &[usize], dtype: Dtype, recipe: Recipe| {
            let name = self.fresh(&format!("{name}.{part}"));
            self.constant_named(name, dtype, shape.to_vec(), Data::Recipe(dtype, recipe))
        };
        let values = constant("weight.s8", weight.shape(), Dtype::I8, values);
        let scales = constant("weight.s8_scale", &[outputs], Dtype::F32, scales);
        let bias = constant("bias.s32", &[outputs], Dtype::I32, bias);
        let (input_scale, input_zero) = (self.scalar(input.scale), self.byte(input.zero_point));
        let (one, middle) = (self.scalar(Step::CENTRED.scale), self.byte(Step::CENTRED.zero_point));
        let zeros = self.inline(Dtype::I8, &[outputs], vec![0; outputs]);
        let attributes = vec![
            ("channels_last", Attribute::Int(1)),
            ("group", Attribute::Int(conv.group)),
            ("kernel_shape", Attribute::Ints(vec![height as i64, width as i64])),
            ("pads", Attribute::Ints(conv.pads.to_vec())),
            ("strides", Attribute::Ints(vec![conv.stride; 2])),
        ];
        let [rows, columns] = size;
        let shape = vec![x.dim(0).clone(), rows, columns, Dim::Fixed(outputs)];
        let inputs = [x, &input_scale, &input_zero, &values, &scales, &zeros, &one, &middle, &bias];
        self.node(INTEGER_CONVOLUTION, &inputs, (Dtype::U8, shape), attributes)
    }
}
