//! Who computes a stage instead of the CPU, for which sizes, and what is said when that one fails.
//! Opens nothing.

use std::path::{Path, PathBuf};

use pocketmuse_package::{Dim, Error, ErrorKind, Stage};

use super::{nodes::Nodes, option::Choice};
use crate::request::{Job, Provider, Providers};

/// What the names in a graph's shapes stand for: a graph is compiled for one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows and columns of tokens, the margin included.
    pub grid: [usize; 2],
    /// Guidance branches: 1 or 2.
    pub branches: usize,
}

impl Sizes {
    /// Those that a stage is compiled for to serve `job`.
    pub(crate) fn of(job: &Job) -> Self {
        Self { grid: job.outer_grid(), branches: if job.is_guided() { 2 } else { 1 } }
    }

    /// The extent that a manifest says: a number, `height`, or `8 * height`. `None` if that is not
    /// known.
    pub(crate) fn extent(&self, dim: &Dim) -> Option<usize> {
        if let Dim::Fixed(extent) = dim {
            return Some(*extent);
        }
        let (factor, name) = dim.multiple()?;
        self.named(name)?.checked_mul(factor)
    }

    fn named(&self, name: &str) -> Option<usize> {
        let [rows, columns] = self.grid;
        match name {
            "height" => Some(rows),
            "width" => Some(columns),
            "positions" | "all tokens" => rows.checked_mul(columns), // all: the caller picks
            "branches" => Some(self.branches),
            "batch" => Some(1), // prompts are encoded one by one
            _ => None,
        }
    }
}

/// Who computes which stage instead of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub provider: Provider,
    /// Which stage.
    pub stage: Stage,
}

impl Assignment {
    /// The error of a provider that failed; `reason` is said of it.
    pub(crate) fn failed(self, reason: &str) -> Error {
        Error::provider_failed(self.provider.name(), self.stage.name(), reason)
    }

    /// What ONNX Runtime failed with is this provider's failure.
    pub(crate) fn blamed(self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::EngineFailed => self.failed(&format!("failed: {}", error.detail())),
            _ => error,
        }
    }

    /// The error of a stage whose inner values are wanted: only the CPU tells them.
    pub(crate) fn looked_into(self) -> Error {
        let Self { provider, stage } = self;
        let detail = format!("expected cpu for the {stage} that is looked into, found {provider}");
        Error::new(ErrorKind::BadRequest, "provider", detail)
    }
}

/// Who computes a graph instead of the CPU, and for which sizes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Who, and which stage it is.
    pub assignment: Assignment,
    /// What was chosen of its options.
    pub choice: Choice<'a>,
    /// The plug-in's library.
    pub library: Option<&'a Path>,
    /// For which sizes.
    pub sizes: Sizes,
    /// Whether the CPU may compute the nodes that it does not take.
    pub allows_fallback: bool,
    /// What of the graph is compiled ahead.
    pub ahead: Ahead<'a>,
}

/// What of a graph is compiled ahead.
#[derive(Clone, Copy, Debug)]
pub enum Ahead<'a> {
    /// Nothing: it is compiled when it is loaded.
    Nothing,
    /// All: a context is loaded.
    Done,
    /// It is compiled into this file, a binary beside it, and not run.
    Into(&'a Path, Binary),
}

/// A graph's place in a binary. Graphs that share one are compiled in one process, one after the
/// other, and it is there when the last of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Which graph this is, from 0.
    pub place: usize,
    /// How many graphs it is for.
    pub graphs: usize,
}

impl<'a> Target<'a> {
    /// Who of `providers` computes `stage` for `sizes`, and with which plug-in.
    pub(crate) fn of(providers: &'a Providers, stage: Stage, sizes: Sizes) -> Self {
        let provider = providers.of(stage);
        let library = providers.libraries.get(&provider).map(PathBuf::as_path);
        let choice = Choice(providers.options.get(&provider));
        let (assignment, allows_fallback) =
            (Assignment { provider, stage }, providers.allow_fallback);
        Self { assignment, choice, library, sizes, allows_fallback, ahead: Ahead::Nothing }
    }
}

impl Target<'_> {
    /// Whether a context is loaded in the place of a graph.
    pub(crate) fn is_context(&self) -> bool {
        matches!(self.ahead, Ahead::Done)
    }

    /// The error of a graph that the provider does not take whole.
    pub(crate) fn refused(&self, reason: &str) -> Error {
        self.assignment.failed(&format!("does not take the whole graph: {reason}"))
    }

    /// The same, where it is known which nodes it takes.
    pub(crate) fn refused_with(&self, reason: &str, nodes: Option<&Nodes>) -> Error {
        match nodes {
            Some(nodes) if nodes.taken < nodes.all => {
                self.refused(&format!("it takes {nodes}: {reason}"))
            }
            _ if matches!(self.ahead, Ahead::Into(..)) => {
                self.assignment.failed(&format!("does not compile the graph: {reason}"))
            }
            _ => self.refused(reason),
        }
    }
}

/// The error of a provider that this build lacks.
pub(super) fn not_in_this_build(provider: Provider) -> Error {
    let detail = format!(
        "expected cpu, openvino, qnn or webgpu, found {provider}, which is not in this build"
    );
    Error::new(ErrorKind::Unsupported, "provider", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_extents_are_read() {
        let sizes = Sizes { grid: [4, 6], branches: 2 };
        for (name, extent) in [
            ("height", Some(4)),
            ("8 * width", Some(48)),
            ("positions", Some(24)),
            ("branches", Some(2)),
            ("batch", Some(1)),
            ("depth", None),
            ("x * height", None),
        ] {
            assert_eq!(sizes.extent(&Dim::from(name)), extent, "{name}");
        }
    }

    #[test]
    fn what_onnx_runtime_fails_with_is_the_providers_failure() {
        let who = Assignment { provider: Provider::OpenVino, stage: Stage::Decoder };
        let of = |kind| who.blamed(Error::new(kind, "decoder.onnx", "bad_alloc"));
        let error = of(ErrorKind::EngineFailed);
        assert_eq!((error.kind(), error.provider()), (ErrorKind::ProviderFailed, Some("openvino")));
        assert_eq!(error.to_string(), "decoder: openvino failed: bad_alloc");
        for kind in [ErrorKind::NotEnoughMemory, ErrorKind::BadRequest, ErrorKind::EngineMissing] {
            assert_eq!(of(kind).kind(), kind, "an app does something else about it");
        }
    }
}
