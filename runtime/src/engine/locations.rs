//! Where the large constants of a model lie: files that it names. A package may be made of links, as
//! the cache of a hub's client is, and ONNX Runtime refuses constants that lie outside the folder of
//! their model: then it is told of the folder and the name that the constants really have.

use std::path::{Path, PathBuf};

use pocketmuse_package::{
    onnx,
    wire::{Field, Message, for_each},
};

use crate::engine::rewrite::{Change, model, rewritten};

/// A file of constants: its folder and its name there, once links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RealFile {
    pub(super) folder: PathBuf,
    pub(super) name: String,
}

/// Where the constants of `graph` really lie, in the file `weights`; `None` if both are where they
/// seem to be, beside each other. Another flavour's weights are in another folder.
pub(super) fn real_file(graph: &Path, weights: &Path) -> Option<RealFile> {
    let seems = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let [real_graph, real] = [graph, weights].map(|path| path.canonicalize().ok());
    let (real_graph, real) = (real_graph?, real?);
    let are_beside = real_graph.parent() == real.parent();
    if are_beside && seems(graph)? == real_graph && seems(weights)? == real {
        return None;
    }
    Some(RealFile {
        folder: real.parent()?.to_owned(),
        name: real.file_name()?.to_str()?.to_owned(),
    })
}

/// A model with all its constants of other files in the file `name`; `None` if it is no model.
pub fn moved(bytes: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut of_tensor = |tensor: &[u8]| {
        let part = |number, inner: &[u8]| match number {
            onnx::tensor::EXTERNAL_DATA if is_location(inner)? => {
                let mut location = Message::default();
                location.text(onnx::entry::KEY, onnx::LOCATION).text(onnx::entry::VALUE, name);
                Some(Change::Replace(location))
            }
            _ => Some(Change::Keep),
        };
        rewritten(tensor, part).map(Change::Replace)
    };
    model(bytes, &mut of_tensor).map(Message::into_bytes)
}

fn is_location(entry: &[u8]) -> Option<bool> {
    let mut found = false;
    for_each(entry, |number, field| {
        found |= matches!(field, Field::Bytes(key)
            if number == onnx::entry::KEY && key == onnx::LOCATION.as_bytes());
        Some(())
    })?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::rewrite::MAX_DEPTH;

    /// A model with a constant in another file, and one inside; both in the graph of a node, too.
    fn model_of(location: &str) -> Vec<u8> {
        let entry = |key: &str, value: &str| {
            let mut entry = Message::default();
            entry.text(onnx::entry::KEY, key).text(onnx::entry::VALUE, value);
            entry
        };
        let (mut outside, mut inside) = (Message::default(), Message::default());
        outside.text(onnx::tensor::NAME, "a");
        outside.message(onnx::tensor::EXTERNAL_DATA, &entry(onnx::LOCATION, location));
        outside.message(onnx::tensor::EXTERNAL_DATA, &entry(onnx::OFFSET, "64"));
        inside.text(onnx::tensor::NAME, "b").bytes(onnx::tensor::RAW_DATA, b"xy");
        let (mut graph, mut model) = (Message::default(), Message::default());
        graph.message(onnx::graph::INITIALIZER, &outside);
        graph.message(onnx::graph::INITIALIZER, &inside);
        let body = graph.clone();
        graph.message(onnx::graph::NODE, &node_with(&body));
        model.number(onnx::model::IR_VERSION, 10).message(onnx::model::GRAPH, &graph);
        model.into_bytes()
    }

    /// A node with a number and a graph among its attributes.
    fn node_with(body: &Message) -> Message {
        let (mut attribute, mut number, mut node) =
            (Message::default(), Message::default(), Message::default());
        number.text(onnx::attribute::NAME, "alpha").float(onnx::attribute::F, 0.5);
        attribute.text(onnx::attribute::NAME, "body").message(onnx::attribute::G, body);
        node.text(onnx::node::OP_TYPE, "Scan")
            .message(onnx::node::ATTRIBUTE, &number)
            .message(onnx::node::ATTRIBUTE, &attribute);
        node
    }

    #[test]
    fn graphs_too_deep_inside_each_other_are_none() {
        let model = |depth: usize| {
            let (mut body, mut model) = (Message::default(), Message::default());
            for _ in 1..depth {
                let node = node_with(&body);
                body = Message::default();
                body.message(onnx::graph::NODE, &node);
            }
            model.message(onnx::model::GRAPH, &body);
            moved(&model.into_bytes(), "elsewhere.data")
        };
        assert!(model(MAX_DEPTH).is_some());
        assert!(model(MAX_DEPTH + 1).is_none());
    }

    #[test]
    fn constants_of_other_files_get_another_file() {
        let moved = moved(&model_of("step.data"), "1f2e3d").expect("a model");
        assert_eq!(moved, model_of("1f2e3d"));
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed() {
        use std::{fs, os::unix::fs::symlink};
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        for folder in ["blobs", "snapshot", "plain"] {
            fs::create_dir(at(folder)).expect("a folder");
        }
        for file in ["blobs/1", "blobs/2", "plain/a.onnx", "plain/a.data"] {
            fs::write(at(file), file).expect("written");
        }
        symlink("../blobs/1", at("snapshot/a.onnx")).expect("a link");
        symlink("../blobs/2", at("snapshot/a.data")).expect("a link");
        symlink(at("plain"), at("linked")).expect("a link");
        let found = |folder: &str| {
            real_file(&at(folder).join("a.onnx"), &at(folder).join("a.data"))
                .map(|file| (file.folder, file.name))
        };
        assert_eq!(found("plain"), None);
        assert_eq!(found("linked"), None, "a folder that is a link is one folder");
        let blobs = at("blobs").canonicalize().expect("there");
        assert_eq!(found("snapshot"), Some((blobs, "2".to_owned())));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), name in "\\PC{0,9}") {
            let _ = moved(&bytes, &name);
        }
    }
}
