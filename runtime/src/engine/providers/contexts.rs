//! What was compiled ahead: which context of a package stands for a stage's graph, and whether the
//! library at hand may be given it. Neither the library nor a simulator looks: both run what was
//! compiled for another chip. So all that does not match is refused before the library sees it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use pocketmuse_package::{
    ContextEntry, Dim, Error, ErrorKind, Result, StageEntry, onnx,
    wire::{Field, for_each},
};

use super::{
    compiler::{Compiler, Told},
    known,
    plug_in::PlugIn,
    target::{Sizes, Target},
};

/// What the names in the shapes of `entry` stand for.
///
/// # Errors
///
/// `Unsupported` for a name that is not known.
pub(crate) fn extents(entry: &StageEntry, sizes: Sizes) -> Result<BTreeMap<String, usize>> {
    let dims = entry.inputs.iter().chain(&entry.outputs).flat_map(|spec| &spec.shape.0);
    let named = dims.filter_map(|dim| match dim {
        Dim::Named(name) => Some((name, dim)),
        Dim::Fixed(_) => None,
    });
    let extent = |(name, dim): (&String, &Dim)| {
        let extent = sizes.extent(dim).ok_or_else(|| {
            let detail = format!("expected a shape whose extents are known, found {name:?}");
            Error::new(ErrorKind::Unsupported, entry.graph.path.as_str(), detail)
        })?;
        Ok((name.clone(), extent))
    };
    named.map(extent).collect()
}

/// The context of `entry` that `target` loads in the place of the graph; `None` if it compiles the
/// graph when it loads it.
///
/// # Errors
///
/// `ProviderFailed` if there is no graph and no context for its chip and sizes, or if the one for
/// them was made of another graph or architecture.
pub(crate) fn find<'a>(
    entry: &'a StageEntry,
    target: &Target<'_>,
) -> Result<Option<&'a ContextEntry>> {
    let provider = target.assignment.provider;
    let refuse = |expected: String, found: String| {
        Err(target.assignment.failed(&format!("expected {expected}, found {found}")))
    };
    let of_provider = |context: &&ContextEntry| context.provider == provider.name();
    let all: Vec<_> = entry.contexts.iter().filter(of_provider).collect();
    let found = || {
        let shown = all.iter().map(|context| shown(context)).collect::<Vec<_>>();
        if shown.is_empty() { "none".to_owned() } else { shown.join("; ") }
    };
    let compiler = known::plug_in(provider)?.compiler.as_ref();
    let chip = compiler.and_then(|compiler| (compiler.chip)(target.choice));
    let extents = extents(entry, target.sizes)?;
    let Some(chip) = chip else {
        if entry.without_graph {
            return refuse(format!("the chip as the option {provider}.soc"), found());
        }
        return Ok(None);
    };
    let fits = |context: &&ContextEntry| context.target == chip.name && context.extents == extents;
    let Some(context) = all.iter().copied().find(fits) else {
        if entry.without_graph {
            let expected = format!("a context for {}", sized(chip.name, &extents));
            return refuse(expected, found());
        }
        return Ok(None);
    };
    if context.architecture != chip.architecture {
        let expected = format!("{} of the architecture {}", chip.name, chip.architecture);
        return refuse(expected, context.architecture.clone());
    }
    if context.source != entry.source() {
        let expected = "a context of the package's graph".to_owned();
        return refuse(expected, "one of another: compile it again".to_owned());
    }
    Ok(Some(context))
}

/// Checks that a context's graph says of itself what the manifest says, and that the libraries at
/// hand are those that made it. `model` is the graph.
///
/// # Errors
///
/// `ProviderFailed` if one of them is another.
pub(crate) fn check(target: &Target<'_>, context: &ContextEntry, model: &[u8]) -> Result<()> {
    let plug_in = known::plug_in(target.assignment.provider)?;
    let refuse = |what: &str, expected: &str, found: &str| {
        let reason = format!("expected {what} {expected}, found {found}: compile it again");
        Err(target.assignment.failed(&reason))
    };
    let Some(compiler) = &plug_in.compiler else { return Ok(()) };
    let told = told(plug_in, model).unwrap_or(Told {
        sdk: "none".to_owned(),
        architecture: "none".to_owned(),
        chip: "none".to_owned(),
    });
    let chip = (compiler.chip)(target.choice);
    let number = chip.map_or("none", |chip| chip.number);
    for (what, expected, found) in [
        ("a context for the chip", number, told.chip.as_str()),
        ("a context for the architecture", context.architecture.as_str(), &told.architecture),
        ("a context of the SDK", context.sdk.as_str(), &told.sdk),
    ] {
        if expected != found {
            return refuse(what, expected, found);
        }
    }
    let Some(library) = target.library else { return Ok(()) };
    match sdk(compiler, library) {
        Some(sdk) if sdk == context.sdk => Ok(()),
        Some(sdk) => refuse("libraries of the SDK", &context.sdk, &sdk),
        None => refuse("libraries of the SDK", &context.sdk, "no version in them"),
    }
}

