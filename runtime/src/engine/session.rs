//! One graph in ONNX Runtime: load, run, drop. The only module that names `ort`; knows no stage's
//! meaning.

mod layer;
mod value;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    error,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use ort::{
    environment::Environment,
    ep,
    logging::LogLevel,
    session::builder::{AutoDevicePolicy, GraphOptimizationLevel},
    value::{DynValue, Outlet, TensorElementType, ValueType},
};
use pocketmuse_package::{Dim, Dtype, Error, ErrorKind, Result, StageEntry, TensorSpec};

use crate::{
    engine::library::{self, Place},
    engine::loading::Loading,
    engine::proto,
};

pub(crate) use self::{
    layer::Precision,
    value::{Input, Tensor},
};

/// ONNX Runtime, loaded into this process. There is at most one.
pub struct Runtime {
    path: PathBuf,
    environment: Environment,
}

impl Runtime {
    /// Finds and loads ONNX Runtime; the first call in a process decides which, later ones return
    /// the same.
    ///
    /// `explicit` is a library file; without one the [`library::places`] are tried in order.
    ///
    /// What ONNX Runtime reports of its use is switched off before it is loaded or not at all: see
    /// [`library::disable_telemetry`].
    ///
    /// # Errors
    ///
    /// `Runtime` if no place has a library of version [`library::MINIMUM_VERSION`] or newer, or if
    /// this process already uses another library than `explicit`.
    pub fn start(explicit: Option<&Path>) -> Result<&'static Self> {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _turn = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = match RUNTIME.get() {
            Some(runtime) => runtime,
            None => {
                let started = Self::first_of(library::places(explicit))?;
                RUNTIME.get_or_init(|| started)
            }
        };
        match explicit {
            Some(wanted) if !same_file(&runtime.path, wanted) => {
                Err(library::in_use(&runtime.path, wanted))
            }
            _ => Ok(runtime),
        }
    }

    /// As [`Self::start`], with a library that is brought if there is none: unit tests are the
    /// first that a machine runs.
    #[cfg(test)]
    pub(crate) fn for_tests() -> &'static Self {
        Self::start(None).unwrap_or_else(|_| {
            let watch = |event: pocketmuse_setup::Event<'_>| {
                if let pocketmuse_setup::Event::Note(line) = event {
                    println!("{line}");
                }
                std::ops::ControlFlow::Continue(())
            };
            pocketmuse_setup::ensure(false, watch).expect("ONNX Runtime, through a package client");
            Self::start(None).expect("the library that was brought")
        })
    }

    /// The library file, or the name the system's loader resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// ONNX Runtime itself, of which a process has one: for this project's tests, which run graphs
    /// of their own.
    #[doc(hidden)]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Which build it is, for people and for keys.
    pub(crate) fn build_info(&self) -> &'static str {
        ort::info()
    }

    fn first_of(places: Vec<Place>) -> Result<Self> {
        let mut attempts = Vec::new();
        for place in places {
            match load_library(&place) {
                Ok(builder) => return Self::build(place.path().to_path_buf(), builder),
                Err(found) => attempts.push((place, found)),
            }
        }
        Err(library::not_found(&attempts))
    }

    fn build(path: PathBuf, builder: ort::environment::EnvironmentBuilder) -> Result<Self> {
        let builder =
            builder.with_name("pocketmuse").with_telemetry(false).with_logger(Arc::new(forward));
        let environment = builder
            .build()
            .map_err(|error| failed(format!("ONNX Runtime: {}", path.display()), &error))?;
        environment.set_log_level(LogLevel::Warning);
        log::debug!("using ONNX Runtime at {}: {}", path.display(), ort::info());
        Ok(Self { path, environment })
    }
}

/// Loads the library at `place`, or says what was found there instead.
fn load_library(place: &Place) -> Result<ort::environment::EnvironmentBuilder, String> {
    if !matches!(place, Place::System(_)) && !place.path().is_file() {
        return Err("no such file".to_owned());
    }
    if library::is_truncated(place.path()) {
        return Err("a library cut short".to_owned());
    }
    ort::init_from(place.path()).map_err(found)
}

/// What was found instead of a library that works.
fn found(error: ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error, .. } => match error::Error::source(&error) {
            Some(reason) => reason.to_string(),
            None => error.to_string(),
        },
        ort::LoadDynamicError::BadVersion { version_str, .. } => {
            format!("version {version_str}, older than {}", library::MINIMUM_VERSION)
        }
        ort::LoadDynamicError::MissingApi { .. } | ort::LoadDynamicError::InvalidVersionString => {
            "a library, but not ONNX Runtime".to_owned()
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    canonical(a) == canonical(b)
}

