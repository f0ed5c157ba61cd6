//! Constants as integers: weights of 8 bits, biases of 32, all others of 16.

use pocketmuse_package::Dtype;

use super::{
    observe::node,
    rewriter::{Rewriter, Tables},
    step::Step,
    values::{floats, range},
};
use crate::{
    error::Result,
    graph::{Attribute, Data, Initializer, Node, Recipe, little_endian},
    quantize,
};

/// The most units of a bias: far enough from the end of 32 bits that sums with products fit.
const MOST_UNITS: f32 = (1 << 30) as f32;

impl Rewriter {
    /// A matrix in 8 bits, with a scale for each column.
    pub(super) fn matrix(&mut self, weight: &Initializer) -> Result<String> {
        let float = format!("{}.float", weight.name);
        if self.rounded.contains(&float) {
            return Ok(float);
        }
        let Data::Weight(values) = &weight.data else { return self.constant(weight) };
        let (matrix, scales) = quantize::matrix_recipes(values, weight.shape[1]);
        let (name, columns) = (&weight.name, weight.shape[1]);
        let matrix = self.make(format!("{name}.s8"), &weight.shape, Dtype::I8, matrix);
        let scales = self.make(format!("{name}.s8_scale"), &[columns], Dtype::F32, scales);
        self.dequantize(&[&matrix, &scales], &float, Some(1));
        self.rounded.insert(float.clone());
        Ok(float)
    }

    /// Any constant in 16 bits: by the step of the values that it is among, or by its own.
    pub(super) fn constant(&mut self, constant: &Initializer) -> Result<String> {
        let float = format!("{}.float", constant.name);
        if self.rounded.contains(&float) {
            return Ok(float);
        }
        let values = floats(constant)?;
        let step = self.step(&constant.name).unwrap_or_else(|_| Step::holding(range(&values)));
        self.rounded_constant(&constant.name, &constant.shape, step, &values);
        self.rounded.insert(float.clone());
        Ok(float)
    }

    fn rounded_constant(&mut self, name: &str, shape: &[usize], step: Step, values: &[f32]) {
        let bytes = Data::Inline(Dtype::U16, step.bytes(values));
        let integers = self.keep(format!("{name}.u16"), shape, bytes);
        let [scale, zero_point] = self.scale_of(step);
        self.dequantize(&[&integers, &scale, &zero_point], &format!("{name}.float"), None);
    }

    /// The table that a node picks rows of, if it is to be held by row.
    pub(super) fn table_by_row(&self, node: &Node) -> Option<Initializer> {
        let table = self.constants.get(&node.inputs[0]).filter(|_| node.op == "Gather")?;
        let is_large = table.shape.len() == 2 && table.bytes() >= quantize::SMALL_TABLE_BYTES;
        (self.tables == Tables::ByRow && is_large).then(|| table.clone())
    }

    /// Rows of a table in 8 bits, picked as integers, times their scales, which are picked, too.
    pub(super) fn rows(&mut self, gather: &Node, table: &Initializer) -> Result<()> {
        let (name, output, indices) = (&table.name, &gather.outputs[0], &gather.inputs[1]);
        let [count, width] = [table.shape[0], table.shape[1]];
        let (rows, scales) = quantize::rows(&floats(table)?, width);
        let rows = self.keep(format!("{name}.s8"), &table.shape, Data::Inline(Dtype::I8, rows));
        let one = Data::Inline(Dtype::F32, 1.0f32.to_le_bytes().to_vec());
        let one = self.keep(format!("{name}.s8_unit"), &[], one);
        let zero = self.keep(format!("{name}.s8_zero"), &[], Data::Inline(Dtype::I8, vec![0]));
        self.dequantize(&[&rows, &one, &zero], &format!("{name}.float"), None);
        let units = format!("{output}.units");
        self.pick(&format!("{name}.float"), indices, &format!("{units}.exact"));
        let (integers, exact) = (format!("{units}.s8"), format!("{units}.exact"));
        self.nodes.push(node("QuantizeLinear", &[&exact, &one, &zero], &integers, vec![]));
        self.dequantize(&[&integers, &one, &zero], &units, None);
        let wide = format!("{units}.wide");
        self.round_to(&units, &wide, Step { scale: 1.0 / 256.0, zero_point: 1 << 15 }); // exact

        let scales_name = format!("{name}.row_scale");
        let step = Step::holding(range(&scales));
        self.rounded_constant(&scales_name, &[count, 1], step, &scales);
        let scale = format!("{output}.row_scale");
        self.pick(&format!("{scales_name}.float"), indices, &format!("{scale}.exact"));
        self.round_to(&format!("{scale}.exact"), &scale, step);
        let exact = format!("{output}.exact");
        self.nodes.push(node("Mul", &[&wide, &scale], &exact, vec![]));
        self.round(&exact, output, output)
    }

    fn pick(&mut self, table: &str, indices: &str, rows: &str) {
        let attributes = vec![("axis", Attribute::Int(0))];
        self.nodes.push(node("Gather", &[table, indices], rows, attributes));
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
            let units: Vec<_> = scales.iter().map(|scale| scale * step.scale).collect();
            operands.push(self.bias(&format!("{name}.bias"), &biases, &units));
        }
        Ok(operands)
    }

    /// The operands of a norm of groups: the weight in 16 bits, the bias in units of the input's
    /// scale times the weight's. QNN takes a bias of 16 bits, too, and makes 20 dB of it.
    pub(super) fn norm_of_groups(&mut self, node: &Node) -> Result<Vec<String>> {
        let x = self.operand(node, 0)?;
        let weight = floats(&self.constants[&node.inputs[1]])?;
        let bias = floats(&self.constants[&node.inputs[2]])?;
        let (input, step) = (self.step(&node.inputs[0])?, Step::holding(range(&weight)));
        let (name, unit) = (&node.outputs[0], input.scale * step.scale);
        self.rounded_constant(&format!("{name}.weight"), &[weight.len()], step, &weight);
        let bias = self.bias(&format!("{name}.bias"), &bias, &[unit]);
        Ok(vec![x, format!("{name}.weight.float"), bias])
    }

    /// A bias in whole units of 32 bits, one for each channel or one for all.
    fn bias(&mut self, name: &str, values: &[f32], units: &[f32]) -> String {
        let nearest = |(value, unit): (&f32, &f32)| {
            (f64::from(*value) / f64::from(*unit)).round_ties_even() as i32
        };
        let pairs = values.iter().zip(units.iter().cycle());
        let bytes = pairs.map(nearest).flat_map(i32::to_le_bytes).collect();
        let data = Data::Inline(Dtype::I32, bytes);
        let integers = self.keep(format!("{name}.s32"), &[values.len()], data);
        let (shape, axis) =
            if units.len() == 1 { (vec![], None) } else { (vec![units.len()], Some(0)) };
        let scales = Data::Inline(Dtype::F32, little_endian(units.to_vec()));
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