/// What a graph that was just compiled for `target` says of itself.
///
/// # Errors
///
/// `ProviderFailed` if that is for another chip, or nothing.
pub(crate) fn told_of(target: &Target<'_>, model: &[u8]) -> Result<Told> {
    let plug_in = known::plug_in(target.assignment.provider)?;
    let chip = plug_in.compiler.as_ref().and_then(|compiler| (compiler.chip)(target.choice));
    let told = told(plug_in, model);
    let is_right = |told: &Told| {
        chip.is_some_and(|chip| {
            (chip.number, chip.architecture) == (&*told.chip, &*told.architecture)
        })
    };
    told.clone().filter(is_right).ok_or_else(|| {
        target.assignment.failed(&format!("expected a context for {chip:?}, found {told:?}"))
    })
}

/// The chip that `target` compiles for, and how a binary's name ends.
///
/// # Errors
///
/// `Unsupported` if the provider compiles nothing ahead, `BadRequest` if no chip was chosen.
pub(crate) fn chip(target: &Target<'_>) -> Result<[&'static str; 2]> {
    let provider = target.assignment.provider;
    let Some(compiler) = &known::plug_in(provider)?.compiler else {
        let detail = format!("expected a provider that compiles ahead, qnn, found {provider}");
        return Err(Error::new(ErrorKind::Unsupported, "target", detail));
    };
    let chip = (compiler.chip)(target.choice)
        .ok_or_else(|| Error::new(ErrorKind::BadRequest, "target", "expected a chip, found none"));
    Ok([chip?.name, compiler.binary_ending])
}

/// What a compiled graph says of itself.
fn told(plug_in: &PlugIn, model: &[u8]) -> Option<Told> {
    let key = format!("ep_compatibility_info.{}", plug_in.name);
    let mut value = None;
    for_each(model, |number, field| {
        let (onnx::model::METADATA, Field::Bytes(entry)) = (number, field) else {
            return Some(());
        };
        if let [name, told] = onnx::entry_of(entry)?
            && name == key.as_bytes()
        {
            value = Some(told);
        }
        Some(())
    })?;
    (plug_in.compiler.as_ref()?.told)(std::str::from_utf8(value?).ok()?)
}

/// What a context is expected to hold, in bytes: as it is read, and as the chip has it.
pub(crate) fn held_bytes(context: &ContextEntry) -> u64 {
    context.binary.bytes.saturating_mul(2)
}