/// Passes ONNX Runtime's messages to `log`, each a level lower: what fails also becomes an error,
/// and whoever gets it decides how loud it is.
fn forward(level: LogLevel, _category: &str, _id: &str, _location: &str, message: &str) {
    let level = match level {
        LogLevel::Fatal | LogLevel::Error => log::Level::Warn,
        LogLevel::Warning => log::Level::Info,
        LogLevel::Info => log::Level::Debug,
        LogLevel::Verbose => log::Level::Trace,
    };
    log::log!(target: "onnxruntime", level, "{message}");
}

/// Says by its name in reference files whether a tapped value is wanted.
pub(crate) type Taps = fn(&str) -> bool;

/// In which form a graph is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// As it was exported; ONNX Runtime optimises it.
    Exported,
    /// As it was exported, and what ONNX Runtime makes of it is saved as this file, its weights in
    /// one with the ending `data` beside it.
    Saved(&'a Path),
    /// What was saved, its weights where the package has them. Goes with no taps and no profile.
    Optimised(&'a [u8]),
}

/// How a session is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// Threads that share one operator's work.
    pub(crate) threads: usize,
    pub(crate) loading: Loading,
    pub(crate) form: Form<'a>,
    /// Which of the values that the manifest lists as taps are outputs too.
    pub(crate) taps: Option<Taps>,
    /// Where to write what every node was given and made, and how long it took: what the file's
    /// name begins with. The nodes are then those of the graph as exported, none replaced by a
    /// faster one. Written when the session is dropped.
    pub(crate) profile: Option<&'a Path>,
}

/// A loaded graph. Dropping it frees its weights and its memory.
pub(crate) struct Session {
    inner: ort::session::Session,
    at: String,
    outputs: Vec<TensorSpec>,
    /// What each tapped value is called in reference files, by its name in the graph.
    tap_names: BTreeMap<String, String>,
    taps: BTreeMap<String, Tensor>,
}

impl Session {
    /// Loads the graph of `entry` from the package at `root`. The files' digests are the caller's
    /// to check.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the graph's inputs or outputs are not those of `entry`; `Runtime` if
    /// ONNX Runtime refuses.
    pub(crate) fn load(
        runtime: &Runtime,
        root: &Path,
        entry: &StageEntry,
        settings: Settings<'_>,
    ) -> Result<Self> {
        let at = entry.graph.path.clone();
        let file = entry.graph.locate(root);
        let is_wanted = |name: &str| settings.taps.is_some_and(|wanted| wanted(name));
        let taps: Vec<_> =
            entry.taps.iter().filter(|(name, _)| is_wanted(name)).map(|(_, spec)| spec).collect();
        let from_memory = |model: &[u8]| {
            let folder = file.parent().unwrap_or(root).to_string_lossy().into_owned();
            builder(runtime, settings)
                .and_then(|builder| {
                    Ok(builder.with_config_entry(
                        "session.model_external_initializers_file_folder_path",
                        folder,
                    )?)
                })
                .and_then(|mut builder| builder.commit_from_memory(model))
        };
        let inner = match settings.form {
            Form::Optimised(model) => from_memory(model),
            _ if taps.is_empty() => {
                builder(runtime, settings).and_then(|mut builder| builder.commit_from_file(&file))
            }
            _ => {
                let mut model = std::fs::read(&file).map_err(|error| Error::io(&file, error))?;
                model.extend(proto::more_outputs(&taps));
                from_memory(&model)
            }
        };
        let inner = inner.map_err(|error| failed(at.as_str(), &error))?;
        check_signature("input", &entry.inputs, inner.inputs())
            .map_err(|error| error.within(&at))?;
        let outputs = &inner.outputs()[..inner.outputs().len().saturating_sub(taps.len())];
        check_signature("output", &entry.outputs, outputs).map_err(|error| error.within(&at))?;
        let tap_names =
            entry.taps.iter().map(|(name, spec)| (spec.name.clone(), name.clone())).collect();
        Ok(Self { inner, at, outputs: entry.outputs.clone(), tap_names, taps: BTreeMap::new() })
    }

