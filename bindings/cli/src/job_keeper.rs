//! Keeps a job in the file of `--job`, as far as it got.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use pocketmuse::job::{self, State};
use pocketmuse_package::{Digest, Error, ErrorKind, Result, files};

use crate::{
    frames::{Frames, Made},
    job_file::{JobFile, absolutes},
};

/// Keeps a job in its file.
#[derive(Debug)]
pub(crate) struct JobKeeper {
    path: PathBuf,
    job: JobFile,
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

    /// Writes an image, and notes it before that: whoever is killed between the two still knows it
    /// for its own.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`]; `Io` if the image cannot be written.
    pub(crate) fn write(&mut self, path: &Path, image: &[u8]) -> Result<()> {
        self.job.written.push(Digest::of(image));
        self.save()?;
        files::write(path, |out| out.write_all(image))
    }

    /// Where the frames of a video are kept.
    pub(crate) fn frames(&self) -> Frames {
        let made = self.job.video.as_ref().map_or_else(Made::default, |video| video.made);
        Frames::of(&self.path, made)
    }

    /// Writes a video's job as it is after a step of a frame, before which so many were `made`.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`].
    pub(crate) fn save_frame_state(&mut self, state: State, made: Made) -> Result<()> {
        self.job.video.iter_mut().for_each(|video| video.made = made);
        self.save_state(state)
    }

    /// Writes what stands for the `files` of a video, which is finished: the job is as it was
    /// before its first step.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`]; `Io` if a file cannot be read again.
    pub(crate) fn save_video(&mut self, files: &[PathBuf]) -> Result<()> {
        self.job.video.iter_mut().for_each(|video| video.made = Made::default());
        self.job.state = None;
        self.job.written = files.iter().map(|file| Digest::of_file(file)).collect::<Result<_>>()?;
        self.save()
    }

    /// Writes where the images went, and what stands for them.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`]; `Io` if an image cannot be read again.
    pub(crate) fn save_files(&mut self, files: &[PathBuf]) -> Result<()> {
        self.job.files = absolutes(files)?;
        self.job.written = files.iter().map(|file| Digest::of_file(file)).collect::<Result<_>>()?;
        self.save()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_file::tests::job;

    /// A JPEG does not say who made it.
    #[test]
    fn an_image_is_noted_before_it_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, image) = (folder.path().join("job.json"), folder.path().join("a.jpg"));
        let job = JobFile { files: vec![image.clone()], ..job(folder.path()) };
        let mut keeper = JobKeeper::new(&path, &job).expect("kept");
        std::fs::create_dir(&image).expect("made");
        keeper.write(&image, b"pixels").expect_err("no place for it");
        std::fs::remove_dir(&image).expect("removed");
        let noted = JobFile::read(&path).expect("kept");
        assert_eq!(noted.written, [Digest::of(b"pixels")]);
        keeper.write(&image, b"pixels").expect("written");
        noted.check_replaces_its_own().expect("as far as it got when it was killed");
        std::fs::write(&image, "a letter").expect("written");
        noted.check_replaces_its_own().expect_err("another's");
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
