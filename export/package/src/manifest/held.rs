//! How a stage holds its weights: what a runtime must know to plan memory and kernels.

use serde::{Deserialize, Serialize};

use super::words::{Flavour, Stage};
use crate::named_enum;

/// How a stage holds its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Bits of a weight of a linear layer, without its block's or channel's scale: 32, 16, 8 or 4.
    /// 32 if there are no linear layers. With 16 all other weights are 16-bit floats, too.
    pub linear_bits: u8,
    /// How convolutions compute. Floats if there are none.
    pub convolutions: Convolutions,
}

named_enum! {
    /// How the convolutions of a stage compute.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Convolutions at "convolutions" {
        /// In floats, the whole image at once.
        Float = "float",
        /// In 8-bit integers, the image by tiles.
        Integer = "integer",
    }
}

impl Held {
    /// Everything in 32-bit floats.
    pub const FLOATS: Self = Self { linear_bits: 32, convolutions: Convolutions::Float };

    /// How a stage of a flavour holds its weights. Exporters follow it, and packages whose manifest
    /// does not say were made so.
    ///
    /// The prologue runs once and measurably loses nothing by 4 bits, of weights alone
    /// (docs/quantization.md). Linear layers of other stages have the flavour's bits. Of the VQ-GAN
    /// only the decoder is quantized.
    pub fn of(flavour: Flavour, stage: Stage) -> Self {
        let linear = |linear_bits| Self { linear_bits, ..Self::FLOATS };
        match (flavour, stage) {
            (Flavour::F16, _) => linear(16),
            (Flavour::F32, _) | (_, Stage::Encoder) => Self::FLOATS,
            (Flavour::Qdq, Stage::Decoder) => linear(8),
            (_, Stage::Decoder) => Self { convolutions: Convolutions::Integer, ..Self::FLOATS },
            (Flavour::Int8, Stage::Prologue) | (Flavour::Int4, _) => linear(4),
            (Flavour::Int8 | Flavour::Qdq, _) => linear(8),
        }
    }

    /// Whether ONNX Runtime makes other constants of this stage's weights when it optimises the
    /// graph: convolutions of floats are laid out anew, and halves become floats.
    pub fn changes_at_load(self, stage: Stage) -> bool {
        let has_convolutions = matches!(stage, Stage::Encoder | Stage::Decoder);
        self.linear_bits == 16 || has_convolutions && self.convolutions == Convolutions::Float
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_manifest_is_read_as_it_was_meant() {
        use Flavour::{F32, Int4, Int8, Qdq};
        use Stage::{Decoder, Encoder, Prologue, Step, TextEncoder};
        // Bits of linear layers, and whether convolutions are of integers.
        let cases = [
            (F32, [(TextEncoder, 32), (Prologue, 32), (Step, 32), (Decoder, 32), (Encoder, 32)]),
            (Int8, [(TextEncoder, 8), (Prologue, 4), (Step, 8), (Decoder, 32), (Encoder, 32)]),
            (Int4, [(TextEncoder, 4), (Prologue, 4), (Step, 4), (Decoder, 32), (Encoder, 32)]),
            (Qdq, [(TextEncoder, 8), (Prologue, 8), (Step, 8), (Decoder, 8), (Encoder, 32)]),
        ];
        for (flavour, stages) in cases {
            for (stage, bits) in stages {
                let held = Held::of(flavour, stage);
                assert_eq!(held.linear_bits, bits, "{flavour} {stage}");
                let is_integer = held.convolutions == Convolutions::Integer;
                assert_eq!(
                    is_integer,
                    [Int8, Int4].contains(&flavour) && stage == Decoder,
                    "{flavour} {stage}"
                );
            }
        }
    }
}
