//! What a picture command is to make, from what, and where it goes; the part of it that `--job`
//! keeps in a file. Runs nothing.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use pocketmuse::{
    Budget, Flavour, Manifest, Options, Output, Request, Source,
    job::{self, State},
};
use pocketmuse_package::{Error, ErrorKind, Result, place};
use serde::{Deserialize, Serialize};

use super::{
    edit::{SourceFiles, absolute},
    generate::Order,
    package,
};
use crate::{
    args::{GenerateArgs, PackageArgs, RunArgs, WatchArgs},
    outputs::{self, Name},
    picture::{self, Origin},
    trace,
};

/// A command's work.
pub(super) struct Job {
    pub(super) kept: Kept,
    /// What an edit starts from.
    pub(super) source: Option<Source>,
    /// What people should know of the images that it starts from.
    pub(super) warnings: Vec<String>,
    /// What made the picture that the request was read from.
    pub(super) origin: Option<Origin>,
    pub(super) run: RunArgs,
    /// Whether only the plan is wanted.
    pub(super) explain: bool,
    pub(super) save_tokens: Option<PathBuf>,
    pub(super) watch: WatchArgs,
    /// Where the job is kept after every step.
    file: Option<PathBuf>,
}

/// What going on in another process needs: all paths are absolute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) request: Request,
    pub(super) package: Option<PathBuf>,
    pub(super) flavour: Option<Flavour>,
    source: Option<SourceFiles>,
    files: Vec<PathBuf>,
    /// The one picture to write of those that the request makes; `None` for all.
    only: Option<usize>,
    /// `None` before the first step.
    pub(super) state: Option<State>,
}

impl Kept {
    /// Checks that every picture to write has a file, which a job written by hand may lack.
    fn check(&self) -> Result<()> {
        let images = self.request.num_images_per_prompt as usize;
        let wanted = if self.only.is_some() { 1 } else { images };
        if self.files.len() == wanted && self.only.is_none_or(|only| only < images) {
            return Ok(());
        }
        let only = self.only.map(|only| format!(" for picture {only}")).unwrap_or_default();
        let detail = format!(
            "expected {wanted} files of {images} pictures, found {}{only}",
            self.files.len()
        );
        Err(Error::new(ErrorKind::BadInput, "job", detail))
    }
}

impl Job {
    /// Reads the job from the flags and the files they name, and tries every place that will be
    /// written to.
    pub(super) fn read(order: Order<'_>) -> Result<Self> {
        match order {
            Order::Generate(args) => Self::new(args, |base| args.request(base), None),
            Order::Edit(args) => {
                Self::new(&args.generate, |base| args.request(base), Some(SourceFiles::new(args)?))
            }
            Order::Resume(args) => {
                let kept: Kept = job::load(&args.job)?;
                kept.check().map_err(|error| error.within(args.job.display()))?;
                kept.files.iter().try_for_each(|file| place::neighbour(file).map(drop))?;
                args.watch.trace.as_deref().map_or(Ok(()), trace::check)?;
                let mut warnings = Vec::new();
                let open = |files: &SourceFiles| files.open(args.run.memory, &mut warnings);
                Ok(Self {
                    source: kept.source.as_ref().map(open).transpose()?,
                    warnings,
                    kept,
                    origin: None,
                    run: args.run.clone(),
                    explain: false,
                    save_tokens: None,
                    watch: args.watch.clone(),
                    file: Some(args.job.clone()),
                })
            }
        }
    }

