//! Execution providers other than the CPU's: which there are, how a session is handed to one, and
//! the proof that it computes what the CPU does. One file a provider.
//!
//! A stage is taken whole or refused: nothing falls back to the CPU, unless the caller allows it.

mod compiler;
pub(crate) mod contexts;
mod inputs;
mod known;
pub(crate) mod nodes;
mod openvino;
pub(crate) mod option;
mod plug_in;
#[cfg(all(unix, not(feature = "linked")))]
mod plugin;
#[cfg(not(all(unix, not(feature = "linked"))))]
#[path = "no_plugin.rs"]
mod plugin;
pub(crate) mod proof;
mod qnn;
mod target;
pub(crate) mod tolerance;
mod webgpu;

use std::path::PathBuf;

use ort::session::{Session, builder::SessionBuilder};
use pocketmuse_package::{Error, ErrorKind, Result, StageEntry};

pub(crate) use self::target::{Ahead, Assignment, Binary, Sizes, Target};

pub(crate) use self::known::check_options;

use self::{nodes::Nodes, option::Choice, tolerance::Precision};
use crate::{
    engine::runtime::Runtime,
    request::{Provider, Providers},
};

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
    let plug_in = known::plug_in(target.assignment.provider)?;
    let mut options = (plug_in.session_options)(target, threads);
    if let (Ahead::Into(..), Some(compiler)) = (target.ahead, &plug_in.compiler) {
        let (key, value) = compiler.prepare_only;
        options.push((key, value.to_owned()));
    }
    plugin::append(runtime, target, plug_in, (&mut builder, &options))
        .map_err(|error| target.assignment.blamed(error))?;
    Ok(builder)
}

/// The same, with the shapes of `target`, and without the CPU for what it does not take unless that
/// is allowed.
fn fixed(
    target: &Target<'_>,
    entry: &StageEntry,
    builder: SessionBuilder,
) -> Result<SessionBuilder> {
    let mut builder = builder;
    for (name, extent) in contexts::extents(entry, target.sizes)? {
        let extent = i64::try_from(extent).unwrap_or(i64::MAX);
        builder = builder
            .with_dimension_override(name, extent)
            .map_err(|error| target.refused(error.message()))?;
    }
    let strict = if target.allows_fallback { "0" } else { "1" };
    let mut entries = vec![
        ("session.disable_cpu_ep_fallback", strict),
        ("session.record_ep_graph_assignment_info", "1"),
    ];
    if let Ahead::Into(file, binary) = target.ahead {
        let file = file.to_str().ok_or_else(|| {
            let detail = "expected a path of UTF-8, found another";
            Error::new(ErrorKind::BadRequest, file.display().to_string(), detail)
        })?;
        entries.extend([
            ("ep.context_enable", "1"),
            ("ep.context_embed_mode", "0"),
            ("ep.context_file_path", file),
        ]);
        if binary.graphs > 1 {
            entries.push(("ep.share_ep_contexts", "1"));
        }
        if binary.graphs > 1 && binary.place + 1 == binary.graphs {
            entries.push(("ep.stop_share_ep_contexts", "1"));
        }
    }
    for (key, value) in entries {
        builder = builder
            .with_config_entry(key, value)
            .map_err(|error| target.refused(error.message()))?;
    }
    Ok(builder)
}

/// Which nodes of its graph a session's provider took; `None` of a context, which has none, and
/// where ONNX Runtime does not tell.
pub(super) fn taken_nodes(
    runtime: &Runtime,
    target: &Target<'_>,
    session: &Session,
) -> Option<Nodes> {
    let plug_in = known::plug_in(target.assignment.provider).ok()?;
    if target.is_context() { None } else { plugin::nodes(runtime, plug_in, session) }
}

/// What a verdict on `target` and the graph of `entry` is about, besides this library, ONNX Runtime,
/// the processor and the proof itself: whatever of it changes, a new proof is due. Threads are not
/// among it unless they are an option: a job may be told of others while it runs.
///
/// # Errors
///
/// `Unsupported` if this build lacks the provider.
pub(crate) fn key(target: &Target<'_>, entry: &StageEntry) -> Result<String> {
    let Target { assignment: Assignment { provider, stage }, library, sizes, .. } = *target;
    let (choice, allows_fallback) = (target.choice, target.allows_fallback);
    let files = [Some(&entry.graph), entry.weights.as_ref()];
    let files = files.map(|file| file.map(|file| file.sha256));
    let options = (known::plug_in(provider)?.session_options)(target, 1);
    let version = library.map(|library| (library.file_name(), plugin::version(library)));
    Ok(format!("{:?}", (provider, stage, files, sizes, choice, options, version, allows_fallback)))
}

/// What a provider computes in with what was chosen of its options.
pub(crate) fn precision(provider: Provider, choice: Choice<'_>) -> Precision {
    known::plug_in(provider).map_or(Precision::OfFlavour, |plug_in| (plug_in.precision)(choice))
}

/// Memory of the libraries that come with a provider, in bytes.
pub(crate) fn library_bytes(provider: Provider) -> u64 {
    known::plug_in(provider).map_or(0, |plug_in| plug_in.library_bytes)
}

/// What a provider is expected to hold of a graph, whose files have so many bytes and its weights
/// so many as f32.
pub(crate) fn held_bytes(provider: Provider, files: u64, as_f32: u64) -> u64 {
    known::plug_in(provider).map_or(files, |plug_in| (plug_in.held_bytes)(files, as_f32))
}

/// Whether this build has a provider.
pub(crate) fn is_here(provider: Provider) -> bool {
    provider == Provider::Cpu || known::plug_in(provider).is_ok()
}

/// The devices that a provider offers whose plug-in is loaded, for people.
pub(crate) fn devices(runtime: &Runtime, provider: Provider) -> Vec<String> {
    known::plug_in(provider)
        .map_or_else(|_| Vec::new(), |plug_in| plugin::devices(runtime, plug_in))
}

/// Checks that this build has the provider of a stage, and that its library can be one; of `auto`,
/// all that it may choose. Nothing of that runs: it is loaded with the first stage that it computes.
///
/// # Errors
///
/// `Unsupported` if this build lacks it, `BadRequest` for its library.
pub(crate) fn check(who: Assignment, providers: &Providers) -> Result<()> {
    let one = |provider| {
        known::plug_in(provider)?;
        let library = providers.libraries.get(&provider).map(PathBuf::as_path);
        plugin::check(provider, library).map(drop)
    };
    match who.provider {
        Provider::Cpu => Ok(()),
        Provider::Auto => providers.candidates().try_for_each(one),
        other => one(other),
    }
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
            check(Assignment { provider, stage: Stage::Step }, &providers)
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
            let register =
                |()| plugin::register(runtime, (Provider::OpenVino, &openvino::PLUG_IN), library);
            let error = check(Provider::OpenVino, library).and_then(register).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        for provider in [Provider::CoreMl, Provider::Cuda, Provider::Nnapi] {
            let error = check(provider, None).expect_err("not in this build");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("not in this build"), "{error}");
        }
        check(Provider::Cpu, None).expect("always there");
        check(Provider::Auto, None).expect("the CPU then");
        let libraries = [(Provider::OpenVino, missing)].into();
        let providers = Providers { libraries, ..Providers::default() };
        let who = Assignment { provider: Provider::Auto, stage: Stage::Step };
        let error = super::check(who, &providers).expect_err("it might be chosen");
        assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
    }
}
