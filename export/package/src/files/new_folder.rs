//! Folders that appear whole or not at all.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    TemporaryFolder, cannot_sync, follow_links, parent, sweep, sync_folder, temporary::OLD,
};
use crate::{Error, ErrorKind, Result};

/// In the temporary folder: what is being written, and after a swap what was there before.
const NEW: &str = "new";

/// A folder that is filled under a temporary name and then takes its own.
///
/// Dropped before [`NewFolder::finish`], it leaves nothing behind. What a killed process left in
/// the same place long ago is removed when one begins.
#[derive(Debug)]
pub struct NewFolder {
    temporary: TemporaryFolder,
    contents: PathBuf,
    target: PathBuf,
    overwrite: bool,
}

impl NewFolder {
    /// Begins a folder that will be called `path`; if that is a link, the folder it leads to.
    ///
    /// # Errors
    ///
    /// `BadRequest` if `path` exists and `overwrite` is false, or has no name; `Io` if its parent
    /// is missing or cannot be written to.
    pub fn begin(path: &Path, overwrite: bool) -> Result<Self> {
        if path.file_name().is_none() {
            let detail = "expected a path that ends in a name";
            return Err(Error::new(ErrorKind::BadRequest, path.display().to_string(), detail));
        }
        let target = follow_links(path)?;
        sweep(parent(&target));
        if !overwrite && fs::symlink_metadata(&target).is_ok() {
            return Err(taken(path));
        }
        let temporary = TemporaryFolder::beside(&target)?;
        let contents = temporary.path().join(NEW);
        fs::create_dir(&contents).map_err(|error| Error::io(&contents, error))?;
        Ok(Self { temporary, contents, target, overwrite })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        &self.contents
    }

    /// Gives the folder its name when all of it is on the disk; what had the name before is removed
    /// afterwards.
    ///
    /// # Errors
    ///
    /// `BadRequest` if another process put something there meanwhile and it is not to be replaced;
    /// `Io` if the folder cannot be written or renamed. Then what was there before is still there.
    pub fn finish(self) -> Result<()> {
        self.finish_by(&Native)
    }

    fn finish_by(self, renames: &impl Renames) -> Result<()> {
        let failed = |error| Error::io(&self.target, error);
        sync_all(&self.contents).map_err(failed)?;
        if !self.overwrite {
            renames.rename_new(&self.contents, &self.target).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                        taken(&self.target)
                    }
                    _ => failed(error),
                }
            })?;
        } else if renames.swap(&self.contents, &self.target).is_err() {
            // Nothing is there yet, or the system cannot swap.
            let old = self.temporary.path().join(OLD);
            let moved = match renames.rename(&self.target, &old) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(failed(error)),
            };
            if let Err(error) = renames.rename(&self.contents, &self.target) {
                if moved && renames.rename(&old, &self.target).is_err() {
                    let kept = self.temporary.keep().join(OLD);
                    let detail = format!("{error}: what was there is now {}", kept.display());
                    return Err(Error::new(
                        error.kind().into(),
                        self.target.display().to_string(),
                        detail,
                    )
                    .with_source(error));
                }
                return Err(failed(error));
            }
        }
        sync_folder(parent(&self.target)).map_err(failed)?;
        let temporary = self.temporary.path().to_owned();
        if let Err(error) = self.temporary.remove() {
            log::warn!("{}: cannot be removed: {error}", temporary.display());
        }
        Ok(())
    }
}

fn taken(path: &Path) -> Error {
    let detail =
        "expected a new folder, found something there: choose another name or give --force";
    Error::new(ErrorKind::BadRequest, path.display().to_string(), detail)
}

/// Brings a folder and all that is in it to the disk.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(&entry.path())?;
        } else if kind.is_file() {
            // Elsewhere than on Unix only a file that may be written to can be synced.
            let file = File::options().read(true).write(!cfg!(unix)).open(entry.path())?;
            match file.sync_all() {
                Err(error) if !cannot_sync(&error) => return Err(error),
                _ => {}
            }
        }
    }
    sync_folder(folder)
}

