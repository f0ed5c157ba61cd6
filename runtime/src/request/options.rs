//! How a package is opened. Plain values; opens nothing.

use std::{num::NonZeroU8, path::PathBuf};

use pocketmuse_package::{Flavour, Manifest};

use super::{budget::Budget, provider::Providers};

/// How the threads of an operator wait for work and share it. The default suits a process that
/// computes all the time on cores that are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Whether threads that wait for work sleep at once. By default they spin for a while, which
    /// keeps their cores busy and drains a battery, but finds the next work sooner.
    pub sleeping_threads: bool,
    /// Into how many blocks for each thread the rest of an operator's work is divided, over and
    /// over, so that blocks get smaller towards the end and slow cores take fewer of them; 4 is
    /// ONNX Runtime's own example. `None`: blocks of one size, which is best where cores are alike.
    pub dynamic_block_base: Option<NonZeroU8>,
}

/// How a package is opened. The default suits most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The graphs to run; `None` for the best that the package has.
    pub flavour: Option<Flavour>,
    /// Threads to compute with, at least 1; `None` for one on each fast core that the process may
    /// run on: all cores where they are alike, at most 4 on Android and iOS.
    pub threads: Option<usize>,
    /// How threads wait for work and share it. It changes time and power, not a single bit.
    pub sharing: Sharing,
    /// The ONNX Runtime library file; `None` to look for one (see [`library`](crate::library)).
    pub library: Option<PathBuf>,
    /// How much memory may be used; see [`Plan`](crate::Plan).
    pub memory: Budget,
    /// Whether every stage is dropped before the next one is loaded, even where the budget would
    /// let it stay: right for a process that makes one image.
    pub staged: bool,
    /// Whether the report says how much memory each stage took: then a thread samples it every
    /// 5 ms, and on Linux and Android the peak that the system keeps of the process starts again
    /// with each stage, for everybody who reads it.
    pub measure_memory: bool,
    /// Cache folder, created if missing; only the first process then hashes the package. See
    /// [`prepared`](crate::prepared).
    pub prepared: Option<PathBuf>,
    /// Who computes which stage; the CPU by default.
    pub providers: Providers,
}

impl Options {
    /// The flavour to run of a package with `manifest`.
    pub(crate) fn flavour_of(&self, manifest: &Manifest) -> Flavour {
        let best =
            || Flavour::ALL.iter().copied().find(|flavour| manifest.flavours.contains_key(flavour));
        self.flavour.or_else(best).unwrap_or(Flavour::F32)
    }
}
