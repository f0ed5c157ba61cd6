//! The model inside: tiny-world's checkpoint, part of this binary, and its
//! package, exported once into the user's cache. Knows where things lie, not
//! what is in them.

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse::Runtime;
use pocketmuse_export::{
    Options, Progress,
    checkpoint::{Checkpoint, Contents},
};
use pocketmuse_package::{Digest, Error, ErrorKind, Flavour, Manifest, Result};

use crate::runtime;

/// The model's name.
pub const NAME: &str = "tiny-world";

/// Stands for the model and for the sources that turn it into a package; see `build.rs`.
const SOURCES: &str = env!("POCKETMUSE_BUNDLED_KEY");

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../models/tiny-world/", $path)))),*]
    };
}

/// The checkpoint's files.
pub const FILES: &Contents = files![
    "README.md",
    "calibration.txt",
    "generation_config.json",
    "model_index.json",
    "preview.rgb",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vqvae/config.json",
    "vqvae/diffusion_pytorch_model.safetensors",
];

/// The folder of the project's cache that holds this model's packages.
///
/// # Errors
///
/// `NotFound` if the user has no cache folder.
pub fn cache_folder() -> Result<PathBuf> {
    let cache = pocketmuse::library::cache_folder();
    cache.map(|cache| cache.join(NAME)).ok_or_else(|| {
        let detail =
            "expected a cache folder of this user, found no home: set XDG_CACHE_HOME to a folder";
        Error::new(ErrorKind::NotFound, "cache", detail)
    })
}

/// The package of this model in `cache` (see [`cache_folder`]), exported first if it is not there
/// or not whole. One that another version of this program or of ONNX Runtime measured is not used.
///
/// Two processes at once wait for each other, and one that is killed leaves nothing that another
/// would use.
///
/// # Errors
///
/// `Io` if `cache` cannot be written; `Cancelled` if `on_progress` breaks.
pub fn package(
    cache: &Path,
    flavour: Flavour,
    on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<PathBuf> {
    package_of(FILES, cache, flavour, on_progress)
}

fn package_of(
    files: &'static Contents,
    cache: &Path,
    flavour: Flavour,
    on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<PathBuf> {
    if let Some(package) = cached(cache, flavour) {
        return Ok(package);
    }
    runtime::start(false)?; // which measures the draft, and decides what it is called
    let package = cache.join(name(flavour));
    fs::create_dir_all(cache)
        .map_err(|error| Error::io(cache, error).with_advice(pocketmuse_setup::NO_CACHE))?;
    let _lock = lock(cache)?;
    if is_whole(&package) {
        return Ok(package);
    }
    remove_leftovers(cache);
    remove(&package)?; // whatever has its name
    let options = Options {
        flavours: vec![flavour],
        name: Some(NAME.to_owned()),
        overwrite: true,
        ..Options::default()
    };
    pocketmuse_export::export_opened(
        &Checkpoint::in_memory(NAME, files),
        &package,
        &options,
        |draft| runtime::calibrate(draft, &[]),
        on_progress,
    )?;
    Ok(package)
}

/// Removes the package that [`package`] would return, so that it is exported anew.
///
/// # Errors
///
/// `Io` if it cannot be removed.
pub fn discard(cache: &Path, flavour: Flavour) -> Result<()> {
    let Some(package) = cached(cache, flavour) else { return Ok(()) };
    let _lock = lock(cache)?;
    remove(&package)
}

/// The package that is there. Where there is no ONNX Runtime nobody can say which one measured a
/// package: then any of this flavour and these sources, which is good enough to check a request.
fn cached(cache: &Path, flavour: Flavour) -> Option<PathBuf> {
    if Runtime::start(None).is_ok() {
        return Some(cache.join(name(flavour))).filter(|package| is_whole(package));
    }
    let mut packages: Vec<_> =
        fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path()).collect();
    packages.sort();
    let (start, end) = (format!("{SOURCES}-"), format!("-{flavour}"));
    packages.into_iter().find(|package| {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start) && name.ends_with(&end) && is_whole(package)
    })
}

