//! How a package is opened. Plain values; opens nothing.

use std::{path::PathBuf, thread};

use pocketmuse_package::{Flavour, Manifest};

use super::budget::Budget;

/// How a package is opened. The default suits most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The graphs to run; `None` for the best that the package has.
    pub flavour: Option<Flavour>,
    /// Threads to compute with, at least 1; `None` for as many as the machine runs at once.
    pub threads: Option<usize>,
    /// The ONNX Runtime library file; `None` to look for one (see [`library`](crate::library)).
    pub library: Option<PathBuf>,
    /// How much memory may be used; see [`Plan`](crate::Plan).
    pub memory: Budget,
    /// Whether every stage is dropped before the next one is loaded, even where the budget would
    /// let it stay: right for a process that makes one image.
    pub staged: bool,
    /// Cache folder, created if missing; only the first process then hashes the package. See
    /// [`prepared`](crate::prepared).
    pub prepared: Option<PathBuf>,
}

impl Options {
    /// The flavour to run of a package with `manifest`.
    pub(crate) fn flavour_of(&self, manifest: &Manifest) -> Flavour {
        let best =
            || Flavour::ALL.iter().copied().find(|flavour| manifest.flavours.contains_key(flavour));
        self.flavour.or_else(best).unwrap_or(Flavour::F32)
    }

    /// The threads to compute with.
    pub(crate) fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1)
    }
}
