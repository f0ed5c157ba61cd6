//! One file for each command: what it calls and what it prints.

mod edit;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod inspect;
mod job;
pub(crate) mod setup;
pub(crate) mod synth;
mod tokens;
pub(crate) mod verify;
