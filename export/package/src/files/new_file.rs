//! Files that appear whole or not at all.

use std::{
    fs,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempPath};

use super::{follow_links, parent, read::kind_of, sync_folder, temporary};
use crate::{Error, ErrorKind, Result};

/// Writes a file whole or not at all, in place of what has its name.
///
/// # Errors
///
/// `Io` if it cannot be written, naming `path`, or the folder if that is missing.
///
/// # Example
///
/// ```
/// # use std::io::Write as _;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("notes.txt");
/// pocketmuse_package::files::write(&path, |out| writeln!(out, "a line"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "a line\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(path: &Path, fill: impl FnOnce(&mut NewFile) -> io::Result<()>) -> Result<()> {
    let mut file = NewFile::create(path)?;
    fill(&mut file).map_err(|error| Error::io(path, error))?;
    file.finish()
}

/// Checks early that a file can be written at `path`: now is the time to know.
///
/// # Errors
///
/// As for [`NewFile::create`].
pub fn check_writable(path: &Path) -> Result<()> {
    NewFile::create(path).map(drop)
}

/// A file that is written under a temporary name and then takes its own.
///
/// Dropped before [`NewFile::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl NewFile {
    /// Begins a file that will be called `path`; if that is a link, the file it leads to.
    ///
    /// # Errors
    ///
    /// `Io` if the folder is missing or cannot be written to, or if something other than a file has
    /// the name.
    pub fn create(path: &Path) -> Result<Self> {
        let target = follow_links(path)?;
        if let Ok(metadata) = fs::metadata(&target)
            && !metadata.is_file()
        {
            let detail =
                format!("expected a file to write, found {}", kind_of(metadata.file_type()));
            return Err(Error::new(ErrorKind::Io, path.display().to_string(), detail));
        }
        Ok(Self { out: BufWriter::new(temporary::file(&target)?), path: target })
    }

    /// Ends the file and closes it, without giving it its name yet: for many that appear together.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be written.
    pub fn close(self) -> Result<WholeFile> {
        let Self { out, path } = self;
        let failed = |error| Error::io(&path, error);
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        Ok(WholeFile { temporary: file.into_temp_path(), path })
    }

    /// Ends the file and gives it its name, in place of what had it.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be written or renamed.
    pub fn finish(self) -> Result<()> {
        self.close()?.finish()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}

/// A file that is whole and on the disk, but has no name yet. Dropped, it is removed.
#[derive(Debug)]
pub struct WholeFile {
    temporary: TempPath,
    path: PathBuf,
}

impl WholeFile {
    /// Gives the file its name, in place of what had it.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be renamed.
    pub fn finish(self) -> Result<()> {
        let Self { temporary, path } = self;
        temporary.persist(&path).map_err(|error| Error::io(&path, error.error))?;
        sync_folder(parent(&path)).map_err(|error| Error::io(&path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).expect("readable").count()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a");
        fs::write(&path, "old").expect("written");
        let failed = write(&path, |out| {
            out.write_all(b"ne")?;
            Err(io::Error::other("full"))
        });
        assert!(failed.expect_err("failed").to_string().ends_with("a: full"));
        assert_eq!(fs::read(&path).expect("there"), b"old");
        write(&path, |out| out.write_all(b"new")).expect("written");
        assert_eq!((fs::read(&path).expect("there"), count(root.path())), (b"new".to_vec(), 1));
    }

    #[test]
    fn a_file_that_cannot_get_its_name_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a");
        let mut file = NewFile::create(&path).expect("begun");
        file.write_all(b"new").expect("written");
        fs::create_dir(&path).expect("something else takes the name meanwhile");
        assert_eq!(file.finish().expect_err("taken").kind(), ErrorKind::Io);
        assert_eq!(count(root.path()), 1);
        let error = check_writable(&path).expect_err("a folder").to_string();
        assert!(error.ends_with("a: expected a file to write, found a folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_written_through() {
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("inner")).expect("made");
        symlink("inner/file", at("second")).expect("a link"); // to nothing yet
        symlink("second", at("first")).expect("a link");
        for text in ["one", "two"] {
            write(&at("first"), |out| out.write_all(text.as_bytes())).expect("written");
            assert_eq!(fs::read_to_string(at("inner/file")).expect("there"), text);
        }
        assert!(fs::symlink_metadata(at("first")).expect("there").is_symlink());
        symlink("circle", at("circle")).expect("a link");
        let error = check_writable(&at("circle")).expect_err("a circle").to_string();
        assert!(error.ends_with("circle: expected a file, found a link that leads to itself"));
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_not_replaced() {
        let error = check_writable(Path::new("/dev/null")).expect_err("a device").to_string();
        assert_eq!(error, "/dev/null: expected a file to write, found a device");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_as_readable_as_any_other() {
        use std::os::unix::fs::PermissionsExt as _;

        let root = tempfile::tempdir().expect("a folder");
        let (ours, plain) = (root.path().join("ours"), root.path().join("plain"));
        write(&ours, |out| out.write_all(b"a")).expect("written");
        fs::write(&plain, "a").expect("written");
        let mode = |path| fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}
