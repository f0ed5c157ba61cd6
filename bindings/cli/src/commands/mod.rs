//! One file for each command: what it calls and what it prints.

mod make;

mod batch;

pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod grid;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod prepared;
pub(crate) mod prove;
pub(crate) mod repackage;
pub(crate) mod resume;
pub(crate) mod setup;
pub(crate) mod synth;
pub(crate) mod verify;
pub(crate) mod video;
