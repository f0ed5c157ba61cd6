//! How a session is set up: plain values.

use std::path::Path;

use crate::{
    engine::{loading::Loading, providers::Target},
    request::Sharing,
};

/// Says by its name in reference files whether a tapped value is wanted.
pub type Taps = fn(&str) -> bool;

/// In which form a graph is loaded.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// As it was exported; ONNX Runtime optimises it.
    Exported,
    /// As it was exported, and what ONNX Runtime makes of it is saved in this file. Constants of other
    /// files stay there, but for those that it changes.
    Saved(&'a Path),
    /// As it was exported, but values that it has as integers of a range are floats.
    Floats,
    /// What was saved, its weights where the package has them. Goes with no taps and no profile.
    Optimised(&'a [u8]),
}

/// How a session is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Threads that share one operator's work.
    pub threads: usize,
    /// How these threads wait and share.
    pub sharing: Sharing,
    /// Time against memory.
    pub loading: Loading,
    /// In which form the graph is loaded.
    pub form: Form<'a>,
    /// Whether [operators of our own](crate::engine::operators) stand for others where a graph is
    /// loaded as it was exported; without a profile and other providers alone. Taps are made beside
    /// them. Where ONNX Runtime does not take them a warning says so, and the graph stays as it was
    /// exported.
    pub own_operators: bool,
    /// Which of the values that the manifest lists as taps are outputs too.
    pub taps: Option<Taps>,
    /// Where to write the profile of all runs: what the file's name begins with. It tells what each
    /// node was given and made, and how long that took. Nodes are those of the exported graph, none
    /// replaced by a faster one, but for what another provider than the CPU is given. Written when
    /// the session is dropped.
    pub profile: Option<&'a Path>,
    /// Who computes it instead of the CPU: then as it was exported, whatever the form.
    pub target: Option<Target<'a>>,
}

impl Settings<'_> {
    /// A graph as it was exported, without taps and profile.
    pub fn new(threads: usize, loading: Loading) -> Self {
        Self {
            threads,
            sharing: Sharing::default(),
            loading,
            form: Form::Exported,
            own_operators: false,
            taps: None,
            profile: None,
            target: None,
        }
    }
}
