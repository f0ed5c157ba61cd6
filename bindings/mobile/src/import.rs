//! A package comes from its archive into its folder, on a thread of its own.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use pocketmuse::{Cancel, Import, Subset, archive};

use crate::{
    error::{PocketMuseError, guard},
    kinds::Flavour,
    logging, threads,
};

/// Bytes between two calls of [`ImportListener::progress`].
const TOLD_BYTES: u64 = 1 << 20;

/// What of an archive is imported.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ImportOptions {
    /// The flavours to take. By default, with an empty list, all that the archive has.
    #[uniffi(default = [])]
    pub flavours: Vec<Flavour>,
    /// Whether the encoder stays behind, which only edits need. Not by default.
    #[uniffi(default = false)]
    pub without_encoder: bool,
    /// `Options.prepared` of whoever will open the package, a folder: it then reads no file again
    /// to check it. None by default.
    #[uniffi(default = None)]
    pub prepared: Option<String>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ImportProgress {
    /// Bytes of files that are in place. It begins above 0 where an earlier import left some.
    pub done_bytes: u64,
    /// Bytes of all files that are wanted.
    pub total_bytes: u64,
}

/// Who is told of an import. All calls come on its own thread, one after the other.
#[uniffi::export(foreign)]
pub trait ImportListener: Send + Sync {
    /// Told how far the import is: at its begin and its end, and about once for each MB. What it
    /// throws ends the import with that error.
    fn progress(&self, progress: ImportProgress) -> Result<(), PocketMuseError>;

    /// Told once, as the last call, how the import ended: `null` if the package is in its place,
    /// whole and checked.
    fn ended(&self, error: Option<PocketMuseError>) -> Result<(), PocketMuseError>;
}

/// An import that runs, or ran: what `Importer` of both languages is made of. Dropping it changes
/// nothing; the import goes on.
#[derive(uniffi::Object)]
pub struct NativeImporter {
    cancel: Cancel,
}

#[uniffi::export]
impl NativeImporter {
    /// Starts to import the archive at the path `archive` to the folder `target`, on a thread of
    /// its own. A package's folder will do as `archive`, too.
    ///
    /// It is written beside `target`, which appears when all of it is there and was checked. One
    /// that was stopped or killed is taken up again by the next import of the same package to the
    /// same target. While another process imports it there this one waits.
    #[uniffi::constructor]
    pub fn start(
        archive: String,
        target: String,
        options: ImportOptions,
        listener: Arc<dyn ImportListener>,
    ) -> Result<Arc<Self>, PocketMuseError> {
        guard(|| {
            logging::start();
            let cancel = Cancel::new();
            let import = Importing {
                archive: archive.into(),
                target: target.into(),
                import: options.into(),
                cancel: cancel.clone(),
            };
            threads::spawn(move || import.run(&*listener))?;
            Ok(Arc::new(Self { cancel }))
        })
    }

    /// Stops the import, at once but for a piece of 262 kB. It ends with `Cancelled`, unless it
    /// has ended already. Files that were whole stay beside the target, for the next import.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Removes what imports to the folder `target` that were stopped or killed have left beside it,
/// unless one is still at work.
#[uniffi::export]
pub fn discard_import(target: String) -> Result<(), PocketMuseError> {
    guard(|| Ok(archive::discard(target.as_ref())?))
}

impl From<ImportOptions> for Import {
    fn from(options: ImportOptions) -> Self {
        let ImportOptions { flavours, without_encoder, prepared } = options;
        let flavours = flavours.into_iter().map(Into::into).collect();
        let subset = Subset { flavours, without_encoder, target: None };
        Self { subset, prepared: prepared.map(Into::into) }
    }
}

struct Importing {
    archive: PathBuf,
    target: PathBuf,
    import: Import,
    cancel: Cancel,
}

impl Importing {
    fn run(self, listener: &dyn ImportListener) {
        let outcome = guard(|| self.execute(listener));
        threads::call_last("import", || listener.ended(outcome.err()));
    }

    fn execute(&self, listener: &dyn ImportListener) -> Result<(), PocketMuseError> {
        let (mut failure, mut told) = (None, None::<u64>);
        let imported = self.import.file(&self.archive, &self.target, |progress| {
            if self.cancel.is_cancelled() {
                return ControlFlow::Break(());
            }
            let (done_bytes, total_bytes) = (progress.done_bytes, progress.total_bytes);
            let is_due = told.is_none_or(|told| {
                done_bytes < told || done_bytes - told >= TOLD_BYTES || done_bytes == total_bytes
            });
            if is_due {
                told = Some(done_bytes);
                let progress = ImportProgress { done_bytes, total_bytes };
                failure = guard(|| threads::call(|| listener.progress(progress))).err();
            }
            if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match failure {
            Some(failure) => Err(failure),
            None => Ok(imported.map(drop)?),
        }
    }
}
