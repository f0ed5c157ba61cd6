//! Execution providers other than the CPU's: which there are, how a session is handed to one, and
//! the proof that it computes what the CPU does. One file a provider.
//!
//! A stage is taken whole or refused: nothing falls back to the CPU.

mod openvino;
#[cfg(all(unix, not(feature = "linked")))]
mod plugin;
#[cfg(not(all(unix, not(feature = "linked"))))]
#[path = "no_plugin.rs"]
mod plugin;
pub(crate) mod proof;

use std::{collections::BTreeSet, path::Path};

use ort::session::{Session, builder::SessionBuilder};
use pocketmuse_package::{Dim, Error, ErrorKind, Result, Stage, StageEntry};

use crate::{engine::runtime::Runtime, request::Provider};

/// What the names in a graph's shapes stand for: a graph is compiled for one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows and columns of tokens, the margin included.
    pub grid: [usize; 2],
    /// Guidance branches: 1 or 2.
    pub branches: usize,
}

impl Sizes {
    /// The extent called `name` in a manifest: `height`, or `8 * height`. `None` if that is not
    /// known.
    pub(super) fn extent(&self, name: &str) -> Option<usize> {
        if let Some((factor, name)) = name.split_once(" * ") {
            return factor.parse::<usize>().ok()?.checked_mul(self.extent(name)?);
        }
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
    pub(super) fn failed(self, reason: &str) -> Error {
        Error::provider_failed(self.provider.name(), self.stage.name(), reason)
    }

    /// What ONNX Runtime failed with is this provider's failure.
    pub(super) fn blamed(self, error: Error) -> Error {
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
    /// The plug-in's library.
    pub library: Option<&'a Path>,
    /// For which sizes.
    pub sizes: Sizes,
}

impl Target<'_> {
    /// Loads the graph in `file` with `builder`, which has no provider yet, on this one alone, its
    /// shapes fixed.
    ///
    /// # Errors
    ///
    /// `Unsupported` if this build lacks the provider, `BadRequest` for its library,
    /// `ProviderFailed` if it does not take the whole graph.
    pub(super) fn commit(
        &self,
        runtime: &Runtime,
        entry: &StageEntry,
        (builder, threads, file): (SessionBuilder, usize, &Path),
    ) -> Result<Session> {
        let mut builder = self.fixed(entry, builder)?;
        let (name, options) = match self.assignment.provider {
            Provider::OpenVino => (openvino::NAME, openvino::options(threads)),
            provider => return Err(not_in_this_build(provider)),
        };
        plugin::append(runtime, self, name, (&mut builder, &options))
            .map_err(|error| self.assignment.blamed(error))?;
        builder.commit_from_file(file).map_err(|error| self.refused(error.message()))
    }

    fn fixed(&self, entry: &StageEntry, builder: SessionBuilder) -> Result<SessionBuilder> {
        let mut builder = builder;
        let dims = entry.inputs.iter().chain(&entry.outputs).flat_map(|spec| &spec.shape.0);
        let names =
            dims.filter_map(|dim| if let Dim::Named(name) = dim { Some(name) } else { None });
        for name in names.collect::<BTreeSet<_>>() {
            let extent = self.sizes.extent(name).ok_or_else(|| {
                let detail = format!("expected a shape whose extents are known, found {name:?}");
                Error::new(ErrorKind::Unsupported, entry.graph.path.as_str(), detail)
            })?;
            let extent = i64::try_from(extent).unwrap_or(i64::MAX);
            builder = builder
                .with_dimension_override(name, extent)
                .map_err(|error| self.refused(error.message()))?;
        }
        builder
            .with_config_entry("session.disable_cpu_ep_fallback", "1")
            .map_err(|error| self.refused(error.message()))
    }

    /// The error of a graph that the provider does not take whole.
    fn refused(&self, reason: &str) -> Error {
        self.assignment.failed(&format!("does not take the whole graph: {reason}"))
    }
}

/// Checks that this build has the provider, and its library before anything is loaded.
///
/// # Errors
///
/// `Unsupported` if this build lacks it, `BadRequest` for its library, `ProviderFailed` if that is
/// a plug-in and says no.
pub(crate) fn check(runtime: &Runtime, who: Assignment, library: Option<&Path>) -> Result<()> {
    match who.provider {
        Provider::Cpu => Ok(()),
        Provider::OpenVino => plugin::register(runtime, (who.provider, openvino::NAME), library)
            .map_err(|error| who.blamed(error)),
        _ => Err(not_in_this_build(who.provider)),
    }
}

fn not_in_this_build(provider: Provider) -> Error {
    let detail = format!("expected cpu or openvino, found {provider}, which is not in this build");
    Error::new(ErrorKind::Unsupported, "provider", detail)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            assert_eq!(sizes.extent(name), extent, "{name}");
        }
    }

    #[test]
    fn a_library_is_looked_at_before_it_is_used() {
        let runtime = Runtime::for_tests();
        let check = |provider, library| {
            check(runtime, Assignment { provider, stage: Stage::Step }, library)
        };
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join("text.so");
        fs::write(&text, "no library").expect("written");
        let missing = folder.path().join("none.so");
        let engine = runtime.path().to_owned();
        for (library, expected) in [
            (None, "expected the path of its plug-in's library, found none"),
            (Some(Path::new("plugin.so")), "expected an absolute path"),
            (Some(missing.as_path()), "expected a file"),
            (Some(folder.path()), "expected a file"),
            (Some(text.as_path()), "expected a library that opens"),
            (Some(engine.as_path()), "CreateEpFactories"),
        ] {
            let error = check(Provider::OpenVino, library).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        for provider in [Provider::Qnn, Provider::Cuda, Provider::Nnapi] {
            let error = check(provider, None).expect_err("not in this build");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("not in this build"), "{error}");
        }
        check(Provider::Cpu, None).expect("always there");
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
