//! What several test modules need: fixtures, changed copies of them, packages exported once.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Mutex, Once, OnceLock},
    thread,
};

use pocketmuse::Pipeline;
use pocketmuse_export::{Measured, Options, Result, Summary};
use pocketmuse_package::Flavour;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tempfile::TempDir;

#[path = "folders.rs"]
mod folders;

pub(crate) use self::folders::{copy_folder, flavoured_package, link_folder};

/// The three random checkpoints with the true topology.
pub(crate) const TINY: [&str; 3] = ["tiny-256", "tiny-512", "tiny-512-f16"];

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace")
        .to_owned()
}

/// A file or folder of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The checkpoint of that name: a random one, or the bundled model.
pub(crate) fn checkpoint(name: &str) -> PathBuf {
    if name == "tiny-world" { workspace().join("models/tiny-world") } else { fixture(name) }
}

pub(crate) fn export(checkpoint: &Path, package: &Path) -> Result<Summary> {
    let options = Options { flavours: vec![Flavour::F32], ..Options::default() };
    let no_preview = |_: &Path| Ok(Measured::default());
    pocketmuse_export::export(checkpoint, package, &options, no_preview, |_| {
        ControlFlow::Continue(())
    })
}

/// Exports as the command does.
pub(crate) fn export_flavours(
    checkpoint: &Path,
    package: &Path,
    flavours: &[Flavour],
) -> Result<Summary> {
    let options = Options { flavours: flavours.to_vec(), ..Options::default() };
    pocketmuse_export::export(checkpoint, package, &options, calibrate, |_| {
        ControlFlow::Continue(())
    })
}

/// Measures a draft on one thread: tests run side by side.
pub(crate) fn calibrate(draft: &Path) -> Result<Measured> {
    runtime();
    let options = pocketmuse::Options { threads: Some(1), ..pocketmuse::Options::default() };
    pocketmuse_measure::calibrate(draft, &options, &[], |_| ControlFlow::Continue(()))
}

/// Opens a package, on one thread unless `options` say otherwise: tests run side by side, and
/// threads that wait for each other waste the processor.
pub(crate) fn open(package: &Path, options: pocketmuse::Options) -> Pipeline {
    runtime();
    let options = pocketmuse::Options { threads: options.threads.or(Some(1)), ..options };
    Pipeline::open_with(package, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`open`], the bundled model with the graphs of `flavour`.
pub(crate) fn open_flavour(flavour: Flavour) -> Pipeline {
    let options = pocketmuse::Options { flavour: Some(flavour), ..Default::default() };
    open(&flavoured_package(flavour), options)
}

/// What becomes of each of `items`, an equal part of them in each of as many threads as there are
/// processors, with a pipeline of its own, or whatever else `opened` is.
pub(crate) fn in_threads<I: Sync, S, T: Send>(
    opened: impl Fn() -> S + Sync,
    items: &[I],
    make: impl Fn(&mut S, &I) -> T + Sync,
) -> Vec<T> {
    let part = &|items: &[I]| {
        let mut opened = opened();
        items.iter().map(|item| make(&mut opened, item)).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let size = items.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts: Vec<_> =
            items.chunks(size).map(|items| scope.spawn(move || part(items))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("images")).collect()
    })
}

/// The package of the checkpoint `name`: the bundled model's f32 one, or a random one, exported
/// once per run of the tests.
pub(crate) fn package(name: &str) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    static EXPORTED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    if name == "tiny-world" {
        return flavoured_package(Flavour::F32);
    }
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let mut exported = EXPORTED.lock().expect("no test panics while it exports");
    let entry = exported.entry(name.to_owned()).or_insert_with(|| {
        let package = folder.path().join(name);
        export(&checkpoint(name), &package).unwrap_or_else(|error| panic!("{name}: {error}"));
        package
    });
    entry.clone()
}

/// A copy of `name` to be changed.
pub(crate) fn changed(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("checkpoint");
    link_folder(&checkpoint(name), &copy);
    (folder, copy)
}

/// A tensor that owns its bytes.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn i64s(&self) -> Vec<i64> {
        assert_eq!(self.dtype, Dtype::I64);
        self.bytes
            .chunks_exact(8)
            .map(|eight| i64::from_le_bytes(eight.try_into().expect("eight")))
            .collect()
    }
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;

pub(crate) fn read_tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).expect("a tensor file");
    let tensors = SafeTensors::deserialize(&bytes).expect("valid tensors");
    let owned = |view: TensorView<'_>| Tensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    tensors.tensors().into_iter().map(|(name, view)| (name, owned(view))).collect()
}

pub(crate) fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, tensor)| {
        let view =
            TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("a tensor");
        (name.clone(), view)
    });
    replace(path, &safetensors::serialize(views, None).expect("tensors"));
}

pub(crate) fn change_tensors(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = read_tensors(path);
    change(&mut tensors);
    write_tensors(path, &tensors);
}

pub(crate) fn change_json(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).expect("a config")).expect("JSON");
    change(&mut value);
    replace(path, value.to_string().as_bytes());
}

/// Puts another file in a file's place, which may be a link.
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    if path.exists() {
        fs::remove_file(path).expect("removed");
    }
    fs::write(path, bytes).expect("written");
}

/// Names in a folder, sorted: what must not change when something fails.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Brings ONNX Runtime if this machine has none, as the command does.
pub(crate) fn runtime() {
    pocketmuse_cli::runtime::start(false).unwrap_or_else(|error| panic!("{error}"));
}

thread_local! {
    /// What this thread logs, if somebody wants to know.
    static LOGGED: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(text) = logged {
                writeln!(text, "{}: {}", record.target(), record.args()).expect("memory");
            }
        });
    }

    fn flush(&self) {}
}

/// What `run` logs, at any level, from its thread.
pub(crate) fn logged(run: impl FnOnce()) -> String {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Recorder).expect("no other logger in these tests");
        log::set_max_level(log::LevelFilter::Trace);
    });
    LOGGED.set(Some(String::new()));
    run();
    LOGGED.take().unwrap_or_default()
}
