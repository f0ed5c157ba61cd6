//! How a session is set up: plain values.

use std::path::{Path, PathBuf};

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
    /// As it was exported, and what ONNX Runtime makes of it is saved.
    Saved(&'a SavedGraph),
    /// What was saved, its weights where the package has them. Goes with no taps and no profile.
    Optimised(&'a [u8]),
}

/// Where ONNX Runtime saves a graph that it optimised: two files in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedGraph {
    folder: PathBuf,
}

impl SavedGraph {
    const GRAPH: &str = "graph.onnx";
    pub(super) const WEIGHTS: &str = "graph.data";

    /// In `folder`, which must exist.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The graph's file.
    pub fn graph(&self) -> PathBuf {
        self.folder.join(Self::GRAPH)
    }

    /// The file of its larger constants; there is none if it has none.
    pub fn weights(&self) -> PathBuf {
        self.folder.join(Self::WEIGHTS)
    }
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
    /// Which of the values that the manifest lists as taps are outputs too.
    pub taps: Option<Taps>,
    /// Where to write the profile of all runs: what the file's name begins with. It tells what each
    /// node was given and made, and how long that took. Nodes are those of the exported graph, none
    /// replaced by a faster one. Written when the session is dropped.
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
            taps: None,
            profile: None,
            target: None,
        }
    }
}
