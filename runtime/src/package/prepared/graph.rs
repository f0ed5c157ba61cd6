//! A graph as ONNX Runtime saved it, with its weights found where the package has them, so that
//! none is kept twice. Knows where ONNX keeps constants, no operator.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use pocketmuse_package::{
    Error, ErrorKind, OnRead, Result,
    onnx::{self, data_location, tensor},
    wire::{self, Field},
};

use crate::engine::rewrite::{Change, model, rewritten};

/// Bytes of constants that the package does not have, at most: more would be a second copy of a
/// network.
const MAX_NEW: u64 = 4 << 20;

/// Weights are compared in pieces of this size.
const PIECE: u64 = 1 << 20;

/// A graph and the file that its weights are in, if it has one.
pub struct Model {
    /// The bytes of the graph.
    pub graph: Vec<u8>,
    /// The file.
    pub weights: Option<PathBuf>,
}

/// The graph of `saved`; constants that `package` has too, by name and bytes, are read from the
/// package's file, the others are in the graph itself. `None` if those are more than [`MAX_NEW`]
/// bytes.
///
/// # Errors
///
/// `Io` if weights cannot be read; `EngineFailed` if either is no graph; what `on_read`, which is
/// told of every piece of weights that is compared, stops with.
pub fn with_weights_of(
    package: &Model,
    saved: &Model,
    on_read: OnRead<'_>,
) -> Result<Option<Vec<u8>>> {
    let damaged = |what: &str| {
        Error::new(ErrorKind::EngineFailed, what, "expected an ONNX graph, found something else")
    };
    let mut known = BTreeMap::new();
    let collect = &mut |tensor: &[u8]| {
        if let Some(external) = External::of(tensor)? {
            known.insert(external.name.clone(), external);
        }
        Some(Change::Keep)
    };
    model(&package.graph, collect).ok_or_else(|| damaged("the exported graph"))?;
    let mut merge = Merge {
        known,
        package: Weights::of(package),
        saved: Weights::of(saved),
        new_bytes: 0,
        failed: None,
        on_read,
    };
    let merged = model(&saved.graph, &mut |tensor| merge.tensor(tensor));
    match (merge.failed, merged) {
        (Some(error), _) => Err(error),
        (None, _) if merge.new_bytes > MAX_NEW => Ok(None),
        (None, None) => Err(damaged("the optimised graph")),
        (None, Some(merged)) => Ok(Some(merged.into_bytes())),
    }
}

/// What a constant outside the graph says of itself.
struct External {
    name: String,
    /// The fields that say where it is, as they are.
    place: Vec<Vec<u8>>,
    offset: u64,
    bytes: u64,
}

impl External {
    /// `Some(None)` for a constant that is in the graph itself.
    fn of(tensor: &[u8]) -> Option<Option<Self>> {
        let mut found = Self { name: String::new(), place: Vec::new(), offset: 0, bytes: 0 };
        wire::for_each(tensor, |number, field| {
            match (number, field) {
                (tensor::NAME, Field::Bytes(name)) => {
                    found.name = std::str::from_utf8(name).ok()?.to_owned()
                }
                (tensor::EXTERNAL_DATA, Field::Bytes(entry)) => {
                    match entry_of(entry)? {
                        (onnx::OFFSET, value) => found.offset = value.parse().ok()?,
                        (onnx::LENGTH, value) => found.bytes = value.parse().ok()?,
                        _ => {}
                    }
                    found.place.push(entry.to_vec());
                }
                _ => {}
            }
            Some(())
        })?;
        Some((!found.place.is_empty()).then_some(found))
    }
}

/// Key and value of an entry that says where a constant is.
fn entry_of(entry: &[u8]) -> Option<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    wire::for_each(entry, |number, field| {
        match (number, field) {
            (onnx::entry::KEY, Field::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?,
            (onnx::entry::VALUE, Field::Bytes(bytes)) => value = std::str::from_utf8(bytes).ok()?,
            _ => {}
        }
        Some(())
    })?;
    Some((key, value))
}

/// The weights of two graphs being compared.
struct Merge<'a> {
    /// The package's constants by name.
    known: BTreeMap<String, External>,
    package: Weights,
    saved: Weights,
    /// Bytes of constants that the package does not have.
    new_bytes: u64,
    failed: Option<Error>,
    on_read: OnRead<'a>,
}

