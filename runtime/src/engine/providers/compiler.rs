//! How a provider compiles graphs ahead, said in its file. Plain values.

use std::path::Path;

use super::option::Choice;

/// What is known of a provider that compiles ahead.
pub(super) struct Compiler {
    /// The chip that was chosen, if any: its name, its number, the architecture of its NPU.
    pub(super) chip: fn(Choice<'_>) -> Option<Chip>,
    /// The version of the libraries beside a plug-in.
    pub(super) sdk: fn(&Path) -> Option<String>,
    /// What it is told when it is to compile and not to run.
    pub(super) prepare_only: (&'static str, &'static str),
    /// How the binary beside a compiled graph is called: the graph's name without its ending, and this.
    pub(super) binary_ending: &'static str,
    /// Reads what a compiled graph says of itself.
    pub(super) told: fn(&str) -> Option<Told>,
}

/// A chip: its name, its number, the architecture of its NPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chip {
    pub(super) name: &'static str,
    pub(super) number: &'static str,
    pub(super) architecture: &'static str,
}

/// What a compiled graph says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The version of the libraries that made it.
    pub(crate) sdk: String,
    /// The architecture that it is for.
    pub(crate) architecture: String,
    /// The number of the chip that it is for.
    pub(crate) chip: String,
}
