//! The memory policy: what may be used, how each stage is loaded, and what is measured.

pub(crate) mod budget;
mod demand;
pub(crate) mod measured;
pub(crate) mod metrics;
pub(crate) mod plan;
mod system;
pub(crate) mod trials;
