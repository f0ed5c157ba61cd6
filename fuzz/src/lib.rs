//! What the targets share: a bound on memory, panics that count, inputs of several parts, and files
//! where the code under test wants files.

use std::{
    alloc::System,
    collections::BTreeSet,
    env, fs, panic,
    path::{Path, PathBuf},
    process,
    sync::Mutex,
};

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Stands between the parts of an input.
pub const BETWEEN: &[u8] = b"\n====\n";

/// Runs `target` with at most `most_bytes` more memory than there was before. A claim of more is
/// refused, as by a system that has no more: who does not ask aborts, which the fuzzer reports.
pub fn within<T>(most_bytes: usize, target: impl FnOnce() -> T) -> T {
    let limit = MEMORY.allocated().saturating_add(most_bytes);
    let is_set = MEMORY.set_limit(limit);
    let made = target();
    if is_set.is_ok() {
        let _ = MEMORY.set_limit(usize::MAX); // a higher limit is never refused
    }
    made
}

/// Lets panics of libraries pass that the code under test turns into errors; they are named once.
/// Its own abort as ever, even where they would be caught.
pub fn allow_panics_of_libraries() {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if !place.contains("/registry/src/") {
            eprintln!("{info}");
            process::abort();
        }
        let mut seen = SEEN.lock().unwrap_or_else(|poison| poison.into_inner());
        if seen.insert(place) {
            eprintln!("a library panicked: {info}");
        }
    }));
}

/// The parts of an input; those that it lacks are empty.
pub fn parts<const N: usize>(mut bytes: &[u8]) -> [&[u8]; N] {
    let mut parts = [&[][..]; N];
    for part in &mut parts {
        let end = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        let (found, rest) =
            end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + BETWEEN.len()..]));
        (*part, bytes) = (found, rest);
    }
    parts
}

/// A folder of this process alone, in the one that `SCRATCH` names or where temporary files are.
pub fn scratch() -> PathBuf {
    let root = env::var_os("SCRATCH").map_or_else(env::temp_dir, PathBuf::from);
    let folder = root.join(format!("pocketmuse-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).expect("a folder for files");
    folder
}

/// Writes a file of the scratch folder, with the folders above it.
pub fn write(path: &Path, bytes: &[u8]) {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).expect("a folder for files");
    }
    fs::write(path, bytes).expect("a file in a folder of our own");
}

/// A checkpoint of the fixtures, as `CHECKPOINT` says or beside this folder when it was built.
pub fn checkpoint() -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-512-f16");
    env::var_os("CHECKPOINT").map_or(fixture, PathBuf::from)
}

/// Copies a folder and what is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for files");
    for entry in fs::read_dir(from).expect("a checkpoint").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file of the checkpoint");
        }
    }
}

/// The manifest that requests and states are checked against.
pub const MANIFEST: &[u8] = include_bytes!("../seeds/manifest.json");
