//! The file that `--job` keeps: what going on in another process needs.

use std::path::{Path, PathBuf};

use pocketmuse::{
    Flavour, Request,
    job::{self, State},
};
use pocketmuse_package::{Error, ErrorKind, Result, files};
use serde::{Deserialize, Serialize};

use crate::source::{SourceFiles, absolute};

/// What the file holds. All paths are absolute and of UTF-8 text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobFile {
    pub(crate) request: Request,
    pub(crate) package: Option<PathBuf>,
    pub(crate) flavour: Option<Flavour>,
    pub(crate) source: Option<SourceFiles>,
    pub(crate) files: Vec<PathBuf>,
    /// The one image to write of those that the request makes; `None` for all.
    pub(crate) only: Option<usize>,
    /// Whether the images' files tell nothing of the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) private: bool,
    /// `None` before the first step.
    pub(crate) state: Option<State>,
}

/// Keeps a job in its file.
#[derive(Debug)]
pub(crate) struct JobKeeper {
    path: PathBuf,
    job: JobFile,
}

impl JobFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be read; `BadInput` if it is no job or was changed.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let job: Self = job::load(path)?;
        job.check().map_err(|error| error.within(path.display()))?;
        Ok(job)
    }

    /// Checks that every image to write has a file, which a job written by hand may lack.
    fn check(&self) -> Result<()> {
        let images = self.request.num_images_per_prompt as usize;
        let wanted = if self.only.is_some() { 1 } else { images };
        if self.files.len() == wanted && self.only.is_none_or(|only| only < images) {
            return Ok(());
        }
        let only = self.only.map(|only| format!(" for image {only}")).unwrap_or_default();
        let found = self.files.len();
        let detail = format!("expected {wanted} files of {images} images, found {found}{only}");
        Err(Error::new(ErrorKind::BadInput, "job", detail))
    }

    /// The same, to be found from any folder.
    fn absolute(&self) -> Result<Self> {
        Ok(Self {
            package: self.package.as_deref().map(absolute).transpose()?,
            source: self.source.as_ref().map(SourceFiles::absolute).transpose()?,
            files: absolutes(&self.files)?,
            ..self.clone()
        })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let source = self.source.iter().flat_map(SourceFiles::paths);
        self.package.iter().chain(&self.files).map(PathBuf::as_path).chain(source)
    }
}

impl JobKeeper {
    /// Will keep `job` at `path`, which is tried.
    ///
    /// # Errors
    ///
    /// `BadRequest` if a path of the job is not of UTF-8 text, which JSON cannot hold; `Io` if the
    /// folder of `path` cannot be written to.
    pub(crate) fn new(path: &Path, job: &JobFile) -> Result<Self> {
        files::check_writable(path)?;
        let job = job.absolute()?;
        if let Some(odd) = job.paths().find(|path| path.to_str().is_none()) {
            let detail =
                "expected a path of UTF-8 text, which a job's file can hold, found another";
            return Err(Error::new(ErrorKind::BadRequest, odd.display().to_string(), detail));
        }
        Ok(Self { path: path.to_owned(), job })
    }

    /// Writes the job as it is now.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be written.
    pub(crate) fn save(&self) -> Result<()> {
        job::save(&self.job, &self.path)
    }

    /// Writes the job as it is after a step.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`].
    pub(crate) fn save_state(&mut self, state: State) -> Result<()> {
        self.job.state = Some(state);
        self.save()
    }

    /// Writes where the images went.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`].
    pub(crate) fn save_files(&mut self, files: &[PathBuf]) -> Result<()> {
        let files = absolutes(files)?;
        if files == self.job.files {
            return Ok(());
        }
        self.job.files = files;
        self.save()
    }
}

fn absolutes(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    files.iter().map(|file| absolute(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(folder: &Path) -> JobFile {
        JobFile {
            request: Request { prompt: "a tree".to_owned(), ..Request::default() },
            package: None,
            flavour: Some(Flavour::F32),
            source: None,
            files: vec![folder.join("a.png")],
            only: None,
            private: false,
            state: None,
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, job) = (folder.path().join("job.json"), job(folder.path()));
        JobKeeper::new(&path, &job).and_then(|keeper| keeper.save()).expect("written");
        assert_eq!(JobFile::read(&path).expect("read"), job);

        type Change = fn(&mut JobFile);
        let changes: [(Change, &str); 3] = [
            (|job| job.files.clear(), "job: expected 1 files of 1 images, found 0"),
            (
                |job| job.request.num_images_per_prompt = 7,
                "job: expected 7 files of 7 images, found 1",
            ),
            (|job| job.only = Some(1), "job: expected 1 files of 1 images, found 1 for image 1"),
        ];
        for (change, expected) in changes {
            let mut job = job.clone();
            change(&mut job);
            job::save(&job, &path).expect("written");
            let error = JobFile::read(&path).expect_err("nothing to write to");
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn paths_that_json_cannot_hold_are_refused() {
        use std::os::unix::ffi::OsStrExt;

        let folder = tempfile::tempdir().expect("a folder");
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        let path = folder.path().join("job.json");
        for job in [
            JobFile { files: vec![odd.join("a.png")], ..job(folder.path()) },
            JobFile { package: Some(odd.clone()), ..job(folder.path()) },
        ] {
            let error = JobKeeper::new(&path, &job).expect_err("no text");
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
        }
        assert!(!path.exists());
    }
}