/// The version of the libraries beside a plug-in, looked for once in a process.
fn sdk(compiler: &Compiler, library: &Path) -> Option<String> {
    static KNOWN: Mutex<Option<(PathBuf, Option<String>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.as_ref().is_none_or(|(known, _)| known != library) {
        *known = Some((library.to_owned(), (compiler.sdk)(library)));
    }
    known.as_ref().and_then(|(_, sdk)| sdk.clone())
}

/// A context for people.
fn shown(context: &ContextEntry) -> String {
    sized(&context.target, &context.extents)
}

/// A chip and sizes for people: those that are no multiple of others.
fn sized(chip: &str, extents: &BTreeMap<String, usize>) -> String {
    let own =
        extents.iter().filter(|(name, _)| ["height", "width", "branches"].contains(&&***name));
    let own: Vec<_> = own.map(|(name, extent)| format!("{name} {extent}")).collect();
    if own.is_empty() { chip.to_owned() } else { format!("{chip} with {}", own.join(", ")) }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::{Digest, Dtype, FileEntry, Stage, TensorSpec, wire::Message};

    use super::*;
    use crate::request::{Provider, Providers};

    const SIZES: Sizes = Sizes { grid: [8, 8], branches: 2 };

    fn file(name: &str) -> FileEntry {
        FileEntry { path: name.to_owned(), bytes: 1, sha256: Digest::of(name.as_bytes()) }
    }

    fn context(target: &str, architecture: &str, grid: [usize; 2]) -> ContextEntry {
        let extents = [("height", grid[0]), ("width", grid[1])];
        ContextEntry {
            provider: "qnn".to_owned(),
            target: target.to_owned(),
            architecture: architecture.to_owned(),
            sdk: "2.51.0".to_owned(),
            extents: extents.map(|(name, extent)| (name.to_owned(), extent)).into(),
            source: vec![file("graph").sha256, file("weights").sha256],
            graph: file("a.onnx"),
            binary: file("a_qnn.bin"),
            rows: file("a.rows"),
        }
    }

    /// A decoder's entry.
    fn entry(contexts: Vec<ContextEntry>) -> StageEntry {
        let shape = [Dim::Fixed(1), "height".into(), "width".into()].into_iter().collect();
        StageEntry {
            graph: file("graph"),
            weights: Some(file("weights")),
            held: None,
            inputs: vec![TensorSpec { name: "tokens".to_owned(), dtype: Dtype::I32, shape }],
            outputs: Vec::new(),
            taps: BTreeMap::new(),
            contexts,
            without_graph: true,
        }
    }

    fn providers(soc: &str) -> Providers {
        let options = [("soc".to_owned(), soc.to_owned())].into();
        Providers {
            stages: [(Stage::Decoder, Provider::Qnn)].into(),
            options: [(Provider::Qnn, options)].into(),
            ..Providers::default()
        }
    }

    #[test]
    fn what_does_not_match_is_refused_with_what_there_is() {
        let good = || context("sm8650", "75", [8, 8]);
        let other_graph = ContextEntry { source: vec![file("graph").sha256], ..good() };
        let larger = Sizes { grid: [16, 8], ..SIZES };
        let cases = [
            (
                (vec![good()], "sm8550", SIZES),
                "expected a context for sm8550 with height 8, width 8, found sm8650 with height 8, \
                 width 8",
            ),
            (
                (vec![good()], "sm8650", larger),
                "expected a context for sm8650 with height 16, width 8, found sm8650 with height 8",
            ),
            (
                (vec![context("sm8650", "73", [8, 8])], "sm8650", SIZES),
                "expected sm8650 of the architecture 75, found 73",
            ),
            (
                (vec![other_graph], "sm8650", SIZES),
                "expected a context of the package's graph, found one of another: compile it again",
            ),
            (
                (vec![ContextEntry { provider: "npu".to_owned(), ..good() }], "sm8650", SIZES),
                "expected a context for sm8650 with height 8, width 8, found none",
            ),
        ];
        for ((contexts, soc, sizes), expected) in cases {
            let (entry, providers) = (entry(contexts), providers(soc));
            let target = Target::of(&providers, Stage::Decoder, sizes);
            let error = find(&entry, &target).expect_err(expected);
            assert_eq!((error.kind(), error.at()), (ErrorKind::ProviderFailed, "decoder"));
            assert!(error.detail().starts_with(&format!("qnn {expected}")), "{error}");
        }
    }

    #[test]
    fn the_one_for_chip_and_size_is_taken_and_without_one_the_graph() {
        let all = vec![context("sm8550", "73", [8, 8]), context("sm8650", "75", [8, 8])];
        let entry = StageEntry { without_graph: false, ..entry(all) };
        for (soc, rows, expected) in [
            ("sm8650", 8, Some(&entry.contexts[1])),
            ("sm8550", 8, Some(&entry.contexts[0])),
            ("sm8750", 8, None),
            ("sm8650", 16, None),
        ] {
            let providers = providers(soc);
            let sizes = Sizes { grid: [rows, 8], branches: 1 };
            let target = Target::of(&providers, Stage::Decoder, sizes);
            assert_eq!(find(&entry, &target).expect(soc), expected, "{soc}, {rows}");
        }
    }

    /// A graph that tells what it was compiled for.
    fn telling(info: &str) -> Vec<u8> {
        let (mut entry, mut model) = (Message::default(), Message::default());
        entry.text(onnx::entry::KEY, "ep_compatibility_info.QNNExecutionProvider");
        entry.text(onnx::entry::VALUE, info);
        model.message(onnx::model::METADATA, &entry);
        model.into_bytes()
    }

    #[test]
    fn what_a_context_says_of_itself_is_what_the_manifest_says_and_the_libraries_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime_providers_qnn.so");
        let backend = |text: &str| {
            std::fs::write(folder.path().join("libQnnHtp.so"), text).expect("written");
        };
        backend("\0v2.51.0.260929181845\0");
        let mut providers = providers("sm8650");
        providers.libraries.insert(Provider::Qnn, library.clone());
        let target = Target::of(&providers, Stage::Decoder, SIZES);
        let context = context("sm8650", "75", [8, 8]);
        let right = telling("v2:6:2.51.0:5.51.0:75:57:0:0");
        check(&target, &context, &right).expect("all is right");
        for (info, expected) in [
            ("v2:6:2.51.0:5.51.0:75:43:0:0", "a context for the chip 57, found 43"),
            ("v2:6:2.51.0:5.51.0:73:57:0:0", "a context for the architecture 75, found 73"),
            ("v2:6:2.50.0:5.50.0:75:57:0:0", "a context of the SDK 2.51.0, found 2.50.0"),
            ("garbage", "a context for the chip 57, found none"),
        ] {
            let error = check(&target, &context, &telling(info)).expect_err(expected).to_string();
            assert!(error.contains(&format!("expected {expected}: compile it again")), "{error}");
        }
        // Another SDK, beside another plug-in: that of one is looked at once.
        let other = folder.path().join("other");
        std::fs::create_dir(&other).expect("made");
        for (text, found) in [(&b"\0v2.52.1.260929181845\0"[..], "2.52.1"), (b"", "no version")] {
            std::fs::write(other.join("libQnnHtp.so"), text).expect("written");
            let library = other.join(format!("{}.so", text.len()));
            let target = Target { library: Some(&library), ..target };
            let error = check(&target, &context, &right).expect_err(found).to_string();
            let expected = format!("expected libraries of the SDK 2.51.0, found {found}");
            assert!(error.contains(&expected), "{error}");
        }
    }
}