impl Merge<'_> {
    /// What becomes of a constant of the saved graph; `None` to stop.
    fn tensor(&mut self, tensor: &[u8]) -> Option<Change> {
        let Some(external) = External::of(tensor)? else { return Some(Change::Keep) };
        let data = self.data(&external).map_err(|error| self.failed = Some(error)).ok()??;
        let mut moved = rewritten(tensor, |number, _| {
            let is_place =
                [tensor::RAW_DATA, tensor::EXTERNAL_DATA, tensor::DATA_LOCATION].contains(&number);
            Some(if is_place { Change::Drop } else { Change::Keep })
        })?;
        match data {
            Data::New(bytes) => {
                moved.bytes(tensor::RAW_DATA, &bytes);
            }
            Data::Known(place) => {
                for entry in &place {
                    moved.bytes(tensor::EXTERNAL_DATA, entry);
                }
                moved.number(tensor::DATA_LOCATION, data_location::EXTERNAL);
            }
        }
        Some(Change::Replace(moved))
    }

    /// Where a constant's bytes are; `None` if it is one too many that the package does not have.
    fn data(&mut self, external: &External) -> Result<Option<Data>> {
        let known = self.known.get(&external.name).filter(|known| known.bytes == external.bytes);
        if let Some((offset, place)) = known.map(|known| (known.offset, known.place.clone()))
            && self.same(offset, external)?
        {
            return Ok(Some(Data::Known(place)));
        }
        self.new_bytes += external.bytes;
        if self.new_bytes > MAX_NEW {
            return Ok(None);
        }
        self.saved.read(external.offset, external.bytes).map(|bytes| Some(Data::New(bytes)))
    }

    fn same(&mut self, offset: u64, external: &External) -> Result<bool> {
        for start in (0..external.bytes).step_by(PIECE as usize) {
            let bytes = PIECE.min(external.bytes - start);
            (self.on_read)(bytes)?;
            if self.package.read(offset + start, bytes)?
                != self.saved.read(external.offset + start, bytes)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

enum Data {
    /// In the package's file: the fields that say where.
    Known(Vec<Vec<u8>>),
    New(Vec<u8>),
}

/// A file of weights.
struct Weights(Option<PathBuf>);

impl Weights {
    fn of(model: &Model) -> Self {
        Self(model.weights.clone())
    }

    fn read(&self, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let path = self.0.as_deref().unwrap_or(Path::new("weights"));
        let failed = |error| Error::io(path, error);
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut values = Vec::new();
        file.take(bytes).read_to_end(&mut values).map_err(failed)?;
        if values.len() as u64 != bytes {
            return Err(Error::new(
                ErrorKind::Io,
                path.display().to_string(),
                "expected more weights, found the end",
            ));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pocketmuse_package::wire::Message;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::rewrite::MAX_DEPTH;

    /// A constant at `offset` of a file, or in the graph itself.
    fn tensor(name: &str, bytes: &[u8], offset: Option<u64>) -> Message {
        let mut tensor = Message::default();
        tensor
            .number(tensor::DIMS, bytes.len() as u64)
            .number(tensor::DATA_TYPE, 2)
            .text(tensor::NAME, name);
        let Some(offset) = offset else {
            tensor.bytes(tensor::RAW_DATA, bytes);
            return tensor;
        };
        let place = [
            (onnx::LOCATION, "w.data".to_owned()),
            (onnx::OFFSET, offset.to_string()),
            (onnx::LENGTH, bytes.len().to_string()),
        ];
        for (key, value) in place {
            let mut entry = Message::default();
            entry.text(onnx::entry::KEY, key).text(onnx::entry::VALUE, &value);
            tensor.message(tensor::EXTERNAL_DATA, &entry);
        }
        tensor.number(tensor::DATA_LOCATION, data_location::EXTERNAL);
        tensor
    }

    /// A model with `outer` constants, and `inner` ones in the graph of a node.
    fn model_of(outer: &[Message], inner: &[Message]) -> Vec<u8> {
        let graph = |tensors: &[Message]| {
            let mut graph = Message::default();
            for tensor in tensors {
                graph.message(onnx::graph::INITIALIZER, tensor);
            }
            graph
        };
        let (mut attribute, mut node, mut model) =
            (Message::default(), Message::default(), Message::default());
        attribute.text(onnx::attribute::NAME, "body").message(onnx::attribute::G, &graph(inner));
        let mut number = Message::default();
        number.text(onnx::attribute::NAME, "alpha").float(onnx::attribute::F, 0.5);
        node.text(onnx::node::OP_TYPE, "Scan")
            .message(onnx::node::ATTRIBUTE, &number)
            .message(onnx::node::ATTRIBUTE, &attribute);
        let mut whole = graph(outer);
        whole.message(onnx::graph::NODE, &node);
        model.number(onnx::model::IR_VERSION, 9).message(onnx::model::GRAPH, &whole);
        model.into_bytes()
    }

    /// The two models with their weights in a folder.
    fn models(
        package: (&[u8], Vec<u8>),
        saved: (&[u8], Vec<u8>),
    ) -> (tempfile::TempDir, [Model; 2]) {
        let folder = tempfile::tempdir().expect("a folder");
        let model = |name: &str, (weights, graph): (&[u8], Vec<u8>)| {
            let path = folder.path().join(name);
            fs::write(&path, weights).expect("written");
            Model { graph, weights: Some(path) }
        };
        let models = [model("package", package), model("saved", saved)];
        (folder, models)
    }

    fn merged(package: &Model, saved: &Model) -> Result<Option<Vec<u8>>> {
        with_weights_of(package, saved, &mut |_| Ok(()))
    }

    #[test]
    fn a_comparison_is_stopped_between_two_pieces() {
        let weights = vec![1; 3 * PIECE as usize];
        let graph = model_of(&[tensor("a", &weights, Some(0))], &[]);
        let (_folder, [package, saved]) = models((&weights, graph.clone()), (&weights, graph));
        let mut pieces = 0;
        let stopped = with_weights_of(&package, &saved, &mut |bytes| {
            pieces += 1;
            assert_eq!(bytes, PIECE);
            if pieces < 2 { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "", "stopped")) }
        });
        assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
        assert_eq!(pieces, 2);
    }

    #[test]
    fn weights_of_the_package_stay_there_and_others_move_into_the_graph() {
        let outer = |offset| tensor("outer", b"abcd", offset);
        let package = model_of(&[outer(Some(0)), tensor("changed", b"efgh", Some(4))], &[]);
        let inner = |offset| tensor("inner", b"new", offset);
        let small = tensor("small", b"xy", None);
        let saved = model_of(
            &[tensor("changed", b"EFGH", Some(0)), small.clone(), outer(Some(7))],
            &[inner(Some(4)), outer(Some(7))],
        );
        let (_folder, [package, saved]) = models((b"abcdefgh", package), (b"EFGHnewabcd", saved));
        let found = merged(&package, &saved).expect("graphs").expect("few new weights");
        let changed = tensor("changed", b"EFGH", None);
        let expected = model_of(&[changed, small, outer(Some(0))], &[inner(None), outer(Some(0))]);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_second_copy_of_a_network_is_not_kept() {
        let weights = vec![1; MAX_NEW as usize];
        let graph = |name, weights: &[u8]| model_of(&[tensor(name, weights, Some(0))], &[]);
        let (_folder, [package, saved]) =
            models((&weights, graph("a", &weights)), (&weights, graph("another", &weights)));
        assert!(merged(&package, &saved).expect("graphs").is_some());
        let more = [weights.as_slice(), b"1"].concat();
        let (_folder, [package, saved]) =
            models((&more, graph("a", &more)), (&more, graph("another", &more)));
        assert_eq!(merged(&package, &saved).expect("graphs"), None);
        assert!(
            merged(&package, &package).expect("graphs").is_some(),
            "what is the package's does not count"
        );
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let graph = model_of(&[tensor("a", b"abcd", Some(2))], &[]);
        let (_folder, [package, saved]) = models((b"__abcd", graph.clone()), (b"__abc", graph));
        let error = merged(&package, &saved).expect_err("cut short");
        assert!(
            error.to_string().ends_with("saved: expected more weights, found the end"),
            "{error}"
        );
        let mut deep = Message::default();
        for _ in 0..2 * MAX_DEPTH {
            let (mut attribute, mut node, mut graph) =
                (Message::default(), Message::default(), Message::default());
            attribute.message(onnx::attribute::G, &deep);
            node.message(onnx::node::ATTRIBUTE, &attribute);
            graph.message(onnx::graph::NODE, &node);
            deep = graph;
        }
        let mut model = Message::default();
        model.message(onnx::model::GRAPH, &deep);
        let (_folder, [package, saved]) =
            models((b"", model.clone().into_bytes()), (b"", Vec::new()));
        assert!(
            merged(&package, &saved)
                .expect_err("too deep")
                .to_string()
                .contains("the exported graph")
        );
        assert!(
            merged(&saved, &package)
                .expect_err("too deep")
                .to_string()
                .contains("the optimised graph")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut graph =
                model_of(&[tensor("a", b"abcd", Some(2)), tensor("b", b"xy", None)], &[]);
            let (_folder, [package, mut saved]) =
                models((b"__abcd", graph.clone()), (b"__abcd", Vec::new()));
            let at = at % graph.len();
            graph[at] = byte;
            graph.truncate(graph.len() - cut % graph.len());
            saved.graph = graph;
            drop(merged(&package, &saved));
            drop(merged(&saved, &package));
        }
    }
}
