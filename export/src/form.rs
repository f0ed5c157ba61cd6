//! Which operators a graph is written in. Knows no operator.

use pocketmuse_package::{Dtype, Flavour};

/// The operators of a graph. All forms are the same network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// Those that ONNX Runtime's CPU provider fuses and runs fastest.
    #[default]
    Cpu,
    /// Those that other providers take, too, and whose inner values halves can hold: see
    /// docs/quantization.md.
    Portable,
}

impl Form {
    /// The form of a flavour's graphs.
    pub(crate) fn of(flavour: Flavour) -> Self {
        if flavour == Flavour::F16 { Self::Portable } else { Self::Cpu }
    }

    /// The type of tokens and token ids that go in.
    pub(crate) fn token_dtype(self) -> Dtype {
        match self {
            Self::Cpu => Dtype::I64,
            Self::Portable => Dtype::I32,
        }
    }
}
