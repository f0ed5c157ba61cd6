//! Execution providers other than the CPU's: which there are, how a session is handed to one, and
//! the proof that it computes what the CPU does. One file a provider.
//!
//! A stage is taken whole or refused: nothing falls back to the CPU.

mod inputs;
mod openvino;
pub(crate) mod option;
#[cfg(all(unix, not(feature = "linked")))]
mod plugin;
#[cfg(not(all(unix, not(feature = "linked"))))]
#[path = "no_plugin.rs"]
mod plugin;
pub(crate) mod proof;
mod qnn;
mod target;
mod webgpu;

use std::{collections::BTreeSet, path::PathBuf};

use ort::{session::builder::SessionBuilder, sys::OrtHardwareDeviceType};
use pocketmuse_package::{Dim, Error, ErrorKind, Result, StageEntry};

pub(crate) use self::target::{Assignment, Sizes, Target};

use self::{
    option::{Choice, ProviderOption},
    proof::Precision,
    target::not_in_this_build,
};
use crate::{
    engine::runtime::Runtime,
    request::{Provider, Providers},
};

/// What is known of a provider that comes as a plug-in. Each is described in its file.
struct PlugIn {
    /// The name that it is registered under, which is its provider's.
    name: &'static str,
    /// Devices of it that are used, the best first.
    devices: &'static [OrtHardwareDeviceType],
    /// The options that a caller may choose.
    options: &'static [ProviderOption],
    /// Memory that its libraries take, in bytes.
    library_bytes: u64,
    /// What it is expected to hold of a graph, whose files have so many bytes and its weights so
    /// many as f32.
    held_bytes: fn(u64, u64) -> u64,
    /// What it is told of a session with so many threads, in its own words.
    session_options: fn(&Target<'_>, usize) -> Vec<(&'static str, String)>,
    /// What it computes in, which says how near to the CPU it must be.
    precision: fn(Choice<'_>) -> Precision,
}

/// What is known of `provider`.
///
/// # Errors
///
/// `Unsupported` if this build lacks it.
fn plug_in(provider: Provider) -> Result<&'static PlugIn> {
    match provider {
        Provider::OpenVino => Ok(&openvino::PLUG_IN),
        Provider::Qnn => Ok(&qnn::PLUG_IN),
        Provider::WebGpu => Ok(&webgpu::PLUG_IN),
        _ => Err(not_in_this_build(provider)),
    }
}

/// Hands a session to the provider of `target` alone, its shapes fixed; `builder` has no provider
/// yet.
///
/// # Errors
///
/// `Unsupported` if this build lacks the provider, `BadRequest` for its library, `ProviderFailed` if
/// it says no.
pub(super) fn builder(
    runtime: &Runtime,
    target: &Target<'_>,
    entry: &StageEntry,
    (builder, threads): (SessionBuilder, usize),
) -> Result<SessionBuilder> {
    let mut builder = fixed(target, entry, builder)?;
    let plug_in = plug_in(target.assignment.provider)?;
    let options = (plug_in.session_options)(target, threads);
    plugin::append(runtime, target, plug_in, (&mut builder, &options))
        .map_err(|error| target.assignment.blamed(error))?;
    Ok(builder)
}

/// The same, with the shapes of `target` and without the CPU for what it does not take.
fn fixed(
    target: &Target<'_>,
    entry: &StageEntry,
    builder: SessionBuilder,
) -> Result<SessionBuilder> {
    let mut builder = builder;
    let dims = entry.inputs.iter().chain(&entry.outputs).flat_map(|spec| &spec.shape.0);
    let names = dims.filter_map(|dim| if let Dim::Named(name) = dim { Some(name) } else { None });
    for name in names.collect::<BTreeSet<_>>() {
        let extent = target.sizes.extent(name).ok_or_else(|| {
            let detail = format!("expected a shape whose extents are known, found {name:?}");
            Error::new(ErrorKind::Unsupported, entry.graph.path.as_str(), detail)
        })?;
        let extent = i64::try_from(extent).unwrap_or(i64::MAX);
        builder = builder
            .with_dimension_override(name, extent)
            .map_err(|error| target.refused(error.message()))?;
    }
    builder
        .with_config_entry("session.disable_cpu_ep_fallback", "1")
        .map_err(|error| target.refused(error.message()))
}

/// What a verdict on `target` and the graph of `entry` is about, besides this library, ONNX Runtime,
/// the processor and the proof itself: whatever of it changes, a new proof is due. Threads are not
/// among it unless they are an option: a job may be told of others while it runs.
///
/// # Errors
///
/// `Unsupported` if this build lacks the provider.
pub(crate) fn key(target: &Target<'_>, entry: &StageEntry) -> Result<String> {
    let Target { assignment: Assignment { provider, stage }, choice, library, sizes } = *target;
    let files = [Some(&entry.graph), entry.weights.as_ref()];
    let files = files.map(|file| file.map(|file| file.sha256));
    let options = (plug_in(provider)?.session_options)(target, 1);
    let version = library.map(plugin::version);
    Ok(format!("{:?}", (provider, stage, files, sizes, choice, options, version)))
}

/// What a provider computes in with what was chosen of its options.
pub(crate) fn precision(provider: Provider, choice: Choice<'_>) -> Precision {
    plug_in(provider).map_or(Precision::OfFlavour, |plug_in| (plug_in.precision)(choice))
}

/// Memory of the libraries that come with a provider, in bytes.
pub(crate) fn library_bytes(provider: Provider) -> u64 {
    plug_in(provider).map_or(0, |plug_in| plug_in.library_bytes)
}

/// What a provider is expected to hold of a graph, whose files have so many bytes and its weights
/// so many as f32.
pub(crate) fn held_bytes(provider: Provider, files: u64, as_f32: u64) -> u64 {
    plug_in(provider).map_or(files, |plug_in| (plug_in.held_bytes)(files, as_f32))
}

/// Checks that this build has the provider of a stage, and its library before anything is loaded.
///
/// # Errors
///
/// `Unsupported` if this build lacks it, `BadRequest` for its library, `ProviderFailed` if that is
/// a plug-in and says no.
pub(crate) fn check(runtime: &Runtime, who: Assignment, providers: &Providers) -> Result<()> {
    if who.provider == Provider::Cpu {
        return Ok(());
    }
    let library = providers.libraries.get(&who.provider).map(PathBuf::as_path);
    let plug_in = plug_in(who.provider)?;
    plugin::register(runtime, (who.provider, plug_in), library).map_err(|error| who.blamed(error))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use pocketmuse_package::Stage;

    use super::*;

    #[test]
    fn a_library_is_looked_at_before_it_is_used() {
        let runtime = Runtime::for_tests();
        let check = |provider, library: Option<&Path>| {
            let libraries = library.map(|library| (provider, library.to_owned()));
            let libraries = libraries.into_iter().collect();
            let providers = Providers { libraries, ..Providers::default() };
            check(runtime, Assignment { provider, stage: Stage::Step }, &providers)
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
        for provider in [Provider::CoreMl, Provider::Cuda, Provider::Nnapi] {
            let error = check(provider, None).expect_err("not in this build");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("not in this build"), "{error}");
        }
        check(Provider::Cpu, None).expect("always there");
    }
}
