//! How near another provider must be to the CPU: one table.

use pocketmuse_package::Flavour;

/// What a provider computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// What the graphs of the flavour are made for.
    OfFlavour,
    /// 16 bits, of which 8 are digits.
    Bf16,
}

/// How near a provider must be to the CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerance {
    /// The most that outputs may differ: the length of the difference over that of the CPU's.
    pub(super) relative: f64,
    /// The share of integers that are equal, at least. Those that differ are near ties.
    pub(super) equal: f64,
}

impl Tolerance {
    pub(crate) fn of(flavour: Flavour, precision: Precision) -> Self {
        match (precision, flavour) {
            // f32 sums in another order: 2e-5; bf16, which must fail: 5e-3.
            (Precision::OfFlavour, Flavour::F32) => Self { relative: 1e-3, equal: 0.99 },
            // Halves: 1.1e-2 was found; rubbish is near 1.
            (Precision::OfFlavour, _) => Self { relative: 2e-2, equal: 0.99 },
            // OpenVINO's step 1e-2, its encoder 98.8 % of 256 tokens. Rubbish is near 1, and makes
            // one token in hundreds the same.
            (Precision::Bf16, _) => Self { relative: 2e-2, equal: 0.95 },
        }
    }
}
