//! One graph in ONNX Runtime: load, run, drop. Knows no stage's meaning.

mod builder;
mod commit;
mod settings;
mod signature;
mod value;

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use ort::value::DynValue;
use pocketmuse_package::{Dtype, Error, ErrorKind, Result, StageEntry, TensorSpec};

#[cfg(feature = "measure")]
use self::builder::builder;
use self::{
    commit::commit,
    signature::{check_signature, signature},
};
use crate::{
    engine::{
        apart,
        mapped::MappedFiles,
        passing::Passing,
        providers::{self, Assignment, nodes::Nodes},
        runtime::{Runtime, failed},
        stop::Stoppable,
    },
    request::Cancel,
};

pub use self::{
    settings::{Form, Settings, Taps},
    value::{Input, Tensor},
};

/// A loaded graph. Dropping it frees its weights and its memory.
pub struct Session {
    inner: Graph,
    at: String,
    /// The types of what goes in, as far as the manifest says.
    inputs: BTreeMap<String, Dtype>,
    outputs: Vec<TensorSpec>,
    /// What each tapped value is called in reference files, by its name in the graph.
    tap_names: BTreeMap<String, String>,
    taps: BTreeMap<String, Tensor>,
    /// Where it was loaded from.
    files: MappedFiles,
    /// What stops its runs.
    cancel: Cancel,
    /// Who computes it instead of the CPU, for one size alone.
    other: Option<Assignment>,
    /// Which nodes of a graph that one took, where ONNX Runtime tells.
    nodes: Option<Nodes>,
}

/// What ONNX Runtime has of it.
struct Graph {
    session: ort::session::Session,
    /// The weights, if they pass through memory: dropped after what reads them.
    passing: Option<Passing>,
    /// Whether its large values have memory of their own.
    is_apart: bool,
}

impl Session {
    /// Loads the graph of `entry` from the package at `root`. The files' digests are the caller's
    /// to check.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the graph's inputs or outputs are not those of `entry`; `EngineFailed`
    /// if ONNX Runtime refuses, `ProviderFailed` if another provider than the CPU does.
    pub fn load(
        runtime: &Runtime,
        root: &Path,
        entry: &StageEntry,
        settings: Settings<'_>,
    ) -> Result<Self> {
        let at = entry.graph.path.as_str();
        let tapped = tapped(entry, settings.taps);
        let passing = Passing::of(root, entry, &settings);
        let inner = commit(runtime, root, entry, &tapped, (settings, passing.as_ref()))?;
        let sizes = settings.target.map(|target| target.sizes);
        check_signature(("input", sizes), &entry.inputs, inner.inputs())
            .map_err(|error| error.within(at))?;
        let outputs = &inner.outputs()[..inner.outputs().len().saturating_sub(tapped.len())];
        check_signature(("output", sizes), &entry.outputs, outputs)
            .map_err(|error| error.within(at))?;
        let tap_names =
            entry.taps.iter().map(|(name, spec)| (spec.name.clone(), name.clone())).collect();
        let inputs = entry.inputs.iter().map(|spec| (spec.name.clone(), spec.dtype)).collect();
        let outputs = entry.outputs.clone();
        let (taps, files, cancel) = Default::default();
        let (at, other) = (at.to_owned(), settings.target.map(|target| target.assignment));
        let target = settings.target.as_ref();
        let nodes = target.and_then(|target| providers::taken_nodes(runtime, target, &inner));
        let inner = Graph { session: inner, passing, is_apart: settings.loading.is_apart() };
        Ok(Self { inner, at, inputs, outputs, tap_names, taps, files, cancel, other, nodes })
    }

    /// The same, which was loaded from `files`: no result is handed out that may come from bytes
    /// written there later.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if they changed while it was loaded.
    pub(crate) fn loaded_from(self, files: MappedFiles) -> Result<Self> {
        files.check_loaded()?;
        Ok(Self { files, ..self })
    }

