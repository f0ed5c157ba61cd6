//! The file that `--job` keeps: what going on in another process needs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pocketmuse::{
    Flavour, Provider, Providers, Request, Stage,
    job::{self, State},
    pixels::{Animation, Format},
    video::MAX_FRAMES,
};
use pocketmuse_package::{Digest, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::{
    frames::Made,
    image_file,
    source::{PinnedFile, SourceFiles, absolute},
};

/// What the file holds. All paths are absolute and of UTF-8 text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobFile {
    pub(crate) request: Request,
    pub(crate) package: Option<PathBuf>,
    pub(crate) flavour: Option<Flavour>,
    /// Who computes which stage; the CPU does if none is named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) providers: BTreeMap<Stage, Provider>,
    /// The plug-ins of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) libraries: BTreeMap<Provider, PathBuf>,
    /// What was chosen of their options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<Provider, BTreeMap<String, String>>,
    /// Whether the CPU may compute what they do not take.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_fallback: bool,
    pub(crate) source: Option<SourceFiles>,
    /// How the image moves, if it is a video; its one file is then as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) video: Option<VideoFile>,
    pub(crate) files: Vec<PathBuf>,
    /// The one image to write of those that the request makes; `None` for all.
    pub(crate) only: Option<usize>,
    /// Whether the images' files tell nothing of the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) private: bool,
    /// `None` before the first step.
    pub(crate) state: Option<State>,
    /// What stands for the images that were written, or would have been next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) written: Vec<Digest>,
}

/// How an image becomes a video, and which of its frames are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VideoFile {
    pub(crate) frames: u32,
    pub(crate) motion: [f32; 2],
    pub(crate) remask: f32,
    pub(crate) end: Option<PinnedFile>,
    /// Frames in a second.
    pub(crate) fps: f64,
    /// Those before the frame of the state.
    pub(crate) made: Made,
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

    /// Checks that going on replaces no file but images that this job made: the file may come from
    /// elsewhere, and names what it likes.
    ///
    /// # Errors
    ///
    /// `BadRequest` if something else has the name of an image.
    pub(crate) fn check_replaces_its_own(&self) -> Result<()> {
        let is_foreign = |path: &PathBuf| path.exists() && !self.has_made(path);
        let Some(path) = self.written_files().into_iter().find(is_foreign) else { return Ok(()) };
        let detail = "expected nothing there, or an image that this job made, found something \
                      else: move it away, or give --force to replace it";
        Err(Error::new(ErrorKind::BadRequest, path.display().to_string(), detail))
    }

    /// Whether nothing is left to do: its images are there.
    fn is_finished(&self) -> bool {
        let files = self.written_files();
        !files.is_empty() && files.iter().all(|file| self.has_made(file))
    }

    /// The files that the job writes: its images, or its video.
    fn written_files(&self) -> Vec<PathBuf> {
        let frames = |video: &VideoFile| Animation::files(&self.files[0], video.frames);
        self.video.as_ref().map_or_else(|| self.files.clone(), frames)
    }

    /// The unfinished job that a file keeps, to go on with: the one that is `wanted`, as far as it
    /// was told when it began. `None` if the job in the file is finished.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`]; `BadRequest` if the file keeps another unfinished job; `Io` if there
    /// is no current folder.
    pub(crate) fn unfinished(
        path: &Path,
        wanted: impl FnOnce(&Self) -> Self,
    ) -> Result<Option<Self>> {
        let kept = Self::read(path)?;
        if kept.is_finished() {
            return Ok(None);
        }
        if kept.begun() != wanted(&kept).absolute()?.begun() {
            let detail = "expected no unfinished job, or this one, found another: `pocketmuse \
                          resume` ends that, or give another file";
            return Err(Error::new(ErrorKind::BadRequest, path.display().to_string(), detail));
        }
        Ok(Some(kept))
    }

    /// The job as it was before its first step.
    fn begun(&self) -> Self {
        let mut begun = Self { state: None, written: Vec::new(), ..self.clone() };
        begun.video.iter_mut().for_each(|video| video.made = Made::default());
        begun
    }

    /// Whether this job made the file: it was noted, or the image itself says so.
    fn has_made(&self, path: &Path) -> bool {
        if !path.is_file() {
            return false;
        }
        if Digest::of_file(path).is_ok_and(|digest| self.written.contains(&digest)) {
            return true;
        }
        let (Some(state), Ok((request, Some(made_by)))) = (&self.state, image_file::read(path))
        else {
            return false;
        };
        request == state.request && made_by.package == state.package
    }

    /// Checks that every image to write has a file, which a job written by hand may lack, and that
    /// each is called as an image is. A video's is called as one is, or it cannot be begun.
    fn check(&self) -> Result<()> {
        if let Some(video) = &self.video {
            let is_video = (1..=MAX_FRAMES).contains(&video.frames)
                && self.files.len() == 1
                && self.source.is_none()
                && self.only.is_none();
            let detail = format!("expected a video with one file and 1 to {MAX_FRAMES} frames");
            return is_video
                .then_some(())
                .ok_or_else(|| Error::new(ErrorKind::BadInput, "job", detail));
        }
        let images = self.request.num_images_per_prompt as usize;
        let wanted = if self.only.is_some() { 1 } else { images };
        if self.files.len() == wanted && self.only.is_none_or(|only| only < images) {
            return self.files.iter().try_for_each(|file| Format::of(file).map(drop));
        }
        let only = self.only.map(|only| format!(" for image {only}")).unwrap_or_default();
        let found = self.files.len();
        let detail = format!("expected {wanted} files of {images} images, found {found}{only}");
        Err(Error::new(ErrorKind::BadInput, "job", detail))
    }

    /// The same, to be found from any folder.
    pub(crate) fn absolute(&self) -> Result<Self> {
        Ok(Self {
            package: self.package.as_deref().map(absolute).transpose()?,
            source: self.source.as_ref().map(SourceFiles::absolute).transpose()?,
            video: self.video.as_ref().map(VideoFile::absolute).transpose()?,
            files: absolutes(&self.files)?,
            ..self.clone()
        })
    }

    /// The paths that the file names.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let source = self.source.iter().flat_map(SourceFiles::paths);
        let end = self.video.iter().filter_map(|video| Some(video.end.as_ref()?.path()));
        let files = self.package.iter().chain(&self.files).chain(self.libraries.values());
        files.map(PathBuf::as_path).chain(source).chain(end)
    }

    /// Who computes it.
    pub(crate) fn providers(&self) -> Providers {
        Providers {
            stages: self.providers.clone(),
            libraries: self.libraries.clone(),
            options: self.options.clone(),
            allow_fallback: self.allow_fallback,
        }
    }
}

