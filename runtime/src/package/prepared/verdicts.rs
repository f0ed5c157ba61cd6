//! What other providers than the CPU showed of the stages of a package, and what that took. Plain
//! values; proves nothing.

use serde::{Deserialize, Serialize};

/// Verdicts that are kept of one package: those that were reached last.
const MOST: usize = 64;

/// Memory that a stage takes where another provider than the CPU computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Need {
    /// As long as it is loaded, in bytes.
    pub(crate) held_bytes: u64,
    /// At most, while it is compiled and runs.
    pub(crate) peak_bytes: u64,
}

/// Whether a provider computes a stage as the CPU does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    /// Whether it may be used.
    pub(crate) is_right: bool,
    /// How far it is off, for people.
    pub(crate) reason: String,
    /// What it took, where the system tells.
    pub(crate) need: Option<Need>,
}

/// Verdicts by what they are about; the last that was reached at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Verdicts(Vec<(String, Verdict)>);

impl Verdicts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is known of `key`.
    pub(super) fn of(&self, key: &str) -> Option<&Verdict> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, verdict)| verdict)
    }

    /// Takes note of a verdict, in place of an older one.
    pub(super) fn add(&mut self, key: &str, verdict: Verdict) {
        self.0.retain(|(known, _)| known != key);
        self.0.push((key.to_owned(), verdict));
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// With those of `other` that are about something else.
    pub(super) fn merged(&self, other: Self) -> Self {
        let mut merged = other;
        self.0.iter().for_each(|(key, verdict)| merged.add(key, verdict.clone()));
        merged
    }
}