    /// Loads a graph that no package describes: the bytes of an ONNX model, its constants inside.
    /// Its outputs are checked against what the graph itself declares. `name` is for messages.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if ONNX Runtime refuses, or an output is no tensor of a type that packages
    /// know.
    #[cfg(feature = "measure")]
    pub fn of_model(
        runtime: &Runtime,
        name: &str,
        model: &[u8],
        settings: Settings<'_>,
    ) -> Result<Self> {
        let inner = builder(runtime, settings)
            .and_then(|mut builder| builder.commit_from_memory(model))
            .map_err(|error| failed(name, &error))?;
        let outputs = inner.outputs().iter().map(signature::spec_of).collect::<Result<_>>();
        let outputs = outputs.map_err(|error| error.within(name))?;
        let (inputs, tap_names, taps, files, cancel) = Default::default();
        let (at, other, nodes) = (name.to_owned(), None, None);
        let inner = Graph { session: inner, passing: None, is_apart: false };
        Ok(Self { inner, at, inputs, outputs, tap_names, taps, files, cancel, other, nodes })
    }

    /// Whether it is compiled for one size.
    pub(crate) fn is_fixed(&self) -> bool {
        self.other.is_some()
    }

    /// Which nodes another provider than the CPU took, where ONNX Runtime tells.
    pub(crate) fn nodes(&self) -> Option<&Nodes> {
        self.nodes.as_ref()
    }

