//! A package goes into one file.

use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    contents::Contents,
    progress::Meter,
    stream::{Checked, PIECE, unwrap},
};
use crate::{Error, ErrorKind, FileEntry, MANIFEST, Result, files, files::NewFile};

/// What a tar archive adds to a file at most: its header and what fills its last block.
const FRAME_BYTES: u64 = 1024;

/// An archive that is being written; dropped before its end, it leaves nothing behind.
pub(super) struct ArchiveFile {
    builder: tar::Builder<NewFile>,
    path: PathBuf,
}

impl ArchiveFile {
    pub(super) fn create(path: &Path, contents: &Contents) -> Result<Self> {
        let frames = FRAME_BYTES * (contents.wanted.len() as u64 + 2);
        let bytes = contents.total_bytes().saturating_add(contents.text.len() as u64 + frames);
        files::check_room(files::parent(path), bytes)?;
        let mut builder = tar::Builder::new(NewFile::create(path)?);
        let header = header(MANIFEST, contents.text.len() as u64)?;
        builder
            .append(&header, contents.text.as_slice())
            .map_err(|error| unwrap(&path.display().to_string(), error))?;
        Ok(Self { builder, path: path.to_owned() })
    }

    /// Adds a file, whose contents are checked on the way.
    pub(super) fn append(
        &mut self,
        file: &FileEntry,
        from: (impl Read, String),
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let mut checked = Checked::new(file, from, meter);
        self.builder
            .append(&header(&file.path, file.bytes)?, BufReader::with_capacity(PIECE, &mut checked))
            .map_err(|error| unwrap(&self.path.display().to_string(), error))?;
        checked.finish()
    }

    pub(super) fn finish(self) -> Result<()> {
        let at = self.path.display().to_string();
        self.builder.into_inner().map_err(|error| unwrap(&at, error))?.finish()
    }
}

/// The header of a file, the same for the same file: no owner, no time.
fn header(path: &str, bytes: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).map_err(|error| {
        let detail = format!("expected a path that fits into an archive, found: {error}");
        Error::new(ErrorKind::PackageDamaged, path, detail)
    })?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}
