//! A graph becomes a session: from its file, or from memory where that is not as ONNX Runtime must
//! see it.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::AsRawFd as _;
use std::{
    fs::{self, File},
    path::Path,
};

use ort::session::builder::SessionBuilder;
use pocketmuse_package::{Error, Result, StageEntry, TensorSpec};

use super::{
    builder::builder,
    settings::{Form, Settings},
};
use crate::engine::{
    floats,
    fusion::with_own_operators,
    kernels,
    loading::{Loading, Weights},
    locations::{moved, real_file},
    operators,
    passing::Passing,
    providers::{self, Ahead, Target},
    runtime::{Runtime, failed},
    taps,
};

/// Has ONNX Runtime load the graph of `entry`, in the form that `settings` say.
///
/// # Errors
///
/// As for [`Session::load`](super::Session::load).
pub(super) fn commit(
    runtime: &Runtime,
    root: &Path,
    entry: &StageEntry,
    tapped: &[&TensorSpec],
    (settings, passing): (Settings<'_>, Option<&Passing>),
) -> Result<ort::session::Session> {
    let file = entry.graph.locate(root);
    let weights = entry.weights.as_ref().map(|weights| weights.locate(root));
    // A context's binary is beside it, whatever both are links to.
    let weights = weights.filter(|_| !settings.target.is_some_and(|target| target.is_context()));
    let real = weights.and_then(|weights| real_file(&file, &weights));
    let from_memory_at = |builder: SessionBuilder, model: &[u8], detours: usize| {
        let folder = real.as_ref().map_or(file.parent().unwrap_or(root), |real| &real.folder);
        let (folder, _open) = text_of(folder);
        let folder = folder + &"/.".repeat(detours);
        let mut builder = builder
            .with_config_entry("session.model_external_initializers_file_folder_path", folder)?;
        builder.commit_from_memory(model)
    };
    let from_memory = |builder, model: &[u8]| from_memory_at(builder, model, 0);
    let read = || fs::read(&file).map_err(|error| Error::io(&file, error));
    let relocated = |model: Vec<u8>| match &real {
        Some(real) => moved(&model, &real.name).unwrap_or(model), // what is no model is refused
        None => model,
    };
    if let Some(target) = &settings.target {
        if !tapped.is_empty() {
            return Err(target.assignment.looked_into());
        }
        let open = |target: &Target<'_>| -> Result<ort::Result<ort::session::Session>> {
            let plain = builder(runtime, Settings { form: Form::Exported, ..settings });
            let plain = plain.map_err(|error| failed(entry.graph.path.as_str(), &error))?;
            let mut other = providers::builder(runtime, target, entry, (plain, settings.threads))?;
            // What is compiled is called by the path that ONNX Runtime has of its graph, and in one
            // binary each has a name of its own: so many ways lead into the folder.
            let place = match target.ahead {
                Ahead::Into(_, binary) => binary.place,
                _ => 0,
            };
            Ok(match (place, &real) {
                (0, None) => other.commit_from_file(&file),
                _ => from_memory_at(other, &relocated(read()?), place),
            })
        };
        return open(target)?.map_err(|error| {
            if target.is_context() {
                let reason = format!("does not load the context: {}", error.message());
                return target.assignment.failed(&reason);
            }
            if target.allows_fallback {
                return target.refused(error.message());
            }
            // With the CPU for the rest it says which nodes it takes.
            let split = Target { allows_fallback: true, ahead: Ahead::Nothing, ..*target };
            let split = open(&split)
                .and_then(|session| session.map_err(|error| target.refused(error.message())));
            let split = split.ok();
            let nodes = split.and_then(|split| providers::taken_nodes(runtime, target, &split));
            target.refused_with(error.message(), nodes.as_ref())
        });
    }
    let plain = |settings| {
        let plain = builder(runtime, settings)?;
        match passing {
            Some(passing) => passing.hand_over(plain),
            None => Ok(plain),
        }
    };
    let is_exported = matches!(settings.form, Form::Exported | Form::Saved(_));
    if settings.own_operators && is_exported {
        let watched: Vec<_> = tapped.iter().map(|spec| spec.name.as_bytes()).collect();
        let own = with_own_operators(&relocated(read()?), &watched);
        let session = own.map(|mut own| {
            own.extend(taps::more_outputs(tapped));
            let (own, settings) = packing_small(own, settings);
            let builder = with_operators(plain(settings), &settings)?;
            from_memory(builder, &own)
        });
        match session {
            Some(Ok(session)) => return Ok(session),
            Some(Err(error)) => stays(entry, &error),
            None => {} // nothing that they stand for
        }
    }
    let session = match settings.form {
        Form::Optimised(model) => {
            let (model, settings) = packing_small(relocated(model.to_vec()), settings);
            with_operators(plain(settings), &settings)
                .and_then(|builder| from_memory(builder, &model))
        }
        Form::Exported | Form::Saved(_) if tapped.is_empty() && real.is_none() => {
            plain(settings).and_then(|mut builder| builder.commit_from_file(&file))
        }
        _ => {
            let mut model = read()?;
            if let (Form::Floats, Some(floats)) = (settings.form, floats::of_integers(&model)) {
                model = floats; // what is no model is refused as it is
            }
            if !tapped.is_empty() {
                model.extend(taps::more_outputs(tapped));
            }
            let model = relocated(model);
            plain(settings).and_then(|builder| from_memory(builder, &model))
        }
    };
    session.map_err(|error| failed(entry.graph.path.as_str(), &error))
}

/// A model whose weights stay in their file, but for those that are worth packing all the same. What
/// is saved stays as it is, since it may be packed when it is loaded again.
fn packing_small(mut model: Vec<u8>, settings: Settings<'_>) -> (Vec<u8>, Settings<'_>) {
    let Loading { weights, .. } = settings.loading;
    let is_loaded = weights != Weights::Packed && !matches!(settings.form, Form::Saved(_));
    let large = is_loaded.then(|| kernels::large_as_inputs(&model)).flatten();
    let Some(large) = large else { return (model, settings) };
    model.extend(large);
    let loading = Loading { weights: Weights::Packed, ..settings.loading };
    (model, Settings { loading, ..settings })
}

/// A session to be that knows our own operators, if `settings` want them.
fn with_operators(
    builder: ort::Result<SessionBuilder>,
    settings: &Settings<'_>,
) -> ort::Result<SessionBuilder> {
    match settings.own_operators {
        true => Ok(builder?.with_operators(operators::domain()?)?),
        false => builder,
    }
}

fn stays(entry: &StageEntry, error: &ort::Error) {
    log::warn!(
        "{}: it stays as it was exported, which is slower, since ONNX Runtime does not take \
        operators of ours: {}",
        entry.graph.path,
        error.message()
    );
}

/// What a setting of ONNX Runtime, which is text, says of `folder`. One whose name is no UTF-8 goes
/// by what the system calls it while it is open: until the file, which comes too, is dropped.
fn text_of(folder: &Path) -> (String, Option<File>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if folder.to_str().is_none()
        && let Ok(open) = File::open(folder)
    {
        return (format!("/proc/self/fd/{}", open.as_raw_fd()), Some(open));
    }
    (folder.to_string_lossy().into_owned(), None)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_any_name_is_told_as_text() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

        let root = tempfile::tempdir().expect("a folder");
        for name in [&b"plain"[..], b"caf\xe9"] {
            let folder = root.path().join(OsStr::from_bytes(name));
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join("a.data"), name).expect("written");
            let (text, _open) = text_of(&folder);
            assert_eq!(fs::read(Path::new(&text).join("a.data")).expect(&text), name);
        }
    }
}
