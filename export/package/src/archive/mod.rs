//! A package as one file: to write it, and to import it again. Knows no network.
//!
//! The file is a plain tar archive, uncompressed: `manifest.json` first, then the files that it
//! names, in its order ([`Manifest::files`]), nothing else. So one pass from any reader is enough:
//! every name, size and SHA-256 is known before its file comes. This crate's README says the rest.
//!
//! An import writes beside its target, and the target appears when all of it is there and was
//! checked. One that was stopped or killed is taken up again by the next import of the same
//! package to the same target: files that were whole are kept.

mod import;
mod part;
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

use self::{
    import::Import,
    read::{Archive, Folder, Source},
    stream::{Marked, Meter},
    write::ArchiveFile,
};
use crate::{Error, ErrorKind, FileEntry, MANIFEST, Manifest, Result, Subset, files};

/// The ending of a package's archive; `.tar` is good, too.
pub const ENDING: &str = "pocketmuse";

/// What an archive is called in errors that comes from a reader.
const UNNAMED: &str = "the archive";

/// How far a copy or an import has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files that are in place. It begins above 0 where an earlier import left some.
    pub done_bytes: u64,
    /// Bytes of all files that are wanted.
    pub total_bytes: u64,
}

/// What is told of progress, and says whether to go on.
type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Imports a package from an archive: makes the folder `target`, with `subset` of what the archive
/// holds.
///
/// `from` is read once, from its beginning to its end. `on_progress` is called for each piece of at
/// most 256 KiB, and while another process imports the same package to the same place, which is
/// waited for; `Break` stops the import. Returns the manifest of what is at `target`. If that is
/// there already and whole, it is left as it is.
///
/// # Errors
///
/// `PackageDamaged` if the archive is cut, altered, in another order or holds anything else;
/// `NoSpace` if the disk has too little room, which is checked first; `BadRequest` if something
/// else is at `target`, or for a flavour that the archive lacks; `Cancelled`; `Io`. Nothing is at
/// `target` then. Files that were whole stay beside it, for the next import; see [`discard`].
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
            import.receive(file, source.open(file)?, &mut meter)?;
        } else {
            source.skip(file, &mut meter)?;
        }
    }
    source.end()?;
    import.finish(&contents)?;
    Ok(contents.manifest)
}

/// What an archive or a folder holds, and what is wanted of it.
struct Contents {
    /// All files of the source, in their order.
    files: Vec<FileEntry>,
    /// What is wanted.
    manifest: Manifest,
    /// The wanted manifest's text.
    text: Vec<u8>,
    wanted: Vec<FileEntry>,
}

impl Contents {
    fn of(source: &mut impl Source, subset: &Subset) -> Result<Self> {
        let text = source.manifest()?;
        let within = |error: Error| error.within(source.at());
        let all = Manifest::parse(&text).map_err(|error| within(error.within(MANIFEST)))?;
        let manifest = all.subset(subset)?;
        // Whole, it stays as it is, with fields that this build does not know.
        let text = if manifest == all { text } else { manifest.to_json().into_bytes() };
        Ok(Self {
            files: distinct(&all).map_err(within)?,
            wanted: distinct(&manifest).map_err(within)?,
            manifest,
            text,
        })
    }

    fn wants(&self, file: &FileEntry) -> bool {
        self.wanted.contains(file)
    }

    fn total_bytes(&self) -> u64 {
        self.wanted.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// The files of a package in their order, each once.
///
/// A manifest from elsewhere may name one file twice, in two spellings, or take one's name for
/// another's folder.
fn distinct(manifest: &Manifest) -> Result<Vec<FileEntry>> {
    let mut files: Vec<FileEntry> = Vec::new();
    for file in manifest.files() {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    let refuse = |path: &str, found: &str| {
        let detail = format!("expected a name of its own for every file, found {found}");
        Err(Error::new(ErrorKind::PackageDamaged, format!("{path:?}"), detail))
    };
    // Not all file systems tell upper case from lower, so names have to differ without it.
    let mut names: Vec<String> = files.iter().map(|file| file.path.to_lowercase()).collect();
    names.push(MANIFEST.to_owned());
    for (index, file) in files.iter().enumerate() {
        let spelling: Vec<_> =
            Path::new(&file.path).components().map(|part| part.as_os_str()).collect();
        if spelling.join("/".as_ref()) != file.path.as_str() {
            return refuse(&file.path, "another spelling of it");
        }
        let name = &names[index];
        let clashes = names.iter().enumerate().any(|(other, text)| {
            other != index
                && text
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if clashes {
            return refuse(&file.path, "it twice");
        }
    }
    Ok(files)
}