    fn new(
        args: &GenerateArgs,
        change: impl FnOnce(Request) -> Request,
        source: Option<SourceFiles>,
    ) -> Result<Self> {
        let (base, origin) = match &args.from {
            Some(path) => picture::read(path)?,
            None => (Request { seed: random_seed(), ..Request::default() }, None),
        };
        let base = if args.variation.is_some() { to_vary(base, origin.as_ref()) } else { base };
        let request = change(base);
        let images = request.num_images_per_prompt as usize;
        let all = args.num_images_per_prompt.is_some() || args.variation.is_some();
        let only = origin.as_ref().filter(|_| !all);
        let only = only.map(|origin| origin.image as usize).filter(|only| *only < images);
        let count =
            if only.is_some() { 1 } else { images.min(pocketmuse::request::MAX_IMAGES as usize) };
        let name = Name { prompt: &request.prompt, line: args.line, seed: args.named_seed };
        let files = outputs::plan(args.output.as_deref(), name, count)?;
        [&args.save_tokens, &args.job]
            .into_iter()
            .flatten()
            .try_for_each(|path| place::neighbour(path).map(drop))?;
        args.watch.trace.as_deref().map_or(Ok(()), trace::check)?;
        let mut warnings = Vec::new();
        let open = |files: &SourceFiles| files.open(args.package.run.memory, &mut warnings);
        Ok(Self {
            source: source.as_ref().map(open).transpose()?,
            warnings,
            kept: Kept {
                request,
                package: args.package.folder.clone(),
                flavour: args.package.flavour,
                source,
                files,
                only,
                state: None,
            },
            origin,
            run: args.package.run.clone(),
            explain: args.explain,
            save_tokens: args.save_tokens.clone(),
            watch: args.watch.clone(),
            file: args.job.clone(),
        })
    }

    /// The package that its pictures are made with.
    pub(super) fn package(&self) -> PackageArgs {
        PackageArgs {
            folder: self.kept.package.clone(),
            flavour: self.kept.flavour,
            run: self.run.clone(),
        }
    }

    /// How its package is opened: with what the images that came in leave of the memory.
    pub(super) fn options(&self) -> Options {
        let options = package::options(&self.package());
        let held = self.source.as_ref().map_or(0, Source::held_bytes);
        let memory = match options.memory {
            Budget::Bytes(bytes) => Budget::Bytes(bytes.saturating_sub(held)),
            Budget::Auto => Budget::Auto,
        };
        Options { memory, ..options }
    }

    /// The request with every default filled in, checked as far as that needs no graph. Its sides
    /// are whole tokens, even if the result is cropped.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a value out of range or one that does not fit the model or the picture to
    /// edit.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<Request> {
        let resolved = match &self.source {
            Some(source) => source.resolve(&self.kept.request, manifest)?,
            None => self.kept.request.resolve(manifest)?,
        };
        let [height, width] =
            resolved.grid.map(|tokens| Some(tokens as u32 * manifest.model.pixels_per_token));
        Ok(Request { height, width, ..resolved.request })
    }

    /// Writes the job's file, if there is to be one: with the state that `state` makes, or as it
    /// was read.
    pub(super) fn keep(&self, state: Option<&dyn Fn() -> State>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let kept = Kept {
            package: self.kept.package.as_deref().map(absolute).transpose()?,
            source: self.kept.source.as_ref().map(SourceFiles::absolute).transpose()?,
            files: self.kept.files.iter().map(|file| absolute(file)).collect::<Result<_>>()?,
            state: state.map_or_else(|| self.kept.state.clone(), |state| Some(state())),
            ..self.kept.clone()
        };
        job::save(&kept, file)
    }

    /// Which pictures are wanted, from 0, and the file of each.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, &Path)> {
        let first = self.kept.only.unwrap_or(0);
        (first..).zip(self.kept.files.iter().map(PathBuf::as_path))
    }

    /// Writes the pictures; returns their files.
    pub(super) fn write(&self, output: &Output, manifest: &Manifest) -> Result<&[PathBuf]> {
        for (index, path) in self.places() {
            let Some(image) = output.images.get(index) else { continue };
            let origin = Origin {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                model: manifest.model.name.clone(),
                package: manifest.digest(),
                flavour: self.kept.flavour,
                image: index as u32,
            };
            picture::write(image, path, &output.request, &origin)?;
        }
        Ok(&self.kept.files)
    }
}