/// The name of a package of this flavour, which everything decides that shapes it: the sources and
/// the ONNX Runtime that measures it. Processors differ in the last bits of what is measured, which
/// is no reason to measure again.
fn name(flavour: Flavour) -> String {
    let build = Runtime::start(None).map(Runtime::build_info).unwrap_or_default();
    name_for(build, flavour)
}

fn name_for(build: &str, flavour: Flavour) -> String {
    let build = Digest::of(build.as_bytes()).to_string();
    format!("{SOURCES}-{}-{flavour}", &build[..8])
}

/// Waits until no other process makes or removes a package. Where a file system has no locks, the
/// worst is to export twice.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let lock = File::create(&path).map_err(|error| Error::io(&path, error))?;
    let _ = lock.lock();
    Ok(lock)
}

/// Whether every file is there with its size; the runtime checks their contents as it uses them.
fn is_whole(package: &Path) -> bool {
    Manifest::read(package)
        .is_ok_and(|manifest| manifest.files().all(|file| file.check_size(package).is_ok()))
}

/// Removes what a killed export left: everything with a temporary name, which nobody else can have
/// while this process holds the lock, and packages that are not whole. What cannot be removed is in
/// nobody's way.
fn remove_leftovers(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let temporary = path.extension().is_some_and(|ending| ending == "part");
        let torn = path.is_dir()
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SOURCES));
        if (temporary || (torn && !is_whole(&path)))
            && let Err(error) = remove(&path)
        {
            log::debug!("{error}");
        }
    }
}

