//! What shapes the values of a graph have, as ONNX Runtime infers them: nothing is computed.

use std::{collections::BTreeMap, path::Path};

use ort::session::builder::GraphOptimizationLevel;
use pocketmuse_package::{Error, ErrorKind, Result, StageEntry};

use super::{Runtime, Settings, builder, failed, signature};
use crate::proto;

/// Named extents of a graph's inputs, and the numbers they are.
pub(crate) type Dims<'a> = [(&'a str, usize)];

/// The extents of `names`, values of the graph of `entry` whose bytes are `model`, in the package at `root`, when its inputs
/// have the extents `dims`.
///
/// # Errors
///
/// `Runtime` if ONNX Runtime refuses the graph or does not know a shape.
pub(crate) fn extents(
    runtime: &Runtime,
    root: &Path,
    entry: &StageEntry,
    mut model: Vec<u8>,
    names: &[&str],
    dims: &Dims<'_>,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let at = entry.graph.path.as_str();
    let known = |name: &&str| entry.inputs.iter().chain(&entry.outputs).all(|spec| spec.name != *name);
    let inner: Vec<_> = names.iter().copied().filter(known).collect();
    model.extend(proto::untyped_outputs(&inner));
    let file = entry.graph.locate(root);
    let folder = file.parent().unwrap_or(root).to_string_lossy();
    let session = session(runtime, &folder, &model, dims).map_err(|error| failed(at, &error))?;
    let mut found = BTreeMap::new();
    for outlet in session.inputs().iter().chain(session.outputs()) {
        let extents = signature(outlet.dtype()).map(|(_, extents)| extents);
        let extents = extents.map(|extents| extents.iter().map(|&extent| usize::try_from(extent)).collect());
        match extents {
            Some(Ok(extents)) => drop(found.insert(outlet.name().to_owned(), extents)),
            _ if !names.contains(&outlet.name()) => {}
            _ => {
                let detail = format!("expected a value of known shape, found {}", outlet.dtype());
                return Err(Error::new(ErrorKind::Runtime, format!("{at}: {}", outlet.name()), detail));
            }
        }
    }
    Ok(found)
}

fn session(runtime: &Runtime, folder: &str, model: &[u8], dims: &Dims<'_>) -> ort::Result<ort::session::Session> {
    let mut builder = builder(runtime, Settings { threads: Some(1), arena: false, taps: false })?
        .with_config_entry("session.model_external_initializers_file_folder_path", folder)?
        // The weights stay in their file: nothing multiplies them.
        .with_config_entry("session.disable_prepacking", "1")?
        // Computed shapes become constants, and no node is replaced by one for this processor.
        .with_optimization_level(GraphOptimizationLevel::Level1)?;
    for (name, extent) in dims {
        builder = builder.with_dimension_override(name, *extent as i64)?;
    }
    builder.commit_from_memory(model)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::doubler, *};

    #[test]
    fn shapes_are_known_without_a_run() {
        let runtime = Runtime::start(None).expect("an ONNX Runtime for the tests: run pocketmuse setup");
        let (folder, entry) = doubler();
        let model = std::fs::read(entry.graph.locate(folder.path())).expect("a graph");
        let all = |names: &[&str], dims: &Dims<'_>| extents(runtime, folder.path(), &entry, model.clone(), names, dims);
        let found = all(&["x", "y", "z"], &[("n", 3), ("m", 5)]).expect("known");
        assert_eq!(found, ["x", "y", "z"].map(|name| (name.to_owned(), vec![3, 2])).into());
        let error = all(&["y"], &[]).expect_err("nobody says what n is");
        assert!(error.to_string().starts_with("doubler.onnx: y: expected a value of known shape, found"), "{error}");
        assert_eq!(all(&["w"], &[("n", 3)]).expect_err("no such value").kind(), ErrorKind::Runtime);
    }
}
