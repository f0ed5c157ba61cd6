//! One file for each command: what it calls and what it prints.

mod batch;
pub(crate) mod bench;
mod edit;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod grid;
pub(crate) mod inspect;
mod job;
mod package;
pub(crate) mod prepared;
pub(crate) mod repackage;
pub(crate) mod setup;
pub(crate) mod synth;
mod tokens;
pub(crate) mod verify;
pub(crate) mod video;