    /// Has `cancel` stop every run from now on.
    pub(crate) fn obey(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// Runs the graph. Returns the outputs in the manifest's order; taps are kept until the next
    /// run.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if ONNX Runtime fails or returns another shape or type than the manifest
    /// says, `ProviderFailed` if another provider than the CPU does; `PackageDamaged` if somebody
    /// wrote into the files that it was loaded from; `Cancelled` if it was stopped, after which it
    /// runs as well as before.
    pub fn run(&mut self, inputs: &[(&str, Input<'_>)]) -> Result<Vec<Tensor>> {
        let (at, other) = (&self.at, self.other);
        let blamed = |error: Error| match other {
            Some(other) => other.blamed(error),
            None => error,
        };
        let mut values = Vec::with_capacity(inputs.len());
        for (name, input) in inputs {
            let value = input.value(self.inputs.get(*name).copied());
            let value = value.map_err(|error| failed(format!("{at}: {name}"), &error))?;
            values.push((Cow::Borrowed(*name), value));
        }
        self.taps.clear(); // they may be as large as the next
        self.cancel.check()?;
        let run = Stoppable::new(&self.cancel).map_err(|error| failed(at.as_str(), &error))?;
        let passing = self.inner.passing.as_ref().map(Passing::run);
        let found = self.inner.session.run_with_options(values, run.options());
        drop(passing);
        if self.inner.is_apart {
            apart::trim();
        }
        self.files.check()?; // which may also be why it failed
        if found.is_err() {
            self.cancel.check()?; // ONNX Runtime has no kind of error for it
        }
        let mut found = found.map_err(|error| blamed(failed(at.as_str(), &error)))?;
        for (name, reference) in &self.tap_names {
            if let Some(value) = found.remove(name) {
                self.taps.insert(reference.clone(), Tensor { at: format!("{at}: {name}"), value });
            }
        }
        let outputs = self.outputs.iter();
        outputs.map(|spec| take(at, spec, found.remove(&spec.name)).map_err(blamed)).collect()
    }

    /// What the outputs are called, in their order.
    #[cfg(feature = "measure")]
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|spec| spec.name.as_str())
    }

    /// The tapped values of the last run, by their names in reference files.
    pub fn taps(&self) -> &BTreeMap<String, Tensor> {
        &self.taps
    }
}

/// The values of `entry` that become outputs too.
fn tapped(entry: &StageEntry, taps: Option<Taps>) -> Vec<&TensorSpec> {
    let is_wanted = |name: &str| taps.is_some_and(|wanted| wanted(name));
    entry.taps.iter().filter(|(name, _)| is_wanted(name)).map(|(_, spec)| spec).collect()
}

fn take(at: &str, spec: &TensorSpec, value: Option<DynValue>) -> Result<Tensor> {
    let wrong = |found: String| {
        Error::new(ErrorKind::EngineFailed, at, format!("expected {spec}, found {found}"))
    };
    let value = value.ok_or_else(|| wrong("none".to_owned()))?;
    let (dtype, extents) =
        signature(value.dtype()).ok_or_else(|| wrong(format!("{}", value.dtype())))?;
    let extents: Vec<_> =
        extents.iter().map(|&extent| usize::try_from(extent).unwrap_or(usize::MAX)).collect();
    if dtype != spec.dtype || !spec.shape.admits(&extents) {
        return Err(wrong(format!("{dtype} {extents:?}")));
    }
    Ok(Tensor { at: format!("{at}: {}", spec.name), value })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pocketmuse_package::{Dim, Dtype, FileEntry, Stage};

    use super::*;
    use crate::{
        engine::{
            loading::Loading,
            providers::{Sizes, Target},
        },
        request::{Provider, Providers},
    };

    const OPENVINO: Assignment = Assignment { provider: Provider::OpenVino, stage: Stage::Step };

    // g = make_graph([make_node("Add", ["x", "x"], ["y"]), make_node("Mul", ["y", "y"], ["z"])],
    // "g", [make_tensor_value_info("x", 1, ["n", 2])], [make_tensor_value_info("z", 1, ["n", 2])])
    // print(make_model(g, opset_imports=[make_opsetid("", 17)],
    // ir_version=9).SerializeToString().hex())
    const MODEL: &str = "\
        080912003a4f0a0e0a01780a017812017922034164640a0e0a01790a01791201\
        7a22034d756c1201675a140a0178120f0a0d080112090a0312016e0a02080262\
        140a017a120f0a0d080112090a0312016e0a02080242040a001011";

    // f = [make_tensor_value_info(n, 1, ["n", 2]) for n in ("v", "w")]
    // i = make_tensor_value_info("i", 7, [])
    // c = [make_tensor_value_info(n, 9, []) for n in "cd"]
    // b = make_graph([make_node("Identity", ["c"], ["d"]), make_node("Cos", ["v"], ["w"])], "b",
    // [i, c[0], f[0]], [c[1], f[1]])
    // g = make_graph([make_node("Loop", ["k", "", "x"], ["z"], body=b)], "g",
    // [make_tensor_value_info("x", 1, ["n", 2]), make_tensor_value_info("k", 7, [1])],
    // [make_tensor_value_info("z", 1, ["n", 2])]); print(make_model(g,
    // opset_imports=[make_opsetid("", 17)], ir_version=9).SerializeToString().hex())
    const LOOP: &str = "\
        08093ad7010a94010a016b0a000a017812017a22044c6f6f702a80010a04626f\
        647932750a100a016312016422084964656e746974790a0b0a01761201772203\
        436f731201625a0b0a016912060a04080712005a0b0a016312060a0408091200\
        5a140a0176120f0a0d080112090a0312016e0a020802620b0a016412060a0408\
        09120062140a0177120f0a0d080112090a0312016e0a020802a001051201675a\
        140a0178120f0a0d080112090a0312016e0a0208025a0f0a016b120a0a080807\
        12040a0208016214\
        0a017a120f0a0d080112090a0312016e0a02080242040a001011";

    fn spec(name: &str, dtype: Dtype, shape: &[Dim]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, shape: shape.iter().cloned().collect() }
    }

    fn rows() -> [Dim; 2] {
        ["n".into(), 2.into()]
    }

    fn decoded(hexadecimal: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("hexadecimal");
        (0..hexadecimal.len()).step_by(2).map(byte).collect()
    }

