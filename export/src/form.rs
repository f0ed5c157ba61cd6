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
    Halves,
    /// As `Halves`, with inner values that integers of one range can hold.
    Integers,
}

impl Form {
    /// The form of a flavour's graphs.
    pub(crate) fn of(flavour: Flavour) -> Self {
        match flavour {
            Flavour::F16 => Self::Halves,
            Flavour::Qdq => Self::Integers,
            _ => Self::Cpu,
        }
    }

    /// Whether providers other than the CPU's take the graph.
    pub(crate) fn is_portable(self) -> bool {
        self != Self::Cpu
    }

    /// The type of tokens and token ids that go in.
    pub(crate) fn token_dtype(self) -> Dtype {
        if self.is_portable() { Dtype::I32 } else { Dtype::I64 }
    }
}
