//! Inner functions, for fuzzing alone. Anything here may change with any commit.

use pocketmuse_package::Flavour;

use crate::{
    checkpoint::Checkpoint, error::Result, models::config::Configs, networks::Networks,
    tokenizer::Tokenizer,
};

/// Builds the graphs of the f32 flavour; returns how many nodes they have.
///
/// # Errors
///
/// `BadCheckpoint` or `Io` for the configs or the tensors.
pub fn graphs(checkpoint: &Checkpoint) -> Result<usize> {
    let graphs = Networks::open(checkpoint)?.graphs(Flavour::F32)?;
    Ok(graphs.iter().map(|(_, graph)| graph.nodes.len()).sum())
}

/// Makes the `tokenizer.json` of a checkpoint.
///
/// # Errors
///
/// `BadCheckpoint` or `Io` for the tokenizer or the configs.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<String> {
    Ok(Tokenizer::read(checkpoint, &Configs::read(checkpoint)?)?.json)
}
