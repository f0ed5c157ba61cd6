//! Inner types, for measuring alone: the crate `pocketmuse-measure`, this project's tests and `fuzz`.
//! Anything here may change with any commit; an app needs none of it.

use pocketmuse_package::{Manifest, Result};

use crate::{pipeline::state::State, request::Job};

pub use crate::{
    engine::{
        locations::moved,
        processor::instruction_sets,
        session::{Form, Input, Session, Settings, Taps, Tensor},
    },
    memory::measured::give_back,
    package::Package,
    pipeline::measured::Prompt,
    request::weights::Weighted,
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

/// Checks that a state is one that its own request can have with a package of this manifest.
///
/// # Errors
///
/// `BadRequest` for the request, `BadInput` for the state.
pub fn check_state(state: &State, manifest: &Manifest) -> Result<()> {
    state.check(&Job::new(&state.request, manifest)?, (state.package, state.flavour))
}
