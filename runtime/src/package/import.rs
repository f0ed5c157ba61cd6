//! A package comes from an archive into its folder, and what was checked on the way is kept.

use std::{
    io::Read,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::SystemTime,
};

use pocketmuse_package::{
    Manifest, Result, Subset,
    archive::{self, Progress},
};

use super::prepared::Prepared;

/// How a package is imported: written beside its place, every file checked on the way, given its
/// name when it is whole. An import that was stopped or killed goes on where it was.
///
/// # Example
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use pocketmuse::Import;
///
/// let import = Import { prepared: Some("cache/prepared".into()), ..Import::default() };
/// let target = "models/amused-512".as_ref();
/// import.file("amused-512.pocketmuse".as_ref(), target, |progress| {
///     println!("{} of {} bytes", progress.done_bytes, progress.total_bytes);
///     ControlFlow::Continue(())
/// })?;
/// # Ok::<(), pocketmuse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// What of the archive is wanted.
    pub subset: Subset,
    /// [`Options::prepared`](crate::Options::prepared) of whoever will open the package: it then
    /// reads no file again to check it.
    pub prepared: Option<PathBuf>,
}

impl Import {
    /// Imports the archive that comes from `from`, which is read once, to the folder `target`.
    ///
    /// `on_progress` is called for each piece of at most 262 kB, and while another process imports
    /// the same package to the same place, which is waited for; `Break` stops the import.
    ///
    /// # Errors
    ///
    /// As for [`archive::import`].
    pub fn stream(
        &self,
        from: impl Read,
        target: &Path,
        on_progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Manifest> {
        let manifest = archive::import(from, &self.subset, target, on_progress)?;
        self.keep(target, &manifest);
        Ok(manifest)
    }

    /// Imports the archive, or another package's folder, at `source`. As [`Self::stream`], but what
    /// is not wanted, or is there from an earlier import, is not read.
    ///
    /// # Errors
    ///
    /// As for [`archive::copy`].
    pub fn file(
        &self,
        source: &Path,
        target: &Path,
        on_progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Manifest> {
        let manifest = archive::copy(source, &self.subset, target, on_progress)?;
        self.keep(target, &manifest);
        Ok(manifest)
    }

    /// Keeps that all files of the package were checked. Without, they are checked once more.
    fn keep(&self, target: &Path, manifest: &Manifest) {
        let Some(folder) = self.prepared.as_deref().filter(|_| target.is_dir()) else { return };
        let kept = Prepared::keep_imported(folder, target, manifest, SystemTime::now());
        if let Err(error) = kept {
            log::warn!("the package is checked again when it is opened: {error}");
        }
    }
}
