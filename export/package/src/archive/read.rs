//! Where a package comes from: an archive, or a folder.

use std::{
    io::{Read, Seek},
    path::Path,
};

use super::{
    progress::Meter,
    stream::{Marked, PIECE, unwrap},
};
use crate::{
    Error, ErrorKind, FileEntry, MANIFEST, Result, files,
    manifest::MAX_BYTES as MOST_MANIFEST_BYTES,
};

/// A package that is read from its manifest to its last file, once.
pub(super) trait Source {
    /// What it is called in errors.
    fn at(&self) -> String;

    /// The manifest's text, which comes first.
    fn manifest(&mut self) -> Result<Vec<u8>>;

    /// The contents of the next file, and what it is called in errors. They may be others than the
    /// manifest says.
    fn open(&mut self, file: &FileEntry) -> Result<(impl Read, String)>;

    /// Passes over the next file.
    fn skip(&mut self, file: &FileEntry, meter: &mut Meter<'_>) -> Result<()>;

    /// Checks that nothing comes after the last file.
    fn end(&mut self) -> Result<()>;
}

/// A package in its folder.
pub(super) struct Folder<'a> {
    root: &'a Path,
}

impl<'a> Folder<'a> {
    pub(super) fn at(root: &'a Path) -> Self {
        Self { root }
    }
}

impl Source for Folder<'_> {
    fn at(&self) -> String {
        self.root.display().to_string()
    }

    fn manifest(&mut self) -> Result<Vec<u8>> {
        let path = self.root.join(MANIFEST);
        files::read_bounded(&path, MOST_MANIFEST_BYTES, ErrorKind::PackageDamaged)
    }

    fn open(&mut self, file: &FileEntry) -> Result<(impl Read, String)> {
        file.check_size(self.root)?;
        let path = file.locate(self.root);
        let opened = files::open_bounded(&path, file.bytes, ErrorKind::PackageDamaged)?;
        Ok((opened, path.display().to_string()))
    }

    fn skip(&mut self, _: &FileEntry, _: &mut Meter<'_>) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A package in an archive.
pub(super) struct Archive<'a, R: Read> {
    /// Raw: the names of the format itself. An extension may make one of any length.
    entries: tar::Entries<'a, Marked<R>>,
    at: String,
    /// Whether what is not read is passed over without reading.
    seeks: bool,
}

impl<'a, R: Read> Archive<'a, R> {
    pub(super) fn of(
        archive: &'a mut tar::Archive<Marked<R>>,
        at: impl Into<String>,
    ) -> Result<Self> {
        let at = at.into();
        let entries = archive.entries().map_err(|error| unwrap(&at, error))?;
        Ok(Self { entries: entries.raw(true), at, seeks: false })
    }

    /// The next entry, which must be called `name`, and its size.
    fn next(&mut self, name: &str) -> Result<(tar::Entry<'a, Marked<R>>, u64)> {
        let next = self.entries.next();
        let wrong = |found: &str| self.unexpected(&format!("expected {name}, found {found}"));
        let entry = match next {
            None => return Err(wrong("the end")),
            Some(Err(error)) => return Err(self.unreadable(error)),
            Some(Ok(entry)) => entry,
        };
        let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(wrong(&format!("{found:?}, which is no file")));
        }
        if found != name {
            return Err(wrong(&format!("{found:?}")));
        }
        let bytes = entry.size();
        Ok((entry, bytes))
    }

    fn file(&mut self, file: &FileEntry) -> Result<tar::Entry<'a, Marked<R>>> {
        let (entry, bytes) = self.next(&file.path)?;
        if bytes != file.bytes {
            let detail = format!("expected {} of {} bytes, found {bytes}", file.path, file.bytes);
            return Err(self.unexpected(&detail));
        }
        Ok(entry)
    }

    fn unexpected(&self, detail: &str) -> Error {
        Error::new(ErrorKind::PackageDamaged, self.at.as_str(), detail)
    }

    /// What the reader says goes on as it is; what the archive's format says means damage.
    fn unreadable(&self, error: std::io::Error) -> Error {
        error.downcast::<Error>().unwrap_or_else(|error| {
            self.unexpected(&format!("expected an archive of a package, found: {error}"))
        })
    }
}

impl<'a, R: Read + Seek> Archive<'a, R> {
    pub(super) fn seekable(
        archive: &'a mut tar::Archive<Marked<R>>,
        at: impl Into<String>,
    ) -> Result<Self> {
        let at = at.into();
        let entries = archive.entries_with_seek().map_err(|error| unwrap(&at, error))?;
        Ok(Self { entries: entries.raw(true), at, seeks: true })
    }
}

impl<R: Read> Source for Archive<'_, R> {
    fn at(&self) -> String {
        self.at.clone()
    }

    fn manifest(&mut self) -> Result<Vec<u8>> {
        let (entry, bytes) = self.next(MANIFEST)?;
        let at = format!("{}: {MANIFEST}", self.at);
        let text = files::read_stream(entry, &at, MOST_MANIFEST_BYTES, ErrorKind::PackageDamaged)?;
        if text.len() as u64 != bytes {
            let detail = format!("expected {bytes} bytes, found the end after {}", text.len());
            return Err(Error::new(ErrorKind::PackageDamaged, at, detail));
        }
        Ok(text)
    }

    fn open(&mut self, file: &FileEntry) -> Result<(impl Read, String)> {
        let entry = self.file(file)?;
        Ok((entry, format!("{}: {}", self.at, file.path)))
    }

    fn skip(&mut self, file: &FileEntry, meter: &mut Meter<'_>) -> Result<()> {
        let mut entry = self.file(file)?;
        if self.seeks {
            return Ok(());
        }
        let mut piece = vec![0; PIECE];
        loop {
            match entry.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(_) => meter.add(0)?,
                Err(error) => return Err(unwrap(&self.at, error)),
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        match self.entries.next() {
            None => Ok(()),
            Some(Err(error)) => Err(self.unreadable(error)),
            Some(Ok(entry)) => {
                let found = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                Err(self.unexpected(&format!("expected the end, found {found:?}")))
            }
        }
    }
}