    /// A package folder with one graph, and the entry that describes it.
    fn doubler() -> (tempfile::TempDir, StageEntry) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("doubler.onnx"), decoded(MODEL)).expect("written");
        let entry = StageEntry {
            graph: FileEntry::describe(folder.path(), "doubler.onnx").expect("described"),
            weights: None,
            held: None,
            inputs: vec![spec("x", Dtype::F32, &rows())],
            outputs: vec![spec("z", Dtype::F32, &rows())],
            taps: [("doubler.sum".to_owned(), spec("y", Dtype::F32, &rows()))].into(),
            contexts: Vec::new(),
            without_graph: false,
        };
        (folder, entry)
    }

    fn load(folder: &tempfile::TempDir, entry: &StageEntry, taps: Option<Taps>) -> Result<Session> {
        let settings = Settings { taps, ..Settings::new(1, Loading::of(Stage::Prologue)) };
        Session::load(Runtime::for_tests(), folder.path(), entry, settings)
    }

    #[test]
    fn runs_a_graph_and_its_outputs_outlive_it() {
        let (folder, entry) = doubler();
        let mut session = load(&folder, &entry, None).expect("a graph");
        let outputs = session.run(&[("x", Input::F32(&[1, 2], &[1.0, -3.0]))]).expect("runs");
        let again = session.run(&[("x", Input::Tensor(&outputs[0]))]).expect("runs");
        drop(session);
        assert_eq!(outputs[0].shaped(&[1, 2]).expect("its shape"), [4.0, 36.0]);
        assert_eq!(again[0].as_f32().expect("f32"), [64.0, 5184.0]);
        assert_eq!(again[0].shaped(&[2, 1]).expect_err("another").kind(), ErrorKind::EngineFailed);
        assert!(again[0].as_i64().is_err());
    }

    #[test]
    fn a_run_that_would_take_for_ever_is_stopped_and_the_next_is_as_any() {
        let (folder, doubler) = doubler();
        fs::write(folder.path().join("loop.onnx"), decoded(LOOP)).expect("written");
        let graph = FileEntry::describe(folder.path(), "loop.onnx").expect("described");
        let trips = spec("k", Dtype::I64, &[1.into()]);
        let inputs = vec![doubler.inputs[0].clone(), trips];
        let entry = StageEntry { graph, inputs, taps: BTreeMap::new(), ..doubler };
        let mut session = load(&folder, &entry, None).expect("a graph");
        let mut run = |trips, cancel: &Cancel| {
            session.obey(cancel);
            let inputs =
                [("x", Input::F32(&[1, 2], &[1.0, 0.0])), ("k", Input::I64(&[1], &[trips]))];
            session.run(&inputs).map(|outputs| outputs[0].as_f32().expect("f32").to_vec())
        };
        for _ in 0..3 {
            let cancel = Cancel::new();
            let error = std::thread::scope(|scope| {
                scope.spawn(|| cancel.cancel()); // before or while it runs
                run(i64::MAX, &cancel).expect_err("it would run for ever")
            });
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            assert_eq!(run(2, &cancel).expect_err("still").kind(), ErrorKind::Cancelled);
            let found = run(2, &Cancel::new()).expect("it runs");
            // print(cos(cos(1)), cos(cos(0))): to f32's precision
            for (found, expected) in found.iter().zip([0.857_553_2, 0.540_302_3]) {
                assert!((found - expected).abs() < 1e-6, "{found}");
            }
        }
    }

    #[test]
    fn taps_are_there_when_asked_for() {
        let (folder, entry) = doubler();
        let cases: [(Option<Taps>, bool); 3] = [
            (None, false),
            (Some(|name| name == "doubler.sum"), true),
            (Some(|name| name == "y"), false),
        ];
        for (taps, expected) in cases {
            let mut session = load(&folder, &entry, taps).expect("a graph");
            let outputs = session.run(&[("x", Input::F32(&[1, 2], &[1.0, -3.0]))]).expect("runs");
            assert_eq!(outputs.len(), 1);
            let tapped = session
                .taps()
                .get("doubler.sum")
                .map(|tensor| tensor.as_f32().expect("f32").to_vec());
            assert_eq!(tapped, expected.then(|| vec![2.0, -6.0]));
        }
    }

    /// Whoever computes it: here it is the CPU, under another's name.
    #[test]
    fn what_another_provider_fails_at_is_its_failure() {
        let (folder, entry) = doubler();
        let mut session = load(&folder, &entry, None).expect("a graph");
        session.other = Some(OPENVINO);
        let error = session.run(&[("x", Input::F32(&[1, 3], &[1.0; 3]))]).err().expect("refused");
        assert_eq!((error.kind(), error.at()), (ErrorKind::ProviderFailed, "step"), "{error}");
        assert_eq!(error.provider(), Some("openvino"));
        session.run(&[("x", Input::F32(&[1, 2], &[1.0; 2]))]).expect("it works as well as before");
    }

    #[test]
    fn only_the_cpu_is_looked_into() {
        let (folder, entry) = doubler();
        let stages = [(Stage::Step, Provider::OpenVino)].into();
        let providers = Providers { stages, ..Providers::default() };
        let target = Target::of(&providers, Stage::Step, Sizes { grid: [1, 1], branches: 1 });
        let plain = Settings::new(1, Loading::of(Stage::Step));
        let settings = Settings { taps: Some(|_| true), target: Some(target), ..plain };
        let error = Session::load(Runtime::for_tests(), folder.path(), &entry, settings).err();
        let error = error.expect("refused");
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "provider"));
        let expected = "expected cpu for the step that is looked into, found openvino";
        assert_eq!(error.detail(), expected);
    }

    #[test]
    fn a_graph_must_be_what_the_manifest_says() {
        type Change = fn(&mut StageEntry);
        let cases: [(&str, Change); 5] = [
            ("expected the inputs w, found x", |entry| entry.inputs[0].name = "w".to_owned()),
            ("expected the outputs none, found z", |entry| entry.outputs.clear()),
            ("expected the input x: i64 [n, 2], found", |entry| entry.inputs[0].dtype = Dtype::I64),
            ("expected the output z: f32 [n, 3], found", |entry| {
                entry.outputs[0].shape.0[1] = 3.into()
            }),
            ("expected the output z: f32 [n], found", |entry| entry.outputs[0].shape.0.truncate(1)),
        ];
        for (expected, change) in cases {
            let (folder, mut entry) = doubler();
            change(&mut entry);
            let error = load(&folder, &entry, None).err().expect(expected);
            assert_eq!(error.kind(), ErrorKind::PackageDamaged);
            assert!(error.to_string().starts_with(&format!("doubler.onnx: {expected}")), "{error}");
        }
    }

    #[test]
    fn what_onnx_runtime_refuses_is_an_error() {
        let (folder, entry) = doubler();
        let mut session = load(&folder, &entry, None).expect("a graph");
        let cases = [
            ("x", Input::I64(&[1, 2], &[1, 2])),
            ("x", Input::F32(&[1, 3], &[1.0; 3])),
            ("x", Input::F32(&[1, 2], &[1.0])),
            ("w", Input::F32(&[1, 2], &[1.0; 2])),
        ];
        for (index, input) in cases.into_iter().enumerate() {
            assert_eq!(
                session.run(&[input]).err().expect("refused").kind(),
                ErrorKind::EngineFailed,
                "case {index}"
            );
        }
        assert!(session.run(&[]).is_err());
        fs::write(folder.path().join("doubler.onnx"), b"not a graph").expect("written");
        assert_eq!(
            load(&folder, &entry, None).err().expect("refused").kind(),
            ErrorKind::EngineFailed
        );
        assert_eq!(
            load(&folder, &entry, Some(|_| true)).err().expect("refused").kind(),
            ErrorKind::EngineFailed
        );
    }
}
