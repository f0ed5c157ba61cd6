//! Bringing the pinned ONNX Runtime into the project's cache, once, through an
//! ordinary package client. Knows where the runtime looks for it; never loads it.

mod clients;
mod pinned;
mod unpack;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use pocketmuse_package::{Digest, Error, ErrorKind, Result, files};

pub use pinned::{NPM_PACKAGE, PINNED, Pinned, Source, WHEEL, for_this_machine};
pub use unpack::{from_file, from_wheel};

/// What is in the cache afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The library.
    pub path: PathBuf,
    /// Its version: the pinned one, or npm's newest where only npm could bring it.
    pub version: &'static str,
    /// Whether it had to be brought.
    pub fresh: bool,
}

/// Where the library belongs: the place in the project's cache where the runtime looks.
///
/// # Errors
///
/// `Runtime` if the user has no cache folder.
pub fn destination() -> Result<PathBuf> {
    pocketmuse::library::cached().ok_or_else(|| {
        let detail = "expected a cache folder of this user, found no home: set XDG_CACHE_HOME, or name a library of \
                      your own with ORT_DYLIB_PATH";
        Error::new(ErrorKind::Runtime, "setup", detail)
    })
}

/// Makes sure that the pinned library is in the project's cache, bringing it if it is not there,
/// not whole, or if `force` is set. Two at once wait for each other. `say` is told what is about to
/// happen.
///
/// # Errors
///
/// `Runtime` if no client could bring it, with what each of them said; `Io` if the cache cannot be
/// written.
pub fn ensure(force: bool, mut say: impl FnMut(&str)) -> Result<Brought> {
    let pinned = for_this_machine()?;
    let path = destination()?;
    let folder = files::parent(&path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let lock = folder.join("lock");
    let lock = File::create(&lock).map_err(|error| Error::io(&lock, error))?;
    let _ = lock.lock(); // where a file system has no locks, the worst is to bring it twice
    if !force && let Some(version) = what_lies_at(&path, pinned) {
        return Ok(Brought { path, version, fresh: false });
    }
    let version = bring(pinned, &path, &mut say)?;
    Ok(Brought { path, version, fresh: true })
}

/// The version of the library at `path`, if it is one of the pinned ones, byte for byte.
fn what_lies_at(path: &Path, pinned: &Pinned) -> Option<&'static str> {
    let found = Digest::of_file(path).ok()?.to_string();
    let known =
        std::iter::once((pinned.wheel, WHEEL.1)).chain(pinned.npm.map(|npm| (npm, NPM_PACKAGE.1)));
    known.into_iter().find(|(source, _)| source.sha256 == found).map(|(_, version)| version)
}

fn bring(pinned: &Pinned, path: &Path, say: &mut dyn FnMut(&str)) -> Result<&'static str> {
    let mut refusals = Vec::new();
    say(&format!("bringing ONNX Runtime {} (pinned) through pip, once", WHEEL.1));
    match by_pip(&pinned.wheel, path)? {
        Ok(()) => return Ok(WHEEL.1),
        Err(refusal) => refusals.push(refusal),
    }
    if let Some(library) = &pinned.npm {
        say(&format!(
            "pip could not; bringing ONNX Runtime {} (pinned) through npm, once",
            NPM_PACKAGE.1
        ));
        match by_npm(library, path)? {
            Ok(()) => return Ok(NPM_PACKAGE.1),
            Err(refusal) => refusals.push(refusal),
        }
    }
    // Only where pip itself is missing can installing it help.
    if refusals[0].ends_with("not found") {
        match clients::apt(say) {
            Ok(()) => match by_pip(&pinned.wheel, path)? {
                Ok(()) => return Ok(WHEEL.1),
                Err(refusal) => refusals.push(refusal),
            },
            Err(refusal) => refusals.push(refusal),
        }
    }
    let detail = format!(
        "no package client could bring ONNX Runtime {}; {}; install pip or npm and run: pocketmuse setup, or name a \
         library of your own with ORT_DYLIB_PATH",
        WHEEL.1,
        refusals.join("; ")
    );
    Err(Error::new(ErrorKind::Runtime, "setup", detail))
}

fn by_pip(wheel: &Source, path: &Path) -> Result<Result<(), clients::Refusal>> {
    let folder = download_folder(path)?;
    Ok(match clients::pip(wheel, folder.path()) {
        Ok(file) => {
            from_wheel(&file, wheel.member, digest(wheel), path)?;
            Ok(())
        }
        Err(refusal) => Err(refusal),
    })
}

fn by_npm(library: &Source, path: &Path) -> Result<Result<(), clients::Refusal>> {
    let folder = download_folder(path)?;
    Ok(match clients::npm(library, folder.path()) {
        Ok(file) => {
            from_file(&file, digest(library), path)?;
            Ok(())
        }
        Err(refusal) => Err(refusal),
    })
}

/// Downloads go beside the library, where there is room for it, and are removed.
fn download_folder(path: &Path) -> Result<tempfile::TempDir> {
    let folder = files::parent(path);
    tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(folder)
        .map_err(|error| Error::io(folder, error))
}

fn digest(source: &Source) -> Digest {
    source.sha256.parse().expect("the table holds digests, and a test says so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_bytes_count_as_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("libonnxruntime.so");
        let source = Source {
            tag: "",
            member: "",
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        };
        let pinned = Pinned { platform: ("", ""), wheel: source, npm: None };
        assert_eq!(what_lies_at(&path, &pinned), None);
        fs::write(&path, "ab").expect("written"); // a download that was cut off
        assert_eq!(what_lies_at(&path, &pinned), None);
        fs::write(&path, "abc").expect("written");
        assert_eq!(what_lies_at(&path, &pinned), Some(WHEEL.1));
    }
}
