//! The on-disk contract between the exporter and the runtime: the words they
//! share, and nothing that either of them does.
//!
//! A *package* is a folder: [`MANIFEST`] (JSON, [`Manifest`]), `tokenizer.json`,
//! and one folder per [`Flavour`] with an ONNX graph and a weights file for each
//! [`Stage`]. This crate's README is the specification of the format.
#![forbid(unsafe_code)]

pub mod archive;
mod calibration;
pub mod constant;
mod digest;
mod error;
pub mod files;
pub mod graph;
pub mod library;
mod manifest;
mod names;
pub mod onnx;
mod preview;
mod ranges;
mod shape;
mod subset;
pub mod wire;

pub use calibration::{CALIBRATION, calibration_prompts};
pub use digest::{Digest, DigestWriter, OnRead};
pub use error::{Amounts, Error, ErrorKind, Result};
pub use manifest::{
    ATTENTION, ContextEntry, Convolutions, Defaults, FORMAT_VERSION, FileEntry, Flavour,
    FlavourEntry, Held, MANIFEST, MAX_KNOWN_WORD, MAX_KNOWN_WORDS, Manifest, MaskingSchedule,
    Model, Stage, StageEntry, TensorSpec, Tokenizer,
};
#[doc(hidden)]
pub use names::unknown_name; // for `named_enum`
pub use preview::{Cell, Measured, PATCH, PATCH_VALUES, PREVIEW};
pub use ranges::{RANGE, Ranges};
pub use shape::{Dim, Dtype, Shape};
pub use subset::Subset;
