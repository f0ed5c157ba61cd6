//! A convolution's weight and bias as integers. Knows no operator.

use super::{channel, scales};
use crate::{
    checkpoint::Weight,
    error::Result,
    graph::{Data, Initializer, Recipe, little_endian},
};

/// How to compute the constants of a convolution of integers.
pub(crate) struct KernelRecipes {
    /// s8 `[out, in, kh, kw]`.
    pub(crate) values: Recipe,
    /// f32 `[out]`: each output channel's scale, over the scale in which its results are wanted.
    pub(crate) scales: Recipe,
    /// s32 `[out]`, in units of the input's scale times the channel's.
    pub(crate) bias: Recipe,
}

/// `weight` `[out, in, kh, kw]` and `bias` `[out]` for inputs of the scale `input`; channel `c` of
/// the results is wanted in units of `results[c]`.
///
/// One scale per output channel. Neighbours, whose products a processor may add in 16 bits, are two
/// input channels at one place of the kernel, which is the order in which channels-last pixels are
/// multiplied.
pub(crate) fn kernel_recipes(
    weight: &Weight,
    bias: &Weight,
    input: f32,
    results: &[f32],
) -> KernelRecipes {
    let outputs = weight.shape()[0];
    let size = weight.shape()[2..].iter().product::<usize>() * weight.shape()[1];
    let matrix = weight.permute(&[2, 3, 1, 0]); // OIHW => HWIO
    let (values, scales) = {
        let weight = weight.clone();
        scales::recipes(move || {
            let scales = channel::pair_safe_scales(&matrix.values()?, outputs);
            Ok((channel::blocks(&weight.values()?, size, &scales), scales))
        })
    };
    let bias = {
        let (scales, bias) = (scales.clone(), bias.clone());
        Recipe::new(move || whole_units(&bias, scales.get()?, input))
    };
    let results = results.to_vec();
    let scales = Recipe::new(move || {
        Ok(little_endian(
            scales.get()?.iter().zip(&results).map(|(scale, result)| scale / result).collect(),
        ))
    });
    KernelRecipes { values, scales, bias }
}

/// The scale of each output channel of a kernel `[out, in, kh, kw]`, as [`kernel_recipes`] finds it.
pub(crate) fn kernel_scales(kernel: &Initializer) -> Result<Vec<f32>> {
    let Data::Weight(weight) = &kernel.data else { unreachable!("kernels are weights") };
    Ok(channel::pair_safe_scales(&weight.permute(&[2, 3, 1, 0]).values()?, kernel.shape[0]))
}

/// How to compute a kernel in s8, of these scales.
pub(crate) fn kernel_recipe(kernel: &Initializer, scales: &[f32]) -> Recipe {
    let (kernel, scales) = (kernel.clone(), scales.to_vec());
    let size = kernel.shape[1..].iter().product();
    Recipe::new(move || {
        let Data::Weight(weight) = &kernel.data else { unreachable!("kernels are weights") };
        Ok(channel::blocks(&weight.values()?, size, &scales))
    })
}

/// The bias in units of `input` times the channel's scale, to the nearest s32.
fn whole_units(bias: &Weight, scales: &[f32], input: f32) -> Result<Vec<u8>> {
    let unit = |scale: &f32| f64::from(input) * f64::from(*scale);
    let units = bias
        .values()?
        .into_iter()
        .zip(scales)
        .map(|(bias, scale)| (f64::from(bias) / unit(scale)).round());
    Ok(units.flat_map(|units| (units as i32).to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(recipe: &Recipe) -> Vec<u8> {
        recipe.compute().expect("memory")
    }

    #[test]
    fn a_kernel_has_a_scale_for_each_output_channel() {
        // Two channels in, two out, a kernel of two places.
        let weight = Weight::constant(&[2, 2, 1, 2], vec![0.5, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 4.0]);
        let bias = Weight::constant(&[2], vec![0.25, -8.0]);
        let recipes = kernel_recipes(&weight, &bias, 0.5, &[2.0, 1.0]);
        let signed: Vec<i8> = values(&recipes.values).into_iter().map(u8::cast_signed).collect();
        // At the first place the two inputs of the first output add up to 1: its scale is 1 / 127.
        assert_eq!(signed, [64, -127, 64, 0, 0, 0, 0, 127]);
        let floats: Vec<f32> = values(&recipes.scales)
            .chunks(4)
            .map(|four| f32::from_le_bytes(four.try_into().expect("four")))
            .collect();
        assert_eq!(floats, [1.0 / 127.0 / 2.0, 4.0 / 127.0]);
        let integers: Vec<i32> = values(&recipes.bias)
            .chunks(4)
            .map(|four| i32::from_le_bytes(four.try_into().expect("four")))
            .collect();
        assert_eq!(integers, [64, -508]); // 0.25 / (0.5 / 127), -8 / (0.5 * 4 / 127)
    }
}
