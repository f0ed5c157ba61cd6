//! A package as one file: to write it, and to import it again. Knows no network.
//!
//! The file is a plain tar archive, uncompressed: `manifest.json` first, then the files that it
//! names, in its order ([`Manifest::files`]), nothing else. So one pass from any reader is enough:
//! every name, size and SHA-256 is known before its file comes. This crate's README says the rest.
//!
//! An import writes beside its target, and the target appears when all of it is there and was
//! checked. One that was stopped or killed is taken up again by the next import of the same
//! package to the same target: files that were whole are kept.

mod contents;
mod import;
mod part;
mod progress;
mod read;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::{
    fs,
    io::{Read, Seek},
    ops::ControlFlow,
    path::Path,
};

pub use self::progress::Progress;
use self::{
    contents::Contents,
    import::Import,
    progress::{Meter, OnProgress},
    read::{Archive, Folder, Source},
    stream::Marked,
    write::ArchiveFile,
};
use crate::{Error, ErrorKind, Manifest, Result, Subset, files};

/// The ending of a package's archive; `.tar` is good, too.
pub const ENDING: &str = "pocketmuse";

/// What an archive is called in errors that comes from a reader.
const UNNAMED: &str = "the archive";

/// Imports a package from an archive: makes the folder `target`, with `subset` of what the archive
/// holds.
///
/// `from` is read once, from its beginning to its end. `on_progress` is called for each piece of at
/// most 262 kB, and while another process imports the same package to the same place, which is
/// waited for; `Break` stops the import. Returns the manifest of what is at `target`. If that is
/// there already and whole, it is left as it is.
///
/// # Errors
///
/// `PackageDamaged` if the archive is cut, altered, in another order or holds anything else;
/// `PackageTooNew` if it is of a newer format; `NoSpace` if the disk has too little room, which is
/// checked first; `BadRequest` if something else is at `target`; `Unsupported` for a flavour that
/// the archive lacks; `Cancelled`; `Io`. Nothing is at `target` then. Files that were whole stay
/// beside it, for the next import; see [`discard`].
///
/// # Example
///
/// ```no_run
/// # use std::{fs::File, ops::ControlFlow};
/// use pocketmuse_package::{Subset, archive};
///
/// let from = File::open("amused-512.pocketmuse")?;
/// let target = "models/amused-512".as_ref();
/// archive::import(from, &Subset::default(), target, |progress| {
///     println!("{} of {} bytes", progress.done_bytes, progress.total_bytes);
///     ControlFlow::Continue(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn import(
    from: impl Read,
    subset: &Subset,
    target: &Path,
    mut on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest> {
    let mut archive = tar::Archive::new(Marked::new(from, UNNAMED));
    let source = Archive::of(&mut archive, UNNAMED)?;
    to_folder(source, subset, target, &mut on_progress)
}

/// As [`import`], from a reader that can seek: files that are not wanted, or are there from an
/// earlier import, are not read.
///
/// # Errors
///
/// As for [`import`].
pub fn import_seekable(
    from: impl Read + Seek,
    subset: &Subset,
    target: &Path,
    mut on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest> {
    let mut archive = tar::Archive::new(Marked::new(from, UNNAMED));
    let source = Archive::seekable(&mut archive, UNNAMED)?;
    to_folder(source, subset, target, &mut on_progress)
}

/// Copies `subset` of the package at `source`, a folder or an archive, to `target`: an archive if
/// its name ends in `.pocketmuse` or `.tar`, else a folder. Every file is checked on the way.
///
/// # Errors
///
/// As for [`import`]. An archive is written anew each time and replaces one of the same name.
pub fn copy(
    source: &Path,
    subset: &Subset,
    target: &Path,
    mut on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Manifest> {
    let on_progress: OnProgress<'_> = &mut on_progress;
    if fs::metadata(source).map_err(|error| Error::io(source, error))?.is_dir() {
        return copy_from(Folder::at(source), subset, target, on_progress);
    }
    let file = files::open_bounded(source, u64::MAX, ErrorKind::BadInput)?;
    let at = source.display().to_string();
    let mut archive = tar::Archive::new(Marked::new(file, &at));
    let source = Archive::seekable(&mut archive, &at)?;
    copy_from(source, subset, target, on_progress)
}

/// Whether a file of this name is an archive rather than a package's folder.
pub fn is_archive_name(path: &Path) -> bool {
    path.extension().is_some_and(|ending| {
        [ENDING, "tar"].iter().any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// Removes what imports to `target` that were stopped or killed have left beside it, unless one is
/// still at work.
///
/// # Errors
///
/// `Io` if it cannot be removed.
pub fn discard(target: &Path) -> Result<()> {
    part::discard(target)
}

fn copy_from(
    source: impl Source,
    subset: &Subset,
    target: &Path,
    on_progress: OnProgress<'_>,
) -> Result<Manifest> {
    if is_archive_name(target) {
        to_archive(source, subset, target, on_progress)
    } else {
        to_folder(source, subset, target, on_progress)
    }
}

fn to_archive(
    mut source: impl Source,
    subset: &Subset,
    target: &Path,
    on_progress: OnProgress<'_>,
) -> Result<Manifest> {
    let contents = Contents::of(&mut source, subset)?;
    let mut meter = Meter::new(contents.total_bytes(), on_progress);
    let mut archive = ArchiveFile::create(target, &contents)?;
    for file in &contents.files {
        if contents.wants(file) {
            archive.append(file, source.open(file)?, &mut meter)?;
        } else {
            source.skip(file, &mut meter)?;
        }
    }
    source.end()?;
    archive.finish()?;
    Ok(contents.manifest)
}

fn to_folder(
    mut source: impl Source,
    subset: &Subset,
    target: &Path,
    on_progress: OnProgress<'_>,
) -> Result<Manifest> {
    let contents = Contents::of(&mut source, subset)?;
    let mut meter = Meter::new(contents.total_bytes(), on_progress);
    let Some(mut import) = Import::begin(target, &contents, &mut meter)? else {
        return Ok(contents.manifest); // it is there
    };
    for file in &contents.files {
        if contents.wants(file) && !import.has(file) {
            let received = import.receive(file, source.open(file)?, &mut meter);
            let folder = files::parent(target);
            received.map_err(|error| part::with_room(error, folder, meter.left()))?;
        } else {
            source.skip(file, &mut meter)?;
        }
    }
    source.end()?;
    import.finish(&contents)?;
    Ok(contents.manifest)
}
