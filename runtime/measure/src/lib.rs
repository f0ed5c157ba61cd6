//! What a package costs, and how exact it is.

mod agreement;
pub mod bench;
pub(crate) mod calibrate;
mod golden;
pub mod verify;
