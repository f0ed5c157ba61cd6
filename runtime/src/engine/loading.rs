//! How a stage's graph is loaded: time against memory. Knows no runtime and no budget.

use std::fmt;

use pocketmuse_package::Stage;

/// How a stage's graph is loaded. docs/memory.md has the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// Who holds intermediate values.
    pub intermediates: Intermediates,
    /// Where the weights are held.
    pub weights: Weights,
}

/// Who holds the intermediate values of a loaded graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intermediates {
    /// An arena, which keeps memory for the next ones until the session and all its outputs are
    /// dropped: right where they are large, wrong where an output outlives the session.
    Arena,
    /// Nobody: what is free goes back.
    Freed,
    /// Nobody, and a large value has memory of its own: right where those are few and of many
    /// sizes. Linux and Android alone; elsewhere an arena has them.
    Apart,
}

/// The most bytes that are kept of memory that a tile of an image needed, for the next tile, where
/// intermediate values are [`Intermediates::Apart`].
pub(crate) const KEPT_BYTES: usize = 4 << 20;

/// Whether this system takes memory back when it is told to.
pub(crate) const TAKES_BACK: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Where the weights of a loaded graph are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// In a copy of their own, packed for the processor's kernels: faster runs, slower loading,
    /// anonymous memory.
    Packed,
    /// In their mapped file, whose pages the system can take back.
    Mapped,
    /// In their mapped file, whose pages leave memory behind the computation: whenever more of them
    /// is there than a window, all do. Linux and Android alone; elsewhere they are mapped.
    Passing {
        /// The most that is there at a time, about.
        window_bytes: u64,
    },
}

impl Loading {
    /// The fastest for `stage`.
    pub fn of(stage: Stage) -> Self {
        Self {
            intermediates: match stage {
                Stage::Step | Stage::Decoder | Stage::Encoder => Intermediates::Arena,
                Stage::TextEncoder | Stage::Prologue => Intermediates::Freed,
            },
            weights: Weights::Packed,
        }
    }

    /// Whether large values have memory of their own.
    pub(crate) fn is_apart(self) -> bool {
        self.intermediates == Intermediates::Apart
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed => f.pad("packed"),
            Self::Mapped => f.pad("mapped"),
            Self::Passing { window_bytes } => {
                f.pad(&format!("passing {} MB", window_bytes.div_ceil(1_000_000)))
            }
        }
    }
}
