//! The command as its users meet it, as one binary: each module is a set of claims about one part.

mod batch;
mod editing;
mod faults;
#[path = "../../../../tests/integration/foreign.rs"]
mod foreign;
#[cfg(target_os = "linux")]
#[path = "../support/group.rs"]
mod group;
mod looking;
mod memory;
mod names;
mod newcomer;
mod outpainting;
mod package;
mod pages;
mod scripts;
mod setup;
mod stopping;
mod streams;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod terminal;
