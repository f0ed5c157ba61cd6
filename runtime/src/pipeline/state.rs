//! A job that survives: what is needed to go on after any step, in a file that notices changes.
//! Knows no network.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use pocketmuse_package::{Digest, Error, ErrorKind, Flavour, Manifest, Result, Stage, files};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{rest::bad, watch::Step};
pub use crate::request::{fitted::FittedSource, job::SavedFrame};
use crate::{
    package::Package,
    request::{Job, Provider, Providers, Request, job::Saved, video::Video},
    sampler::rng::Rng,
};

/// The version of a job file that this build writes, and the only one it reads.
const FORMAT: u32 = 1;
/// A larger file is no job; it is refused before it is parsed.
const MAX_BYTES: u64 = 64 << 20;

/// A job between two steps. Plain data: keep it as [bytes](State::to_bytes) or [`save`] it, and give
/// it to [`Pipeline::resume`](crate::Pipeline::resume).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The package that the job runs with.
    pub package: Digest,
    /// The graphs that run.
    pub flavour: Flavour,
    /// Who computes which stage, but for those that the CPU does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<Stage, Provider>,
    /// The request with every default filled in.
    pub request: Request,
    /// What stands for the image and the mask of an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Digest>,
    /// The step that comes next, from 0; as many as there are steps when only the decoder is left.
    pub next_step: usize,
    /// The tokens of all images, `None` where masked.
    pub tokens: Vec<Option<u32>>,
    /// The generator as the last step left it.
    pub rng: Rng,
    /// Of a video: how it moves, and the frame in the making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<SavedVideo>,
    /// The image and the mask of an edit. They are among the state's bytes, but not in its JSON:
    /// who keeps that has them in files, and gives them again.
    #[serde(skip)]
    pub image: Option<Arc<FittedSource>>,
}

/// A video between two steps of a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedVideo {
    frames: u32,
    motion: [f32; 2],
    remask: f32,
    at: SavedFrame,
}

impl State {
    /// What going on after `step` needs, with this package and flavour.
    pub(super) fn after(step: &Step<'_>, (package, flavour): (Digest, Flavour)) -> Self {
        let rng = match step.rng {
            Rng::Own(_) => Rng::new(step.request.rng, step.request.seed), // not that of a frame
            torch @ Rng::Torch(_) => torch.clone(),
        };
        let others = step.providers.iter().filter(|(_, provider)| **provider != Provider::Cpu);
        Self {
            package,
            flavour,
            providers: others.map(|(stage, provider)| (*stage, *provider)).collect(),
            request: step.request.clone(),
            source: step.source.map(|source| source.digest),
            next_step: step.step + 1,
            tokens: step.tokens.to_vec(),
            rng,
            video: step.video.map(|(video, at)| SavedVideo {
                frames: video.frames,
                motion: video.motion,
                remask: video.remask,
                at: at.clone(),
            }),
            image: step.source.cloned(),
        }
    }

    /// The job of `request` with the video or the image that was saved.
    pub(super) fn job(&self, request: &Request, manifest: &Manifest) -> Result<Job> {
        match (&self.video, &self.image) {
            (Some(video), None) => video.video().job(request, manifest),
            (None, Some(image)) => image.job(request, manifest),
            (None, None) => Job::new(request, manifest),
            (Some(_), Some(_)) => Err(bad("expected a video or an edit, found both")),
        }
    }

    /// What a job goes on from.
    pub(super) fn saved(&self) -> Saved {
        Saved {
            next_step: self.next_step,
            tokens: self.tokens.clone(),
            drawn: self.rng.drawn(),
            frame: self.video.as_ref().map(|video| video.at.clone()),
            providers: self.providers.clone(),
        }
    }

    /// The frame in the making.
    ///
    /// # Errors
    ///
    /// `BadInput` if it is no video.
    pub(super) fn frame(&self) -> Result<u32> {
        let frame = self.video.as_ref().map(|video| video.at.frame);
        frame.ok_or_else(|| bad("expected a video, found images"))
    }

