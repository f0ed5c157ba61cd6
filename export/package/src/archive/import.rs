//! A package takes its place as a folder, file by file.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    contents::Contents,
    part::Part,
    progress::Meter,
    stream::{Checked, PIECE, unwrap},
};
use crate::{Digest, Error, ErrorKind, FileEntry, MANIFEST, Manifest, Result, files};

/// Between two looks at whether another process is done.
const WAIT: Duration = Duration::from_millis(50);

/// A folder that is being made.
pub(super) struct Import {
    part: Part,
    target: PathBuf,
    /// Whole files, of this import and of earlier ones.
    whole: Vec<FileEntry>,
}

impl Import {
    /// Begins a folder that will be called `target`, with what an earlier import left; `None` if it
    /// is there already.
    pub(super) fn begin(
        target: &Path,
        contents: &Contents,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Self>> {
        let parent = files::parent(target);
        if !parent.is_dir() {
            let detail = "expected a folder, found none";
            return Err(Error::new(ErrorKind::NotFound, parent.display().to_string(), detail));
        }
        let digest = Digest::of(&contents.text);
        let mut waited = false;
        let mut part = loop {
            meter.add(0)?;
            if let Some(part) = Part::take(target, digest)? {
                break part;
            }
            waited = true;
            thread::sleep(WAIT);
        };
        part.keep(false); // until something is in it
        if fs::symlink_metadata(target).is_ok() {
            check_present(target, contents, waited, meter)?;
            return Ok(None);
        }
        let whole: Vec<_> = contents
            .wanted
            .iter()
            .filter(|file| file.check_size(&part.package()).is_ok())
            .cloned()
            .collect();
        part.keep(!whole.is_empty());
        let whole_bytes = whole.iter().map(|file| file.bytes).sum();
        let missing = contents.total_bytes().saturating_sub(whole_bytes);
        files::check_room(parent, missing.saturating_add(contents.text.len() as u64))?;
        meter.restart(whole_bytes)?;
        Ok(Some(Self { part, target: target.to_owned(), whole }))
    }

    /// Whether a file is there and whole.
    pub(super) fn has(&self, file: &FileEntry) -> bool {
        self.whole.contains(file)
    }

    /// Writes a file, whose contents are checked on the way.
    pub(super) fn receive(
        &mut self,
        file: &FileEntry,
        from: (impl io::Read, String),
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let incoming = self.part.incoming();
        let at = self.target.join(&file.path).display().to_string();
        let failed = |error| Error::io(&at, error);
        let mut out = File::create(&incoming).map_err(failed)?;
        let mut checked = Checked::new(file, from, meter);
        copy(&mut checked, &mut out).map_err(|error| unwrap(&at, error))?;
        checked.finish()?;
        out.sync_all().map_err(failed)?;
        let place = file.locate(&self.part.package());
        fs::create_dir_all(files::parent(&place))
            .and_then(|()| fs::rename(&incoming, &place))
            .map_err(failed)?;
        self.whole.push(file.clone());
        self.part.keep(true);
        Ok(())
    }

    /// Gives the folder its name.
    pub(super) fn finish(mut self, contents: &Contents) -> Result<()> {
        let at = self.target.display().to_string();
        let failed = |error| Error::io(&at, error);
        let package = self.part.package();
        let stages = contents.manifest.flavours.values().flat_map(|flavour| &flavour.stages);
        for (_, stage) in stages {
            // What is refused is of no use to the next import.
            stage.check_graph(&package).inspect_err(|_| self.part.keep(false))?;
        }
        files::write(&package.join(MANIFEST), |out| io::Write::write_all(out, &contents.text))?;
        match fs::rename(&package, &self.target) {
            Ok(()) => {}
            Err(error) if fs::symlink_metadata(&self.target).is_ok() => {
                // Something that is no import of this package came in between.
                return Err(taken(&self.target, &error.to_string()));
            }
            Err(error) => return Err(failed(error)),
        }
        self.part.keep(false);
        Ok(())
    }
}

/// Checks that what is at `target` is what is wanted. `made_now` says that another import has just
/// made it: then its contents need not be read again.
fn check_present(
    target: &Path,
    contents: &Contents,
    made_now: bool,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let differs = |error: Error| taken(target, &error.to_string());
    let present = Manifest::read(target).map_err(differs)?;
    if present != contents.manifest {
        return Err(taken(target, "another package"));
    }
    for file in &contents.wanted {
        file.check_size(target).map_err(differs)?;
        if made_now {
            meter.add(file.bytes)?;
            continue;
        }
        let path = file.locate(target);
        let opened = File::open(&path).map_err(|error| Error::io(&path, error))?;
        let mut checked = Checked::new(file, (opened, path.display().to_string()), meter);
        copy(&mut checked, &mut io::sink()).map_err(|error| unwrap("", error))?;
        checked.finish().map_err(differs)?;
    }
    Ok(())
}

/// Copies in pieces of the reader's size: `io::copy` takes 8 kB at once.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => to.write_all(&piece[..count])?,
        }
    }
}

fn taken(target: &Path, found: &str) -> Error {
    let detail = format!("expected nothing, or this package whole, found {found}: remove it first");
    Error::new(ErrorKind::BadRequest, target.display().to_string(), detail)
}