impl VideoFile {
    fn absolute(&self) -> Result<Self> {
        let end = self.end.as_ref().map(PinnedFile::absolute).transpose()?;
        Ok(Self { end, ..self.clone() })
    }
}

pub(crate) fn absolutes(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    files.iter().map(|file| absolute(file)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn job(folder: &Path) -> JobFile {
        JobFile {
            request: Request { prompt: "a tree".to_owned(), ..Request::default() },
            package: None,
            flavour: Some(Flavour::F32),
            providers: BTreeMap::from([(Stage::Step, Provider::OpenVino)]),
            libraries: BTreeMap::from([(Provider::OpenVino, folder.join("a.so"))]),
            options: BTreeMap::from([(
                Provider::OpenVino,
                BTreeMap::from([("precision".to_owned(), "bf16".to_owned())]),
            )]),
            allow_fallback: false,
            source: None,
            video: None,
            files: vec![folder.join("a.png")],
            only: None,
            private: false,
            state: None,
            written: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, job) = (folder.path().join("job.json"), job(folder.path()));
        job::save(&job, &path).expect("written");
        assert_eq!(JobFile::read(&path).expect("read"), job);

        type Change = fn(&mut JobFile);
        let changes: [(Change, &str); 4] = [
            (
                |job| job.files = vec!["/home/me/.profile".into()],
                "/home/me/.profile: expected a file ending in .png, .jpg, .jpeg or .webp, found none",
            ),
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
    fn what_a_job_replaces_is_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        let state = State {
            package: Digest::of(b"package"),
            flavour: Flavour::F32,
            providers: BTreeMap::new(),
            request: Request { seed: 7, ..Request::default() },
            source: None,
            image: None,
            video: None,
            next_step: 1,
            tokens: Vec::new(),
            rng: pocketmuse::Rng::new(pocketmuse::RngKind::Own, 7),
        };
        let made_by = pocketmuse::MadeBy {
            version: "1".to_owned(),
            model: "tiny".to_owned(),
            package: state.package,
            flavour: None,
            providers: Default::default(),
            provider_options: Default::default(),
            split: Default::default(),
            image: 0,
        };
        let mut job = JobFile { state: Some(state.clone()), ..job(folder.path()) };
        let write = |request: &Request, package| {
            let made_by = pocketmuse::MadeBy { package, ..made_by.clone() };
            image_file::write(&image::RgbImage::new(4, 4), &path, Some((request, &made_by)))
                .expect("written");
        };
        job.check_replaces_its_own().expect("nothing is there");
        write(&state.request, state.package);
        job.check_replaces_its_own().expect("an image of this request and package");
        let foreign = |job: &JobFile| {
            let error = job.check_replaces_its_own().expect_err("not its own");
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(error.detail().ends_with("give --force to replace it"), "{error}");
        };
        write(&Request { seed: 8, ..state.request.clone() }, state.package);
        foreign(&job);
        write(&state.request, Digest::of(b"another package"));
        foreign(&job);
        std::fs::write(&path, "a letter").expect("written");
        foreign(&job);
        job.written = vec![Digest::of(b"another"), Digest::of(b"a letter")];
        job.check_replaces_its_own().expect("noted");
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        foreign(&job);
        std::fs::remove_dir(&path).expect("removed");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/dev/zero", &path).expect("linked");
            foreign(&job);
        }
    }
}
