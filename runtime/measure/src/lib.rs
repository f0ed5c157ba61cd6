//! What a package costs, and how exact it is: for the command and the tests. A phone has none of
//! this.
//!
//! [`bench`] measures time, memory and operations, [`verify`] compares every stage with reference
//! values, [`calibrate()`] measures what a decoder makes, for the export, and [`agreement()`] how
//! alike two flavours are. [`graph`] writes small graphs to measure single operators with.

mod activations;
mod agreement;
pub mod bench;
mod calibrate;
mod golden;
pub mod graph;
mod prompts;
pub mod verify;

pub use agreement::agreement;
pub use calibrate::{Sample, calibrate};
pub use prompts::GENERAL;
