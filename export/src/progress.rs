//! How far an export is, and whether it goes on.

use std::ops::ControlFlow;

use pocketmuse_package::{Flavour, Stage};

use crate::{
    error::{Error, ErrorKind, Result},
    networks::{Graphs, is_quantized},
};

/// How far an export is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes of weights written.
    pub written_bytes: u64,
    /// Bytes of weights in all, as far as is known.
    pub total_bytes: u64,
    /// The network being written.
    pub stage: Stage,
    /// The constant being written.
    pub tensor: &'a str,
}

/// Counts bytes and asks whether to go on.
pub(crate) struct Counter<F> {
    written_bytes: u64,
    total_bytes: u64,
    on_progress: F,
}

impl<F> Counter<F> {
    /// Bytes of weights in all, as far as is known.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

impl<F: FnMut(&Progress<'_>) -> ControlFlow<()>> Counter<F> {
    pub(crate) fn new(graphs: &[(Flavour, Graphs)], on_progress: F) -> Self {
        let stages = graphs.iter().flat_map(|(_, stages)| stages);
        let constants = stages.flat_map(|(_, graph)| &graph.initializers);
        let written: u64 = constants.map(|constant| constant.bytes() as u64).sum();
        Self { written_bytes: 0, total_bytes: written + later_bytes(graphs), on_progress }
    }

    pub(crate) fn advance(&mut self, stage: Stage, tensor: &str, bytes: u64) -> Result<()> {
        self.total_bytes = self.total_bytes.max(self.written_bytes + bytes);
        let Self { written_bytes, total_bytes, .. } = *self;
        if (self.on_progress)(&Progress { written_bytes, total_bytes, stage, tensor }).is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "export", "cancelled"));
        }
        self.written_bytes += bytes;
        Ok(())
    }
}

/// About how large the decoders are that are written when their drafts have been measured: a byte
/// for each float.
fn later_bytes(graphs: &[(Flavour, Graphs)]) -> u64 {
    let drafts =
        graphs.iter().filter(|(flavour, _)| is_quantized(*flavour)).flat_map(|(_, graphs)| graphs);
    let decoders = drafts
        .filter(|(stage, _)| *stage == Stage::Decoder)
        .flat_map(|(_, graph)| &graph.initializers);
    decoders.map(|constant| constant.bytes() as u64 / 4).sum()
}
