//! What a caller asks for: plain values, checked once against a package and then a [`Job`]. Knows
//! no network.

mod budget;
pub(crate) mod cancel;
pub(crate) mod conditioning;
pub(crate) mod control;
pub(crate) mod extension;
mod fields;
pub(crate) mod fitted;
pub(crate) mod job;
mod kinds;
mod options;
pub(crate) mod provider;
mod resolve;
pub(crate) mod source;
pub(crate) mod video;
pub(crate) mod weights;

pub use self::{
    budget::{Budget, FALLBACK_BYTES},
    cancel::Cancel,
    control::Control,
    fields::{MAX_IMAGES, MAX_PROMPT_BYTES, MAX_SIDE, MAX_STEPS, Request},
    job::Job,
    kinds::{GuidanceSchedule, RngKind, Sampler, Temperature, Tileable},
    options::{Options, Sharing},
    provider::{Provider, Providers},
};

#[cfg(test)]
pub(crate) mod tests;