    /// Runs the graph. Returns the outputs in the manifest's order; taps are kept until the next
    /// run.
    ///
    /// # Errors
    ///
    /// `Runtime` if ONNX Runtime fails or returns another shape or type than the manifest says.
    pub(crate) fn run(&mut self, inputs: &[(&str, Input<'_>)]) -> Result<Vec<Tensor>> {
        let at = &self.at;
        let mut values = Vec::with_capacity(inputs.len());
        for (name, input) in inputs {
            let value = input.value().map_err(|error| failed(format!("{at}: {name}"), &error))?;
            values.push((Cow::Borrowed(*name), value));
        }
        self.taps.clear(); // they may be as large as the next
        let mut found = self.inner.run(values).map_err(|error| failed(at.as_str(), &error))?;
        for (name, reference) in &self.tap_names {
            if let Some(value) = found.remove(name) {
                self.taps.insert(reference.clone(), Tensor { at: format!("{at}: {name}"), value });
            }
        }
        self.outputs.iter().map(|spec| take(at, spec, found.remove(&spec.name))).collect()
    }

    /// The tapped values of the last run, by their names in reference files.
    pub(crate) fn taps(&self) -> &BTreeMap<String, Tensor> {
        &self.taps
    }
}

fn builder(
    runtime: &Runtime,
    settings: Settings<'_>,
) -> ort::Result<ort::session::builder::SessionBuilder> {
    let Loading { arena, prepacking } = settings.loading;
    let cpu = ep::CPU::default().with_arena_allocator(arena).build().error_on_failure();
    let builder = ort::session::Session::builder(&runtime.environment)?
        // The default policy may choose an accelerator: another provider is another flavour, never
        // a surprise.
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_execution_providers([cpu])?
        .with_log_level(LogLevel::Warning)?
        .with_intra_threads(settings.threads)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_prepacking(prepacking)?
        // A pattern holds for one shape of all inputs, and the positions asked for change from run
        // to run.
        .with_memory_pattern(false)?;
    let builder = match settings.profile {
        Some(path) => builder
            .with_profiling(path)?
            .with_optimization_level(GraphOptimizationLevel::Disable)?,
        None => builder,
    };
    match settings.form {
        Form::Exported => Ok(builder),
        Form::Saved(path) => {
            let weights = path.with_extension("data");
            let weights = weights.file_name().unwrap_or_default().to_string_lossy();
            Ok(builder
                .with_optimized_model_path(path)?
                .with_config_entry(
                    "session.optimized_model_external_initializers_file_name",
                    weights,
                )?
                .with_config_entry(
                    "session.optimized_model_external_initializers_min_size_in_bytes",
                    "1024",
                )?)
        }
        Form::Optimised(_) => Ok(builder.with_optimization_level(GraphOptimizationLevel::Disable)?),
    }
}

fn take(at: &str, spec: &TensorSpec, value: Option<DynValue>) -> Result<Tensor> {
    let wrong = |found: String| {
        Error::new(ErrorKind::Runtime, at, format!("expected {spec}, found {found}"))
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

/// Compares what the manifest says with what the graph says: names, order, types, and every extent
/// both know.
fn check_signature(what: &str, expected: &[TensorSpec], found: &[Outlet]) -> Result<()> {
    let names =
        |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let damaged = |detail| Error::new(ErrorKind::PackageDamaged, "", detail);
    if !expected.iter().map(|spec| spec.name.as_str()).eq(found.iter().map(Outlet::name)) {
        let expected = names(expected.iter().map(|spec| spec.name.as_str()).collect());
        let found = names(found.iter().map(Outlet::name).collect());
        return Err(damaged(format!("expected the {what}s {expected}, found {found}")));
    }
    for (spec, outlet) in expected.iter().zip(found) {
        let agrees = signature(outlet.dtype()).is_some_and(|(dtype, extents)| {
            dtype == spec.dtype
                && extents.len() == spec.shape.0.len()
                && spec.shape.0.iter().zip(extents).all(|(dim, &extent)| match dim {
                    Dim::Fixed(fixed) => {
                        extent < 0 || usize::try_from(extent).is_ok_and(|extent| extent == *fixed)
                    }
                    Dim::Named(_) => extent < 0,
                })
        });
        if !agrees {
            return Err(damaged(format!("expected the {what} {spec}, found {}", outlet.dtype())));
        }
    }
    Ok(())
}

/// The type and extents of a tensor, -1 where unknown; `None` for anything that a package cannot
/// hold.
fn signature(value: &ValueType) -> Option<(Dtype, &[i64])> {
    let ValueType::Tensor { ty, shape, .. } = value else { return None };
    let dtype = match ty {
        TensorElementType::Float32 => Dtype::F32,
        TensorElementType::Float16 => Dtype::F16,
        TensorElementType::Bfloat16 => Dtype::Bf16,
        TensorElementType::Int8 => Dtype::I8,
        TensorElementType::Uint8 => Dtype::U8,
        TensorElementType::Int32 => Dtype::I32,
        TensorElementType::Int64 => Dtype::I64,
        TensorElementType::Bool => Dtype::Bool,
        _ => return None,
    };
    Some((dtype, shape))
}

fn failed<R>(at: impl Into<String>, error: &ort::Error<R>) -> Error {
    Error::new(ErrorKind::Runtime, at, error.message())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pocketmuse_package::{ErrorKind, FileEntry};

    use super::*;

    // g = make_graph([make_node("Add", ["x", "x"], ["y"]), make_node("Mul", ["y", "y"], ["z"])],
    // "g", [make_tensor_value_info("x", 1, ["n", 2])], [make_tensor_value_info("z", 1, ["n", 2])])
    // print(make_model(g, opset_imports=[make_opsetid("", 17)],
    // ir_version=9).SerializeToString().hex())
    const MODEL: &str = "080912003a4f0a0e0a01780a017812017922034164640a0e0a01790a017912017a22034d756c1201675a140a0178120f\
        0a0d080112090a0312016e0a02080262140a017a120f0a0d080112090a0312016e0a02080242040a001011";

    fn spec(name: &str, dtype: Dtype, shape: &[Dim]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, shape: shape.iter().cloned().collect() }
    }

    fn rows() -> [Dim; 2] {
        ["n".into(), 2.into()]
    }

    /// A package folder with one graph, and the entry that describes it.
    fn doubler() -> (tempfile::TempDir, StageEntry) {
        let folder = tempfile::tempdir().expect("a folder");
        let byte = |at| u8::from_str_radix(&MODEL[at..at + 2], 16).expect("hexadecimal");
        let model: Vec<u8> = (0..MODEL.len()).step_by(2).map(byte).collect();
        fs::write(folder.path().join("doubler.onnx"), model).expect("written");
        let entry = StageEntry {
            graph: FileEntry::describe(folder.path(), "doubler.onnx").expect("described"),
            weights: None,
            inputs: vec![spec("x", Dtype::F32, &rows())],
            outputs: vec![spec("z", Dtype::F32, &rows())],
            taps: [("doubler.sum".to_owned(), spec("y", Dtype::F32, &rows()))].into(),
        };
        (folder, entry)
    }

    fn load(folder: &tempfile::TempDir, entry: &StageEntry, taps: Option<Taps>) -> Result<Session> {
        let runtime = Runtime::for_tests();
        let loading = Loading { arena: false, prepacking: true };
        Session::load(
            runtime,
            folder.path(),
            entry,
            Settings { threads: 1, loading, form: Form::Exported, taps, profile: None },
        )
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
        assert_eq!(again[0].shaped(&[2, 1]).expect_err("another").kind(), ErrorKind::Runtime);
        assert!(again[0].as_i64().is_err());
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
                ErrorKind::Runtime,
                "case {index}"
            );
        }
        assert!(session.run(&[]).is_err());
        fs::write(folder.path().join("doubler.onnx"), b"not a graph").expect("written");
        assert_eq!(load(&folder, &entry, None).err().expect("refused").kind(), ErrorKind::Runtime);
        assert_eq!(
            load(&folder, &entry, Some(|_| true)).err().expect("refused").kind(),
            ErrorKind::Runtime
        );
    }

    #[test]
    fn a_process_uses_one_library() {
        let used = Runtime::for_tests();
        let same = Runtime::start(Some(used.path()));
        assert!(std::ptr::eq(same.expect("the one in use"), used));
        let error =
            Runtime::start(Some("/another/libonnxruntime.so".as_ref())).err().expect("another");
        assert!(error.to_string().contains("which this process already uses"), "{error}");
    }

    #[test]
    fn says_what_is_wrong_with_a_library() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().to_path_buf(), folder.path().join("none.so")] {
            assert_eq!(
                load_library(&Place::File(path.clone())).err().expect("none"),
                "no such file"
            );
            assert_eq!(
                load_library(&Place::Named { path, by: "test" }).err().expect("none"),
                "no such file"
            );
        }
        let old = ort::LoadDynamicError::BadVersion {
            version_str: "1.20.1".to_owned(),
            path: "x.so".into(),
        };
        let cut = folder.path().join("cut.so");
        let header = [b"\x7fELF\x02\x01".as_slice(), &[0; 35], &[1], &[0; 22]].concat();
        fs::write(&cut, header).expect("written");
        if cfg!(target_os = "linux") {
            assert_eq!(
                load_library(&Place::File(cut)).err().expect("no library"),
                "a library cut short"
            );
        }
        assert_eq!(found(old), "version 1.20.1, older than 1.22");
        let other = ort::LoadDynamicError::MissingApi { path: "x.so".into() };
        assert_eq!(found(other), "a library, but not ONNX Runtime");
    }
}