    /// Checks that it is of images.
    ///
    /// # Errors
    ///
    /// `BadRequest` if it is a video.
    pub(super) fn check_is_no_video(&self) -> Result<()> {
        if self.video.is_none() {
            return Ok(());
        }
        let detail = "expected images, found a video, whose frames are to be handed over";
        Err(Error::new(ErrorKind::BadRequest, "job", detail))
    }

    /// As [`Self::check`], and that those who compute the stages of `package` can go on.
    ///
    /// # Errors
    ///
    /// `BadInput` if it is not so.
    pub(super) fn check_by(&self, job: &Job, package: &Package) -> Result<()> {
        self.check(job, (package.manifest().digest(), package.flavour()))?;
        self.check_providers(package.providers())
    }

    /// Checks that this is a state that `job`, run with this package and flavour, can have.
    ///
    /// # Errors
    ///
    /// `BadInput` if it is not.
    pub(crate) fn check(&self, job: &Job, (package, flavour): (Digest, Flavour)) -> Result<()> {
        let same = |name, expected: String, found: String| {
            if expected == found {
                Ok(())
            } else {
                Err(bad(format!("expected the {name} {expected}, found {found}")))
            }
        };
        same("package", self.package.to_string(), package.to_string())?;
        same("flavour", self.flavour.to_string(), flavour.to_string())?;
        let name = |source: Option<Digest>| {
            source.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
        };
        same("image and mask", name(self.source), name(job.source_digest()))?;
        same("generator", job.request.rng.to_string(), self.rng.kind().to_string())?;
        let (kind, seed) = (job.request.rng, job.request.seed);
        if self.rng != Rng::after(kind, seed, self.rng.drawn()) {
            return Err(bad(format!("expected the random numbers of seed {seed}, found others")));
        }
        let (steps, count) = (job.steps(), job.images() * job.tokens_per_image());
        if !(job.first_step..=steps).contains(&self.next_step) || self.tokens.len() != count {
            let found = format!("step {} and {} tokens", self.next_step, self.tokens.len());
            return Err(bad(format!(
                "expected a step up to {steps} and {count} tokens, found {found}"
            )));
        }
        self.check_drawn(job)?;
        let end = job.codebook_size;
        if let Some(token) = self.tokens.iter().flatten().find(|token| **token as usize >= end) {
            return Err(bad(format!("expected tokens below {end}, found {token}")));
        }
        if self.next_step == steps && self.tokens.contains(&None) {
            return Err(bad("expected no masked token after the last step, found some"));
        }
        self.check_video(job)
    }

    /// Checks that those compute each stage who began it, or that `auto` can have them do so: others
    /// make a near picture.
    fn check_providers(&self, providers: &Providers) -> Result<()> {
        for stage in Stage::ALL {
            let expected = self.providers.get(&stage).copied().unwrap_or_default();
            let found = providers.of(stage);
            let is_there =
                expected == Provider::Cpu || providers.candidates().any(|it| it == expected);
            if found == expected || found == Provider::Auto && is_there {
                continue;
            }
            let what = format!("expected {stage} by {expected}, as the job began, found {found}");
            return Err(bad(if found == Provider::Auto {
                format!("{what} without a library of {expected}")
            } else {
                what
            }));
        }
        Ok(())
    }

    /// Checks that no more random words were drawn than so many steps draw: going on passes over
    /// them all.
    fn check_drawn(&self, job: &Job) -> Result<()> {
        let frames = self.video.as_ref().map_or(0, |video| u64::from(video.at.frame));
        let steps = frames.saturating_mul(job.steps() as u64).saturating_add(self.next_step as u64);
        // Two words for each token to choose from and one for its confidence; one before a frame,
        // an edit or a variation.
        let step = (job.codebook_size as u64).saturating_mul(2).saturating_add(1);
        let cell = steps.saturating_mul(step).saturating_add(frames.saturating_add(1));
        let most = cell.saturating_mul(self.tokens.len() as u64);
        let found = self.rng.drawn();
        if found <= most {
            return Ok(());
        }
        Err(bad(format!("expected at most {most} random words drawn, found {found}")))
    }

