//! The words of a manifest: stages, flavours, schedules.

use crate::named_enum;

named_enum! {
    /// One network of the pipeline, in the order of the data.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Stage at "stage" {
        /// Token ids of a prompt to hidden states and a pooled embedding.
        TextEncoder = "text_encoder",
        /// What depends on the prompt and the micro-conditioning alone, computed once per prompt.
        Prologue = "prologue",
        /// One step: tokens to logits of the positions asked for, guidance applied.
        Step = "step",
        /// Tokens to pixels.
        Decoder = "decoder",
        /// Pixels to tokens, for editing.
        Encoder = "encoder",
    }
}

named_enum! {
    /// How the graphs of a flavour compute. The best for most comes first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[non_exhaustive]
    pub enum Flavour at "flavour" {
        /// Linear layers, embeddings and the decoder's convolutions in 8-bit integers: small and
        /// fast on every CPU.
        Int8 = "int8",
        /// As `Int8`, with the weights of linear layers in 4 bits: smallest, and slower.
        Int4 = "int4",
        /// Every weight and every product in 32-bit float: the yardstick.
        F32 = "f32",
        /// Every weight and every value in 16-bit float, in operators that NPUs and GPUs take; slow
        /// on a CPU.
        F16 = "f16",
        /// Every value in 16-bit integers of measured ranges, every weight in 8 bits, in operators
        /// that NPUs take; slow on a CPU.
        Qdq = "qdq",
    }
}

named_enum! {
    /// How the number of masked tokens falls over the steps.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum MaskingSchedule at "masking_schedule" {
        /// `cos(ratio * pi / 2)`.
        Cosine = "cosine",
        /// `1 - ratio`.
        Linear = "linear",
    }
}
