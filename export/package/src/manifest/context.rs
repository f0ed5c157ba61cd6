//! What was compiled of a stage's graph ahead, for one chip and one size.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::FileEntry;
use crate::Digest;

/// A stage's graph compiled ahead for one chip and one size: what a provider loads in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextEntry {
    /// Who compiled it and can load it: `qnn`.
    pub provider: String,
    /// The chip: `sm8650`.
    pub target: String,
    /// The architecture of the chip's NPU: `75`.
    pub architecture: String,
    /// The version of the libraries that compiled it, which must load it: `2.51.0`.
    pub sdk: String,
    /// What each name in the stage's shapes stands for.
    pub extents: BTreeMap<String, usize>,
    /// The digests of the graph that was compiled, and of its weights.
    pub source: Vec<Digest>,
    /// An ONNX graph of one operator, which names the binary.
    pub graph: FileEntry,
    /// What the chip runs.
    pub binary: FileEntry,
    /// What the CPU makes of a proof's inputs: some values of each output, 4 bytes each.
    pub rows: FileEntry,
}

impl ContextEntry {
    /// Its files.
    pub fn files(&self) -> [&FileEntry; 3] {
        [&self.graph, &self.binary, &self.rows]
    }

    /// Whether it is for the same chip and sizes as `other`.
    pub fn is_for(&self, other: &Self) -> bool {
        (&self.provider, &self.target) == (&other.provider, &other.target)
            && self.extents == other.extents
    }
}
