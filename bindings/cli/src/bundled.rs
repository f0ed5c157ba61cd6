//! The model inside: tiny-world's checkpoint, part of this binary, and its
//! package, exported once into the user's cache. Knows where things lie, not
//! what is in them.

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse_export::{Options, Progress};
use pocketmuse_package::{
    Error, ErrorKind, Flavour, Manifest, Result,
    files::{self, TemporaryFolder},
};

use crate::runtime;

/// The model's name.
pub const NAME: &str = "tiny-world";

/// Stands for the model and for everything that turns it into a package; see `build.rs`.
const KEY: &str = env!("POCKETMUSE_BUNDLED_KEY");

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../models/tiny-world/", $path)))),*]
    };
}

/// The checkpoint's files.
pub const FILES: &[(&str, &[u8])] = files![
    "README.md",
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

/// Writes the checkpoint into the existing folder `folder`, in the hub layout.
///
/// # Errors
///
/// `Io` if it cannot be written.
pub fn write_checkpoint(folder: &Path) -> Result<()> {
    FILES.iter().try_for_each(|(name, bytes)| {
        let path = folder.join(name);
        let written =
            fs::create_dir_all(files::parent(&path)).and_then(|()| fs::write(&path, bytes));
        written.map_err(|error| Error::io(&path, error))
    })
}

/// The folder of the project's cache that holds this model's packages.
///
/// # Errors
///
/// `Io` if the user has no cache folder.
pub fn cache_folder() -> Result<PathBuf> {
    let cache = pocketmuse::library::cache_folder();
    cache.map(|cache| cache.join(NAME)).ok_or_else(|| {
        let detail =
            "expected a cache folder of this user, found no home: set XDG_CACHE_HOME to a folder";
        Error::new(ErrorKind::Io, "cache", detail)
    })
}

/// The package of this model in `cache` (see [`cache_folder`]), exported first if it is not there
/// or not whole.
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
    let package = cache.join(format!("{KEY}-{flavour}"));
    if is_whole(&package) {
        return Ok(package);
    }
    fs::create_dir_all(cache).map_err(|error| Error::io(cache, error))?;
    let lock = cache.join("lock");
    let lock = File::create(&lock).map_err(|error| Error::io(&lock, error))?;
    let _ = lock.lock(); // where a file system has no locks, the worst is to export twice
    if is_whole(&package) {
        return Ok(package);
    }
    remove_leftovers(cache)?;
    let checkpoint = TemporaryFolder::beside(&cache.join("checkpoint"))?;
    write_checkpoint(checkpoint.path())?;
    let options = Options { flavours: vec![flavour], name: Some(NAME.to_owned()), overwrite: true };
    pocketmuse_export::export(
        checkpoint.path(),
        &package,
        &options,
        runtime::calibrate,
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
    let package = cache.join(format!("{KEY}-{flavour}"));
    let lock = cache.join("lock");
    let lock = File::create(&lock).map_err(|error| Error::io(&lock, error))?;
    let _ = lock.lock();
    match fs::remove_dir_all(&package) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&package, error)),
        _ => Ok(()),
    }
}

/// Whether every file is there with its size; the runtime checks their contents as it uses them.
fn is_whole(package: &Path) -> bool {
    Manifest::read(package)
        .is_ok_and(|manifest| manifest.files().all(|file| file.check_size(package).is_ok()))
}

/// Removes what a killed export left: everything with a temporary name, which nobody else can have
/// while this process holds the lock, and a package that is not whole.
fn remove_leftovers(cache: &Path) -> Result<()> {
    let at = |error| Error::io(cache, error);
    for entry in fs::read_dir(cache).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let temporary = path.extension().is_some_and(|ending| ending == "part");
        let torn = path.is_dir()
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(KEY));
        if temporary || (torn && !is_whole(&path)) {
            fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        write_checkpoint(folder.path()).expect("written");
        let checkpoint =
            pocketmuse_export::checkpoint::Checkpoint::open(folder.path()).expect("a checkpoint");
        assert!(checkpoint.network("transformer").expect("a network").tensors().count() > 100);
    }

    #[test]
    fn is_exported_once_and_again_when_damaged() {
        let cache = tempfile::tempdir().expect("a folder");
        let exports = |cache: &Path| {
            let mut calls = 0;
            let package = package(cache, Flavour::F32, |_| {
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
        fs::write(path.join("tokenizer.json"), "").expect("written");
        assert_eq!(exports(cache.path()), (path, true));
        assert_eq!(
            fs::read_dir(cache.path()).expect("readable").count(),
            2,
            "the package and the lock"
        );
    }

    #[test]
    fn stopping_leaves_nothing_to_use() {
        let cache = tempfile::tempdir().expect("a folder");
        let stopped = package(cache.path(), Flavour::F32, |_| ControlFlow::Break(()));
        assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Cancelled);
        assert_eq!(fs::read_dir(cache.path()).expect("readable").count(), 1, "the lock");
    }
}
