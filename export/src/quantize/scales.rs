//! Quantized values and their scales come from one computation, and are written one after the
//! other.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::{
    error::Result,
    graph::{Recipe, little_endian},
};

type Compute = dyn Fn() -> Result<(Vec<u8>, Vec<f32>)> + Send + Sync;

/// The scales of a quantized constant, wanted by several recipes.
#[derive(Clone)]
pub(super) struct Scales {
    known: Arc<OnceLock<Vec<f32>>>,
    /// Held while they are computed, so that nobody else computes them meanwhile.
    computing: Arc<Mutex<()>>,
    compute: Arc<Compute>,
}

impl Scales {
    /// The scales.
    pub(super) fn get(&self) -> Result<&[f32]> {
        let _computing = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scales) = self.known.get() {
            return Ok(scales);
        }
        let (_, scales) = (self.compute)()?;
        Ok(self.known.get_or_init(|| scales))
    }

    /// The values; keeps the scales.
    fn values(&self) -> Result<Vec<u8>> {
        let _computing = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        let (values, found) = (self.compute)()?;
        self.known.get_or_init(|| found);
        Ok(values)
    }

    /// How to compute them as a constant.
    pub(super) fn recipe(self) -> Recipe {
        Recipe::new(move || Ok(little_endian(self.get()?.to_vec())))
    }
}

/// How to compute quantized values, and their scales. `compute` finds both.
///
/// Reading a weight and finding its scales is dear, so whoever is first keeps the scales, which are
/// small, for the others.
pub(super) fn recipes(
    compute: impl Fn() -> Result<(Vec<u8>, Vec<f32>)> + Send + Sync + 'static,
) -> (Recipe, Scales) {
    let scales =
        Scales { known: Arc::default(), computing: Arc::default(), compute: Arc::new(compute) };
    let values = scales.clone();
    (Recipe::new(move || values.values()), scales)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn whoever_is_first_keeps_the_scales() {
        for values_first in [true, false] {
            let calls = Arc::new(AtomicUsize::new(0));
            let (values, scales) = recipes({
                let calls = Arc::clone(&calls);
                move || {
                    calls.fetch_add(1, Ordering::Relaxed);
                    Ok((vec![7], vec![0.5]))
                }
            });
            if values_first {
                assert_eq!(values.compute().expect("memory"), [7]);
            }
            assert_eq!(scales.get().expect("memory"), [0.5]);
            assert_eq!(scales.clone().recipe().compute().expect("memory"), 0.5f32.to_le_bytes());
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        }
    }
}
