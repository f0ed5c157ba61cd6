//! What some images say about all that could be made, and how surely.
//!
//! Integers round differently on other processors and with other versions of ONNX Runtime. One
//! changed token changes those after it, so a quantized flavour's image of a prompt is another one
//! there: the images of a test are a sample, drawn anew on every kind of machine. A bound on what a
//! sample shows must leave room for that, and says how much.

/// Standard errors within which a mean of many values lies, on one side, but for one case in a
/// thousand: the 99.9th percentile of the normal distribution.
/// `python3 -c "from statistics import *; print(NormalDist().inv_cdf(0.999))"`: 3.0902
const SURE: f64 = 3.09;

/// The same, but for one case in twenty: `NormalDist().inv_cdf(0.95)` is 1.6449.
const LIKELY: f64 = 1.645;

/// The mean of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    pub(crate) value: f64,
    /// Its standard error.
    pub(crate) error: f64,
}

impl Mean {
    /// # Panics
    ///
    /// If there are fewer than two values.
    pub(crate) fn of(values: &[f64]) -> Self {
        assert!(values.len() > 1, "one value says nothing about others");
        let count = values.len() as f64;
        let value = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|found| (found - value).powi(2)).sum::<f64>();
        Self { value, error: (squares / (count - 1.0) / count).sqrt() }
    }

    /// The mean over all that could be drawn is at least this, with 99.9% confidence.
    pub(crate) fn least(&self) -> f64 {
        self.value - SURE * self.error
    }

    /// The same with 95% confidence: to be told, not to be a gate, which would tip.
    pub(crate) fn likely_least(&self) -> f64 {
        self.value - LIKELY * self.error
    }

    /// It is at most this, with 99.9% confidence.
    pub(crate) fn most(&self) -> f64 {
        self.value + SURE * self.error
    }
}

#[test]
fn a_mean_knows_how_sure_it_is() {
    // python3 -c "from statistics import *; v = [1, 2, 4, 9]; print(mean(v), stdev(v) / 2)"
    let mean = Mean::of(&[1.0, 2.0, 4.0, 9.0]);
    assert_eq!((mean.value, format!("{:.4}", mean.error)), (4.0, "1.7795".to_owned()));
    // 4 - 3.09 * 1.7795 and 4 + 3.09 * 1.7795
    assert!(mean.least() < -1.4 && mean.most() > 9.4);
    assert_eq!(format!("{:.2}", mean.likely_least()), "1.07"); // 4 - 1.645 * 1.7795
    let sure = Mean::of(&[0.5; 9]);
    assert_eq!((sure.least(), sure.most()), (0.5, 0.5));
}
