//! What a budget comes to: bytes, or a share of what the system has left. Knows not what for.

pub(crate) use crate::request::{Budget, FALLBACK_BYTES};

use crate::memory::system;

/// What a budget is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Anonymous memory and the pages of files that are mapped.
    Resident,
    /// Anonymous memory: pages of mapped files cost nothing.
    Anonymous,
}

impl Counted {
    /// As this system ends a process that holds too much.
    pub(crate) const HERE: Self =
        if cfg!(target_vendor = "apple") { Self::Anonymous } else { Self::Resident };
}

impl Budget {
    /// The bytes it comes to now.
    pub(crate) fn bytes(self) -> u64 {
        match (self, available()) {
            (Self::Bytes(bytes), _) => bytes,
            (Self::Auto, Some(available)) => {
                available.saturating_add(system::held().unwrap_or(0)) / 4 * 3
            }
            (Self::Auto, None) => FALLBACK_BYTES,
        }
    }
}

/// Memory that the system could give this process now. `None` where the system does not tell.
pub(crate) fn available() -> Option<u64> {
    system::available()
}