/// What gives things names; a test lets it fail.
trait Renames {
    /// Swaps two names at once, where the system can.
    fn swap(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames to a name that nothing has.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

struct Native;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
impl Renames for Native {
    fn swap(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                rename_checked(from, to) // not every file system can
            }
            renamed => renamed,
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
impl Renames for Native {
    fn swap(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_checked(from, to)
    }
}

fn rename_checked(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("an entry").file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// A folder with the file `file` in it, ready to be called `path`.
    fn begun(path: &Path, overwrite: bool, file: &str) -> NewFolder {
        let begun = NewFolder::begin(path, overwrite).expect("begun");
        fs::write(begun.path().join(file), "1").expect("written");
        begun
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("model");
        drop(begun(&path, false, "a"));
        assert!(entries(root.path()).is_empty());
        let begun = begun(&path, false, "a");
        assert!(!path.exists());
        begun.finish().expect("finished");
        assert_eq!(
            (entries(root.path()), entries(&path)),
            (vec!["model".into()], vec!["a".into()])
        );
    }

    #[test]
    fn an_existing_folder_needs_force_and_is_replaced_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("model");
        begun(&path, false, "old").finish().expect("finished");
        let error = NewFolder::begin(&path, false).expect_err("exists");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        begun(&path, true, "new").finish().expect("finished");
        let found = (entries(root.path()), entries(&path));
        assert_eq!(found, (vec!["model".into()], vec!["new".into()]));
    }

    #[test]
    fn a_folder_of_another_process_is_never_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("model");
        let (first, second) = (begun(&path, false, "first"), begun(&path, false, "second"));
        first.finish().expect("finished");
        assert_eq!(second.finish().expect_err("taken").kind(), ErrorKind::BadRequest);
        assert_eq!((entries(root.path()).len(), entries(&path)), (1, vec!["first".into()]));
    }

    /// Cannot swap; its renames fail from the `nth` on, as often as `failures` says.
    struct Failing {
        nth: usize,
        failures: usize,
        calls: Cell<usize>,
    }

    impl Renames for Failing {
        fn swap(&self, _: &Path, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.rename(from, to)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.calls.set(self.calls.get() + 1);
            if (self.nth..self.nth + self.failures).contains(&self.calls.get()) {
                return Err(io::Error::other("injected"));
            }
            fs::rename(from, to)
        }
    }

    #[test]
    fn a_rename_that_fails_leaves_what_was_there() {
        for (nth, expected) in [(1, "old"), (2, "old"), (9, "new")] {
            let root = tempfile::tempdir().expect("a folder");
            let path = root.path().join("model");
            begun(&path, false, "old").finish().expect("finished");
            let renames = Failing { nth, failures: 1, calls: Cell::new(0) };
            let finished = begun(&path, true, "new").finish_by(&renames);
            assert_eq!(finished.is_ok(), expected == "new", "{nth}");
            assert_eq!((entries(root.path()).len(), entries(&path)), (1, vec![expected.into()]));
        }
    }

    #[test]
    fn what_cannot_be_put_back_is_kept_and_named() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("model");
        begun(&path, false, "old").finish().expect("finished");
        let renames = Failing { nth: 2, failures: 2, calls: Cell::new(0) };
        let error = begun(&path, true, "new").finish_by(&renames).expect_err("failed").to_string();
        let (_, kept) = error.split_once("what was there is now ").expect("it says where");
        assert_eq!(entries(Path::new(kept)), ["old"], "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_stays_one() {
        let root = tempfile::tempdir().expect("a folder");
        let (link, path) = (root.path().join("link"), root.path().join("model"));
        begun(&path, false, "old").finish().expect("finished");
        std::os::unix::fs::symlink("model", &link).expect("a link");
        begun(&link, true, "new").finish().expect("finished");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(entries(&path), ["new"]);
    }
}