    fn check_video(&self, job: &Job) -> Result<()> {
        let Some(video) = &self.video else { return Ok(()) };
        let SavedFrame { frame, masked, ref end } = video.at;
        if job.video.is_none() || frame >= video.frames {
            let found = video.frames;
            return Err(bad(format!("expected a video with a frame {frame}, found {found}")));
        }
        let count = self.tokens.len();
        let least = self.tokens.iter().filter(|token| token.is_none()).count();
        if frame > 0 && !(least..=count).contains(&masked) {
            return Err(bad(format!(
                "expected {least} to {count} tokens masked at first, found {masked}"
            )));
        }
        let is_token = |token: &u32| (*token as usize) < job.codebook_size;
        if end.as_ref().is_some_and(|end| end.len() != count || !end.iter().all(is_token)) {
            return Err(bad(format!("expected {count} tokens of the video's end, found others")));
        }
        Ok(())
    }

    /// Checks that a job that is asked for is the one that was `saved`.
    ///
    /// # Errors
    ///
    /// `BadInput` if it is not.
    pub(super) fn check_request(asked: &Job, saved: &Job) -> Result<()> {
        if asked.request == saved.request {
            return Ok(());
        }
        Err(bad("expected the request that was saved, found another"))
    }
}

impl SavedVideo {
    /// The video, whose end became tokens.
    fn video(&self) -> Video {
        Video { frames: self.frames, motion: self.motion, remask: self.remask, end: None }
    }
}

/// What a job file holds: `T` as JSON, and its digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    pocketmuse_job: u32,
    sha256: Digest,
    job: T,
}

/// Writes a job as JSON, whole or not at all: a reader sees the old file or the new one, whenever
/// the process is killed.
///
/// # Errors
///
/// `Io` if it cannot be written.
pub fn save<T: Serialize>(job: &T, path: &Path) -> Result<()> {
    let file = File { pocketmuse_job: FORMAT, sha256: digest(job), job };
    files::write(path, |out| serde_json::to_writer(out, &file).map_err(Into::into))
}

/// Reads a job that [`save`] wrote.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is no job of this version or was changed.
pub fn load<T: Serialize + DeserializeOwned>(path: &Path) -> Result<T> {
    let at = |error: Error| error.within(path.display());
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let found = if metadata.is_file() {
            format!("{} bytes", metadata.len())
        } else {
            "no file".to_owned()
        };
        return Err(at(bad(format!(
            "expected a job file of at most {MAX_BYTES} bytes, found {found}"
        ))));
    }
    let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
    let no_job = |error| at(bad(format!("expected a job saved by pocketmuse, found: {error}")));
    let version: serde_json::Value = serde_json::from_slice(&bytes).map_err(no_job)?;
    if let Some(version) =
        version["pocketmuse_job"].as_u64().filter(|version| *version != u64::from(FORMAT))
    {
        return Err(at(bad(format!(
            "expected a job of version {FORMAT}, found version {version}"
        ))));
    }
    let file: File<T> = serde_json::from_slice(&bytes).map_err(no_job)?;
    let found = digest(&file.job);
    if found != file.sha256 {
        return Err(at(bad(format!(
            "expected SHA-256 {}, found {found}: the job was changed",
            file.sha256
        ))));
    }
    Ok(file.job)
}

fn digest<T: Serialize>(job: &T) -> Digest {
    Digest::of(&serde_json::to_vec(job).expect("plain data with string keys always serializes"))
}

#[cfg(test)]
mod tests;
