//! Constants as integers: weights of 8 bits, biases of 32, all others of 16.

use pocketmuse_package::Dtype;

use super::{Rewriter, floats, step::Step, values::range};
use crate::{
    error::Result,
    graph::{Data, Initializer, Node, Recipe, little_endian},
    quantize,
};

/// The most units of a bias: far enough from the end of 32 bits that sums with products fit.
const MOST_UNITS: f32 = (1 << 30) as f32;

impl Rewriter {
    /// A matrix in 8 bits, with a scale for each column.
    pub(super) fn matrix(&mut self, weight: &Initializer) -> Result<String> {
        let float = format!("{}.float", weight.name);
        if self.rounded.contains_key(&float) {
            return Ok(float);
        }
        let Data::Weight(values) = &weight.data else { return self.constant(weight) };
        let (matrix, scales) = quantize::matrix_recipes(values, weight.shape[1]);
        let (name, columns) = (&weight.name, weight.shape[1]);
        let matrix = self.make(format!("{name}.s8"), &weight.shape, Dtype::I8, matrix);
        let scales = self.make(format!("{name}.s8_scale"), &[columns], Dtype::F32, scales);
        self.dequantize(&[&matrix, &scales], &float, Some(1));
        self.rounded.insert(float.clone(), float.clone());
        Ok(float)
    }

    /// Any constant in 16 bits: by the step of the values that it is among, or by its own.
    pub(super) fn constant(&mut self, constant: &Initializer) -> Result<String> {
        let float = format!("{}.float", constant.name);
        if self.rounded.contains_key(&float) {
            return Ok(float);
        }
        let values = floats(constant)?;
        let step = self.step(&constant.name).unwrap_or_else(|_| Step::holding(range(&values)));
        self.rounded_constant(&constant.name, &constant.shape, step, &values);
        self.rounded.insert(float.clone(), float.clone());
        Ok(float)
    }

    fn rounded_constant(&mut self, name: &str, shape: &[usize], step: Step, values: &[f32]) {
        let bytes = Data::Inline(Dtype::U16, step.bytes(values));
        let integers = self.keep(format!("{name}.u16"), shape, bytes);
        let [scale, zero_point] = self.scale_of(step);
        self.dequantize(&[&integers, &scale, &zero_point], &format!("{name}.float"), None);
    }

    /// The operands of a convolution: the weight in 8 bits with a scale for each output channel,
    /// the bias in units of the input's scale times the channel's.
    pub(super) fn convolution(&mut self, node: &Node) -> Result<Vec<String>> {
        let x = self.operand(node, 0)?;
        let weight = self.constants[&node.inputs[1]].clone();
        let bias = node.inputs.get(2).map(|name| self.constants[name].clone());
        let (name, outputs) = (&weight.name, weight.shape[0]);
        let step = self.step(&node.inputs[0])?;
        let mut scales = quantize::kernel_scales(&weight)?;
        let biases = bias.as_ref().map(floats).transpose()?;
        if let Some(biases) = &biases {
            // A channel of tiny weights may have a bias beyond 32 bits of such units.
            for (scale, bias) in scales.iter_mut().zip(biases) {
                *scale = scale.max(bias.abs() / MOST_UNITS / step.scale);
            }
        }
        let values = quantize::kernel_recipe(&weight, &scales);
        let values = self.make(format!("{name}.s8"), &weight.shape, Dtype::I8, values);
        let bytes = Data::Inline(Dtype::F32, little_endian(scales.clone()));
        let of_channels = self.keep(format!("{name}.s8_scale"), &[outputs], bytes);
        let float = format!("{name}.float");
        self.dequantize(&[&values, &of_channels], &float, Some(0));
        let mut operands = vec![x, float];
        if let Some(biases) = biases {
            let units = scales.iter().map(|scale| scale * step.scale).collect();
            operands.push(self.bias(&format!("{name}.bias"), &biases, units));
        }
        Ok(operands)
    }

    /// The operands of a norm: the weight in 16 bits, the bias, if there is one, in units of the
    /// input's scale times the weight's.
    pub(super) fn norm(&mut self, node: &Node) -> Result<Vec<String>> {
        let x = self.operand(node, 0)?;
        let (input, name) = (self.step(&node.inputs[0])?, format!("{}.weight", node.outputs[0]));
        let weight = self.constants[&node.inputs[1]].clone();
        let (values, biases) = (
            floats(&weight)?,
            node.inputs.get(2).map(|name| floats(&self.constants[name])).transpose()?,
        );
        let mut step = Step::holding(range(&values));
        if let Some(biases) = &biases {
            let most = biases.iter().fold(0.0f32, |most, bias| most.max(bias.abs()));
            let [least_of, most_of] = range(&values);
            let needed = most / MOST_UNITS / input.scale * f32::from(u16::MAX);
            let wider = needed / (most_of - least_of).max(f32::MIN_POSITIVE);
            step = Step::holding(range(&values).map(|end| end * wider.max(1.0)));
        }
        self.rounded_constant(&name, &weight.shape, step, &values);
        let mut operands = vec![x, format!("{name}.float")];
        if let Some(biases) = biases {
            let unit = input.scale * step.scale;
            let bias = self.bias(&format!("{}.bias", node.outputs[0]), &biases, vec![unit]);
            operands.push(bias);
        }
        Ok(operands)
    }

    /// A bias in whole units of 32 bits, one for each channel or one for all.
    fn bias(&mut self, name: &str, values: &[f32], units: Vec<f32>) -> String {
        let unit = |at: usize| units[if units.len() == 1 { 0 } else { at }];
        let nearest = |(at, value): (usize, &f32)| {
            (f64::from(*value) / f64::from(unit(at))).round_ties_even() as i32
        };
        let bytes = values.iter().enumerate().map(nearest).flat_map(i32::to_le_bytes).collect();
        let data = Data::Inline(Dtype::I32, bytes);
        let integers = self.keep(format!("{name}.s32"), &[values.len()], data);
        let (shape, axis) =
            if units.len() == 1 { (vec![], None) } else { (vec![units.len()], Some(0)) };
        let scales = Data::Inline(Dtype::F32, little_endian(units));
        let scales = self.keep(format!("{name}.s32_scale"), &shape, scales);
        let float = format!("{name}.float");
        self.dequantize(&[&integers, &scales], &float, axis);
        float
    }

    fn make(&mut self, name: String, shape: &[usize], dtype: Dtype, recipe: Recipe) -> String {
        self.keep(name, shape, Data::Recipe(dtype, recipe))
    }

    fn keep(&mut self, name: String, shape: &[usize], data: Data) -> String {
        self.made.push(Initializer { name: name.clone(), shape: shape.to_vec(), data });
        name
    }
}
