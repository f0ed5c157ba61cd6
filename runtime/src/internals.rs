//! Inner types, for measuring alone: the crate `pocketmuse-measure` and this project's tests.
//! Anything here may change with any commit; an app needs none of it.

pub use crate::{
    engine::{
        processor::instruction_sets,
        session::{Form, Input, SavedGraph, Session, Settings, Taps, Tensor},
    },
    package::Package,
    pipeline::measured::Prompt,
    sampler::{
        BadLogits, Canvas, Predict, Schedule,
        rng::{Mt19937, Philox, Purpose},
        sample,
    },
    stages::{
        Decoder, Encoder, Network, Pixels, Predictor, Primed, Prologue, Prompted, Text, TextEncoder,
    },
    text::tokenizer::{Encoded, Tokenizer},
};
