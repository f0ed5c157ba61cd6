//! How near another provider must be to the CPU: one table.

use pocketmuse_package::{Flavour, Stage};

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
    /// In brackets what was found with tiny-world, at 4 x 4 to 16 x 16 tokens.
    pub(crate) fn of((flavour, stage): (Flavour, Stage), precision: Precision) -> Self {
        let (relative, equal) = match (precision, flavour, stage) {
            // f32 sums in another order (2e-5); bf16, which must fail, has 5e-3.
            (Precision::OfFlavour, Flavour::F32, _) => (1e-3, 0.99),
            // Guidance 3 makes an error of its branches up to five times as large, and 1e-2 was found
            // without; so 2e-2 is allowed, and here five times that.
            (Precision::Bf16, _, Stage::Step) => (1e-1, 0.95),
            // OpenVINO's encoder 96.9 % of 256 tokens. Rubbish is near 1, and makes one token in
            // hundreds the same.
            (Precision::Bf16, ..) => (2e-2, 0.95),
            // QNN 7e-4, WebGPU, which adds in halves, 2.4e-3 and 3.1e-3.
            (_, Flavour::F16, Stage::TextEncoder | Stage::Decoder) => (5e-3, 0.99),
            // QNN's sigmoid moves by 2^-11: where it is small, much of it (3.4e-2).
            (_, Flavour::F16, Stage::Prologue) => (5e-2, 0.99),
            // QNN 9e-3, WebGPU 2.4e-2.
            (_, Flavour::F16, Stage::Step) => (5e-2, 0.99),
            // One token in 64 may be a near tie.
            (_, Flavour::F16, Stage::Encoder) => (2e-2, 0.98),
            // Against floats with the same weights. QNN 3e-4 of the text, OpenVINO 4e-3.
            (_, Flavour::Qdq, Stage::TextEncoder) => (1e-2, 0.99),
            // QNN 2.1e-2, where modulations are small.
            (_, Flavour::Qdq, Stage::Prologue) => (5e-2, 0.99),
            // The CPU 4e-3, QNN 9e-3; with products by u16, which must fail, 4.3e-2.
            (_, Flavour::Qdq, Stage::Step) => (3e-2, 0.99),
            // 50 dB (QNN 5e-4); with norms as of 4 x 4 tokens 2.5e-1.
            (_, Flavour::Qdq, Stage::Decoder) => (6e-3, 0.99),
            // Halves: 1.1e-2 was found; rubbish is near 1.
            _ => (2e-2, 0.99),
        };
        Self { relative, equal }
    }
}