/// Removes a file, a link or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use pocketmuse_package::{PATCH_VALUES, PREVIEW, files};

    use super::*;
    use crate::sources;

    fn in_repository(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
    }

    /// The files below a folder, by their paths in it, and their contents.
    fn files_below(root: &Path) -> Vec<(String, Vec<u8>)> {
        let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8");
                files.push((name.to_owned(), fs::read(&path).expect("read")));
            }
        }
        files.sort();
        files
    }

    /// A tiny checkpoint. It brings a table of previews along, as the bundled one does: nothing is
    /// measured.
    fn tiny() -> &'static Contents {
        static FILES: OnceLock<Vec<(&str, &[u8])>> = OnceLock::new();
        FILES.get_or_init(|| {
            let mut files = files_below(&in_repository("tests/fixtures/tiny-256"));
            let tokens = 48; // codebook_size in its config
            files.push((PREVIEW.to_owned(), vec![7; tokens * PATCH_VALUES]));
            let leak = |(name, bytes): (String, Vec<u8>)| (&*name.leak(), &*bytes.leak());
            files.into_iter().map(leak).collect()
        })
    }

    /// The package of a tiny checkpoint, as if that were the bundled one.
    fn package(
        cache: &Path,
        on_progress: impl FnMut(&Progress<'_>) -> ControlFlow<()>,
    ) -> Result<PathBuf> {
        package_of(tiny(), cache, Flavour::F32, on_progress)
    }

    #[test]
    fn the_checkpoint_is_whole() {
        let root = in_repository("models").join(NAME);
        let found = files_below(&root);
        assert!(found.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).eq(FILES.to_vec()));
        let checkpoint =
            pocketmuse_export::checkpoint::Checkpoint::open(&root).expect("a checkpoint");
        assert!(checkpoint.network("transformer").expect("a network").tensors().count() > 100);
    }

    #[test]
    fn is_exported_once_and_again_when_damaged() {
        let cache = tempfile::tempdir().expect("a folder");
        let exports = |cache: &Path| {
            let mut calls = 0;
            let package = package(cache, |_| {
                calls += 1;
                ControlFlow::Continue(())
            });
            (package.expect("a package"), calls > 0)
        };
        let (path, exported) = exports(cache.path());
        assert!(exported);
        assert_eq!(Manifest::read(&path).expect("a manifest").model.name, NAME);
        assert_eq!(exports(cache.path()), (path.clone(), false));
        fs::create_dir(cache.path().join(".killed.part")).expect("made");
        fs::write(cache.path().join("stray.part"), "").expect("written");
        fs::write(path.join("tokenizer.json"), "").expect("written");
        assert_eq!(exports(cache.path()), (path.clone(), true));
        let count = || fs::read_dir(cache.path()).expect("readable").count();
        assert_eq!(count(), 2, "the package and the lock");
        // Something else has the package's name.
        fs::remove_dir_all(&path).expect("removed");
        fs::write(&path, "a file").expect("written");
        assert_eq!(exports(cache.path()), (path, true));
        assert_eq!(count(), 2, "the package and the lock");
    }

    #[test]
    fn the_checkpoint_in_memory_makes_the_package_of_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let package = package(folder.path(), |_| ControlFlow::Continue(())).expect("a package");
        let checkpoint = folder.path().join("checkpoint");
        for (name, bytes) in tiny() {
            let path = checkpoint.join(name);
            fs::create_dir_all(files::parent(&path)).expect("made");
            fs::write(path, bytes).expect("written");
        }
        let options = Options {
            flavours: vec![Flavour::F32],
            name: Some(NAME.to_owned()),
            ..Options::default()
        };
        let made = pocketmuse_export::export(
            &checkpoint,
            &folder.path().join("of a folder"),
            &options,
            |_| panic!("its table is there"),
            |_| ControlFlow::Continue(()),
        );
        // whose digests are of all files
        assert_eq!(Manifest::read(&package).expect("a manifest"), made.expect("made").manifest);
    }

    #[test]
    #[cfg(unix)]
    fn links_and_odd_leftovers_are_in_nobodys_way() {
        use std::os::unix::fs::symlink;
        let (cache, elsewhere) = [(); 2].map(|()| tempfile::tempdir().expect("a folder")).into();
        let at = |name: &str| cache.path().join(name);
        fs::write(elsewhere.path().join("mine"), "kept").expect("written");
        for (target, name) in [
            (elsewhere.path(), "folder.part"),
            ("nowhere".as_ref(), "broken.part"),
            ("circle.part".as_ref(), "circle.part"),
            (elsewhere.path(), &format!("{SOURCES}-00000000-int4")),
        ] {
            symlink(target, at(name)).expect("linked");
        }
        fs::create_dir_all(at("deep.part/x.part/y")).expect("made");
        fs::write(at("deep.part/x.part/y/z"), "").expect("written");
        let made = package(cache.path(), |_| ControlFlow::Continue(()));
        assert!(is_whole(&made.unwrap_or_else(|error| panic!("{error}"))));
        assert!(elsewhere.path().join("mine").exists(), "links are removed, not what they name");
        assert_eq!(fs::read_dir(cache.path()).expect("readable").count(), 2);
    }

    #[test]
    fn a_package_of_another_runtime_or_source_is_made_again() {
        let cache = tempfile::tempdir().expect("a folder");
        let make = || package(cache.path(), |_| ControlFlow::Continue(()));
        let package = make().expect("a package");
        let name =
            |package: &Path| package.file_name().expect("a name").to_string_lossy().into_owned();
        let stale = [
            name_for("another build", Flavour::F32),
            name(&package).replacen(SOURCES, "0000000000000000", 1),
        ];
        for stale in stale.map(|name| cache.path().join(name)) {
            fs::rename(&package, &stale).expect("as if another had made it");
            let made = make().expect("a package");
            assert_eq!(made, package, "made again, not taken");
            assert!(is_whole(&stale), "another program may still use it");
        }
    }

    #[test]
    fn sources_decide_the_key() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(files::parent(&path)).expect("made");
            fs::write(path, text).expect("written");
        };
        for folder in sources::FOLDERS {
            write(&format!("{folder}/src/a.rs"), "1");
        }
        write(sources::LOCK, "1");
        let digest = || sources::digest(root.path()).expect("read");
        let mut found = vec![digest()];
        write("runtime/src/README.md", "a note");
        assert_eq!(digest(), found[0]);
        for change in ["export/src/a.rs", "runtime/src/a.rs", "runtime/measure/b.rs", "Cargo.lock"]
        {
            write(change, "2");
            assert!(!found.contains(&digest()), "{change}");
            found.push(digest());
        }
    }

    #[test]
    fn stopping_leaves_nothing_to_use() {
        let cache = tempfile::tempdir().expect("a folder");
        let stopped = package(cache.path(), |_| ControlFlow::Break(()));
        assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
        assert_eq!(fs::read_dir(cache.path()).expect("readable").count(), 1, "the lock");
    }
}
