//! `Statistics`: of each channel the sum of its units and the sum of their squares.
//!
//! Takes u8 `[pixels, channels]`, 128 for 0, and makes two f32 `[1, channels]`. Sums are exact, and
//! rounded once; `ReduceSum` rounds with every pixel.

use std::sync::{Mutex, PoisonError};

use ort::{Result, operator::ComputeContext};

use super::{
    values::{input, no_output, wrong},
    wide::sum,
};

/// Pixels that a thread takes at a time. Their squares stay below 2^31.
const PIXELS: usize = 512;

pub(super) fn compute(context: &ComputeContext) -> Result<()> {
    let pixels = input(context, 0)?;
    let (shape, pixels) = pixels.try_extract_tensor::<u8>()?;
    let channels = match **shape {
        [pixels, channels] if pixels > 0 && channels > 0 => channels as usize,
        _ => return Err(wrong("bytes of shape [pixels, channels]", shape)),
    };
    let total = Mutex::new(vec![[0i64; 2]; channels]);
    let parts: Vec<_> = pixels.chunks(PIXELS * channels).collect();
    context.par_for(parts.len(), 0, |index| {
        let Some(pixels) = parts.get(index) else { return };
        let [mut units, mut squares] = [(); 2].map(|()| vec![0; channels]);
        sum(pixels, &mut units, &mut squares);
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        for (total, part) in total.iter_mut().zip(units.into_iter().zip(squares)) {
            total[0] += i64::from(part.0);
            total[1] += i64::from(part.1);
        }
    })?;
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    for index in [0, 1] {
        let mut output = context.output(index, [1, channels])?.ok_or_else(no_output)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        for (output, total) in output.iter_mut().zip(&total) {
            *output = total[index] as f32;
        }
    }
    Ok(())
}