/// A request read from a file as one that varies the picture there. A variation of a variation is
/// one of the same picture.
fn to_vary(base: Request, origin: Option<&Origin>) -> Request {
    let own = origin.map_or(0, |origin| origin.image);
    let variation_of = if base.variation.is_some() { base.variation_of } else { own };
    Request { num_images_per_prompt: 1, variation_of, ..base }
}

/// A seed short enough to be typed again.
pub(super) fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ResumeArgs;

    #[test]
    fn seeds_are_short_and_differ() {
        let seeds: std::collections::HashSet<_> = (0..8).map(|_| random_seed()).collect();
        assert!(seeds.len() > 1 && seeds.iter().all(|seed| *seed < 1 << 32), "{seeds:?}");
    }

    #[test]
    fn a_request_comes_from_the_flags_and_the_picture() {
        let folder = tempfile::tempdir().expect("a folder");
        let png = folder.path().join("tree-1.png");
        let made = Request {
            prompt: "a tree".to_owned(),
            seed: 5,
            num_images_per_prompt: 3,
            ..Request::default()
        };
        let package = pocketmuse_package::Digest::of(b"");
        let origin = Origin {
            version: "1".to_owned(),
            model: "tiny".to_owned(),
            package,
            flavour: None,
            image: 1,
        };
        picture::write(&image::RgbImage::new(2, 2), &png, &made, &origin).expect("written");

        let output = Some(folder.path().join("again.png"));
        let args = GenerateArgs {
            from: Some(png.clone()),
            output: output.clone(),
            ..GenerateArgs::default()
        };
        let kept = Job::read(Order::Generate(&args)).expect("read").kept;
        assert_eq!((kept.request, kept.only, kept.files.len()), (made, Some(1), 1));

        let args = GenerateArgs {
            from: Some(png.clone()),
            output: output.clone(),
            variation: Some(0.3),
            ..GenerateArgs::default()
        };
        let kept = Job::read(Order::Generate(&args)).expect("read").kept;
        let request =
            (kept.request.variation, kept.request.variation_of, kept.request.num_images_per_prompt);
        assert_eq!((request, kept.only, kept.files.len()), ((Some(0.3), 1, 1), None, 1));

        let args = GenerateArgs {
            from: Some(png),
            output,
            num_images_per_prompt: Some(2),
            ..GenerateArgs::default()
        };
        let kept = Job::read(Order::Generate(&args)).expect("read").kept;
        assert_eq!((kept.request.seed, kept.only, kept.files.len()), (5, None, 2));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, output) = (folder.path().join("job.json"), folder.path().join("a.png"));
        let args = GenerateArgs {
            prompt: Some("a tree".to_owned()),
            output: Some(output),
            job: Some(file.clone()),
            package: PackageArgs { flavour: Some(Flavour::F32), ..PackageArgs::default() },
            ..GenerateArgs::default()
        };
        let job = Job::read(Order::Generate(&args)).expect("read");
        job.keep(None).expect("written");
        let resume = ResumeArgs { job: file, run: RunArgs::default(), watch: WatchArgs::default() };
        assert_eq!(Job::read(Order::Resume(&resume)).expect("read").kept, job.kept);

        type Change = fn(&mut Kept);
        let changes: [(Change, &str); 3] = [
            (|kept| kept.files.clear(), "job: expected 1 files of 1 pictures, found 0"),
            (
                |kept| kept.request.num_images_per_prompt = 7,
                "job: expected 7 files of 7 pictures, found 1",
            ),
            (
                |kept| kept.only = Some(1),
                "job: expected 1 files of 1 pictures, found 1 for picture 1",
            ),
        ];
        for (change, expected) in changes {
            let mut kept = job.kept.clone();
            change(&mut kept);
            job::save(&kept, &resume.job).expect("written");
            let error = Job::read(Order::Resume(&resume)).err().expect("nothing to write to");
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }
}
