//! How a stage's graph is loaded: time against memory. Knows no runtime and no budget.

use pocketmuse_package::Stage;

/// How a stage's graph is loaded. docs/memory.md has the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// Whether memory for intermediate values is kept for the next ones until the session and all
    /// its outputs are dropped: right where they are large, wrong where an output outlives the
    /// session.
    pub arena: bool,
    /// Whether weights are packed for the processor's kernels: faster runs, slower loading, and a
    /// copy in anonymous memory. Without, they stay in their mapped file, whose pages the system
    /// can take back.
    pub prepacking: bool,
}

impl Loading {
    /// The fastest for `stage`.
    pub(crate) fn of(stage: Stage) -> Self {
        Self {
            arena: matches!(stage, Stage::Step | Stage::Decoder | Stage::Encoder),
            prepacking: true,
        }
    }
}
