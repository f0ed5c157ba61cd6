//! What other providers than the CPU showed of the stages of a package, and what that took. Plain
//! values; proves nothing.

use serde::{Deserialize, Serialize};

use crate::engine::providers::nodes::Nodes;

/// Verdicts that are kept of one package: those that were reached last.
const MOST: usize = 64;

/// Memory that a stage takes where another provider than the CPU computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// As long as it is loaded, in bytes.
    pub held_bytes: u64,
    /// At most, while it is compiled and runs.
    pub peak_bytes: u64,
}

/// What a stage took in its proof, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// To load and compile it.
    pub load_us: u64,
    /// To run it once: the median of some runs.
    pub run_us: u64,
    /// To load it for the CPU.
    pub cpu_load_us: u64,
    /// The same run on the CPU.
    pub cpu_run_us: u64,
}

/// Whether a provider computes a stage as the CPU does, and what that took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Whether it may be used.
    pub is_right: bool,
    /// How far it is off, or what it did instead, for people.
    pub reason: String,
    /// What memory it took, where the system tells.
    pub need: Option<Need>,
    /// Which nodes it took, where ONNX Runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// What time it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// The devices that it offered: what they are, whose, and the plug-in's version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

impl Verdict {
    /// Of a provider that did not come to the end of its proof; `reason` is said of it.
    pub fn not_ended(reason: impl Into<String>) -> Self {
        let (need, nodes, speed, devices) = Default::default();
        Self { is_right: false, reason: reason.into(), need, nodes, speed, devices }
    }
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
        self.remove(key);
        self.0.push((key.to_owned(), verdict));
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// Forgets what is known of `key`.
    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }

    /// With those of `other` that are about something else.
    pub(super) fn merged(&self, other: Self) -> Self {
        let mut merged = other;
        self.0.iter().for_each(|(key, verdict)| merged.add(key, verdict.clone()));
        merged
    }
}
