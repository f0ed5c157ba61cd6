//! What a command makes: a request with everything that it needs read, and every place that will be
//! written to tried. Runs nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pocketmuse::{
    Job, MadeBy, Manifest, Options, Origin, Output, Pipeline, Plan, Provider, Request, Source,
    Stage, job::State, request::MAX_IMAGES,
};
use pocketmuse_package::{Error, ErrorKind, Result, files};

use crate::{
    args::{PackageArgs, WatchArgs},
    image_file,
    job_file::JobFile,
    job_keeper::JobKeeper,
    order::{self, Begin, Order, Wish},
    outputs::{Name, Outputs},
    source::SourceFiles,
    terminal, trace,
};

/// One request's images, from what they are made, and where they go.
pub(crate) struct Task {
    pub(crate) request: Request,
    /// What an edit starts from.
    pub(crate) source: Option<Source>,
    /// What people should know of the files of that.
    pub(crate) warnings: Vec<String>,
    /// Where a job that was stopped goes on.
    pub(crate) state: Option<State>,
    /// The package that its images are made with.
    pub(crate) package: PackageArgs,
    /// What made the image that the request was read from.
    pub(crate) made_by: Option<MadeBy>,
    /// Whether only the plan is wanted.
    pub(crate) explain: bool,
    pub(crate) watch: WatchArgs,
    pub(crate) save_tokens: Option<PathBuf>,
    /// What keeps it in a file after every step.
    pub(crate) keeper: Option<JobKeeper>,
    outputs: Outputs,
    /// Whether files tell nothing of the request.
    private: bool,
    /// Whether images that were made before are left as they are; and whether of any seed.
    skips: Option<AnySeed>,
    /// The one image that is wanted, from 0; `None` for all.
    only: Option<usize>,
}

/// Whether no seed was asked for, so that an image of any is as good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AnySeed(bool);

impl Task {
    /// Reads what an order is about, and tries every place that will be written to.
    pub(crate) fn new(order: &Order) -> Result<Self> {
        let task = match &order.begin {
            Begin::Request(wish) => Self::of_wish(order, wish),
            Begin::Saved(file, force) => Self::saved(order, file, *force),
        }?;
        task.save_tokens.as_deref().map_or(Ok(()), files::check_writable)?;
        task.watch.trace.as_deref().map_or(Ok(()), trace::check)?;
        Ok(task)
    }

    fn of_wish(order: &Order, wish: &Wish) -> Result<Self> {
        let source = wish.source.as_ref().map(SourceFiles::new).transpose()?;
        let (base, made_by) = match &wish.from {
            Some(path) => image_file::read(path)?,
            None => (order::new_request(), None),
        };
        let base =
            if wish.changes.variation.is_some() { to_vary(base, made_by.as_ref()) } else { base };
        let request = wish.request(base);
        let is_edit = request.strength.is_some() && request.variation.is_none();
        if let Some(path) = wish.from.as_deref().filter(|_| is_edit && source.is_none()) {
            return Err(needs_its_image(path));
        }
        let images = request.num_images_per_prompt as usize;
        let all = wish.num_images_per_prompt.is_some() || wish.changes.variation.is_some();
        let only = made_by.as_ref().filter(|_| !all).map(|made_by| made_by.image as usize);
        let only = only.filter(|only| *only < images);
        let prompt = if order.private { "" } else { &request.prompt };
        let name = Name { prompt, line: wish.line, seed: (request.seed, wish.names_seed) };
        let count = if only.is_some() { 1 } else { images.min(MAX_IMAGES as usize) };
        let outputs = Outputs::plan(wish.output.as_deref(), name, count)?;
        if outputs.is_stdout() {
            check_fits_stdout(order)?;
        }
        if order.skip_existing && source.is_some() {
            return Err(edits_are_not_skipped());
        }
        let job = JobFile {
            request,
            package: order.package.folder.clone(),
            flavour: order.package.flavour,
            providers: order.package.run.others(),
            libraries: order.package.run.providers().libraries,
            options: order.package.run.providers().options,
            allow_fallback: order.package.run.allow_fallback,
            source,
            video: None,
            files: outputs.files().to_vec(),
            only,
            private: order.private,
            state: None,
            written: Vec::new(),
        };
        let (job, outputs) = match order.job.as_deref().filter(|path| path.exists()) {
            Some(path) => went_on(path, job, outputs, wish.changes.seed.is_none())?,
            None => (job, outputs),
        };
        let skips = order.skip_existing.then_some(AnySeed(wish.changes.seed.is_none()));
        let task = Self::of_job(order, job, outputs)?;
        Ok(Self { made_by, skips, ..task })
    }

    fn saved(order: &Order, file: &Path, force: bool) -> Result<Self> {
        let job = JobFile::read(file)?;
        if !force {
            job.check_replaces_its_own()?;
        }
        job.files.iter().try_for_each(|file| files::check_writable(file))?;
        let outputs = Outputs::given(job.files.clone());
        Self::of_job(order, job, outputs)
    }

    fn of_job(order: &Order, job: JobFile, outputs: Outputs) -> Result<Self> {
        let mut warnings = order::warnings(&job.request);
        let run = order.package.run.going_on_with(&job.providers())?;
        let open = |files: &SourceFiles| files.open(order.package.run.memory, &mut warnings);
        Ok(Self {
            source: job.source.as_ref().map(open).transpose()?,
            warnings,
            keeper: order.job.as_deref().map(|path| JobKeeper::new(path, &job)).transpose()?,
            request: job.request,
            state: job.state,
            package: PackageArgs { folder: job.package, flavour: job.flavour, run },
            made_by: None,
            explain: order.explain,
            watch: order.watch.clone(),
            save_tokens: order.save_tokens.clone(),
            outputs,
            private: order.private || job.private,
            skips: None,
            only: job.only,
        })
    }

    /// Checks the request as far as that needs no graph.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a value out of range or one that does not fit the model or the image to
    /// edit.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<()> {
        let resolved = match &self.source {
            Some(source) => source.resolve(&self.request, manifest),
            None => self.request.resolve(manifest),
        };
        resolved.map(drop)
    }

    /// What it will take.
    ///
    /// # Errors
    ///
    /// As for [`Plan::new`].
    pub(crate) fn plan(&self, manifest: &Manifest, options: &Options) -> Result<Plan> {
        match &self.source {
            Some(source) => Plan::of_edit(manifest, &self.request, source, options),
            None => Plan::new(manifest, &self.request, options),
        }
    }

    /// The job that a pipeline runs.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::job`].
    pub(crate) fn job(&self, pipeline: &Pipeline) -> Result<Job> {
        match &self.state {
            Some(state) => pipeline.job(&state.request, Origin::Saved(state, self.source.as_ref())),
            None => pipeline.job(&self.request, Origin::image(self.source.as_ref())),
        }
    }

    /// Which images are wanted, from 0, and the file of each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, &Path)> {
        let first = self.only.unwrap_or(0);
        (first..).zip(self.outputs.files().iter().map(PathBuf::as_path))
    }

    /// The files of an earlier command that made the same images, if such are to be left as they
    /// are: their requests say so.
    ///
    /// # Errors
    ///
    /// As for [`Self::check`].
    pub(crate) fn made_before(&self, manifest: &Manifest) -> Result<Option<Vec<PathBuf>>> {
        let Some(AnySeed(any)) = self.skips else { return Ok(None) };
        let wanted = self.request.resolve(manifest)?;
        let wanted_by = self.package.run.providers();
        let first = self.only.unwrap_or(0);
        let is_same = |(image, file): (usize, &PathBuf)| {
            let Ok((request, Some(made_by))) = image_file::read(file) else { return false };
            let seed = if any { request.seed } else { wanted.seed };
            request == Request { seed, ..wanted.clone() }
                && made_by.package == manifest.digest()
                && made_by.image as usize == image
                && self.may_be_by(&made_by.providers)
                && made_by.provider_options == wanted_by.options_of(&made_by.providers)
        };
        let mut made = self.outputs.made_before(self.outputs.files().len()).into_iter();
        Ok(made.find(|files| (first..).zip(files).all(is_same)))
    }

    /// Whether its images may have been computed by `others`, and where those name nobody by the
    /// CPU.
    fn may_be_by(&self, others: &BTreeMap<Stage, Provider>) -> bool {
        let wanted = self.package.run.providers();
        Stage::ALL.into_iter().filter(|stage| self.uses(*stage)).all(|stage| {
            let by = others.get(&stage).copied().unwrap_or_default();
            match wanted.of(stage) {
                Provider::Auto => by == Provider::Cpu || wanted.libraries.contains_key(&by),
                wanted => wanted == by,
            }
        })
    }

    /// Whether its images take `stage`: the encoder is an edit's.
    pub(crate) fn uses(&self, stage: Stage) -> bool {
        stage != Stage::Encoder || self.source.is_some()
    }

    /// Whether the image goes to stdout.
    pub(crate) fn is_to_stdout(&self) -> bool {
        self.outputs.is_stdout()
    }

    /// Whether the images replace files that have their names.
    pub(crate) fn replaces(&self) -> bool {
        self.outputs.replaces()
    }

    /// Writes the images; returns their files.
    pub(crate) fn write(&mut self, output: &Output) -> Result<&[PathBuf]> {
        let first = self.only.unwrap_or(0);
        for file in 0..self.outputs.files().len() {
            let Some(image) = output.images.get(first + file) else { continue };
            let made_by = output.made_by.of_image(first + file);
            let told = (!self.private).then_some((&output.request, &made_by));
            if self.outputs.is_stdout() {
                let png = image_file::to_bytes(image, Path::new("image.png"), told)?;
                terminal::print_bytes(&png)?;
                continue;
            }
            let write = |path: &Path| match &mut self.keeper {
                Some(keeper) => keeper.write(path, &image_file::to_bytes(image, path, told)?),
                None => image_file::write(image, path, told),
            };
            self.outputs.write(file, write)?;
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.save_files(self.outputs.files())?;
        }
        Ok(self.outputs.files())
    }
}

/// Goes on with the job that a file keeps, if it is the same one that was not finished.
fn went_on(
    path: &Path,
    new: JobFile,
    outputs: Outputs,
    any_seed: bool,
) -> Result<(JobFile, Outputs)> {
    let kept = JobFile::unfinished(path, |kept| JobFile {
        request: Request {
            seed: if any_seed { kept.request.seed } else { new.request.seed },
            ..new.request.clone()
        },
        files: if outputs.replaces() { new.files.clone() } else { kept.files.clone() },
        ..new.clone()
    })?;
    let Some(kept) = kept else { return Ok((new, outputs)) };
    let outputs = Outputs::given(kept.files.clone());
    Ok((kept, outputs))
}

/// Stdout has room for one thing.
fn check_fits_stdout(order: &Order) -> Result<()> {
    let found = if order.package.run.json {
        "--json"
    } else if order.job.is_some() {
        "--job, whose image has a file"
    } else if order.watch.preview.is_some() {
        "--preview"
    } else if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        "a terminal"
    } else {
        return Ok(());
    };
    let detail = format!("expected stdout to take an image alone, found {found}");
    Err(Error::new(ErrorKind::BadRequest, "output", detail))
}

/// No file says of what image to edit.
fn edits_are_not_skipped() -> Error {
    let detail = "expected images that a prompt makes, which say of what request, found an edit";
    Error::new(ErrorKind::BadRequest, "skip_existing", detail)
}

fn needs_its_image(path: &Path) -> Error {
    let path = path.display();
    let detail = format!(
        "expected an image to edit, found the request of {path} alone, which an edit made: `edit \
         IMAGE --from {path}` makes it again of the same image"
    );
    Error::new(ErrorKind::BadRequest, "strength", detail)
}

/// A request read from a file as one that varies the image there. A variation of a variation is one
/// of the same image.
fn to_vary(base: Request, made_by: Option<&MadeBy>) -> Request {
    let own = made_by.map_or(0, |made_by| made_by.image);
    let variation_of = if base.variation.is_some() { base.variation_of } else { own };
    Request { num_images_per_prompt: 1, variation_of, ..base }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{GenerateArgs, RequestArgs, ResumeArgs, RunArgs, WrittenArgs};

    #[test]
    fn a_request_comes_from_the_flags_and_the_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let png = folder.path().join("tree-1.png");
        let made = Request {
            prompt: "a tree".to_owned(),
            seed: 5,
            num_images_per_prompt: 3,
            ..Request::default()
        };
        let made_by = MadeBy {
            version: "1".to_owned(),
            model: "tiny".to_owned(),
            package: pocketmuse_package::Digest::of(b""),
            flavour: None,
            providers: BTreeMap::new(),
            provider_options: BTreeMap::new(),
            split: BTreeMap::new(),
            image: 1,
        };
        let told = Some((&made, &made_by));
        image_file::write(&image::RgbImage::new(2, 2), &png, told).expect("written");
        let task = |change: fn(&mut GenerateArgs)| {
            let mut args = GenerateArgs {
                from: Some(png.clone()),
                output: Some(folder.path().join("again.png")),
                ..GenerateArgs::default()
            };
            change(&mut args);
            Task::new(&Order::generate(&args)).expect("read")
        };

        let again = task(|_| {});
        assert_eq!((&again.request, again.only, again.places().count()), (&made, Some(1), 1));
        let varied = task(|args| args.request.variation = Some(0.3));
        let request = &varied.request;
        assert_eq!(
            (request.variation, request.variation_of, request.num_images_per_prompt),
            (Some(0.3), 1, 1)
        );
        assert_eq!((varied.only, varied.places().count()), (None, 1));
        let both = task(|args| args.num_images_per_prompt = Some(2));
        assert_eq!((both.request.seed, both.only, both.places().count()), (5, None, 2));
    }

    #[test]
    fn a_job_that_was_kept_goes_on_as_it_began() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("job.json");
        let args = GenerateArgs {
            prompt: Some("a tree".to_owned()),
            request: RequestArgs { seed: Some(3), ..RequestArgs::default() },
            output: Some(folder.path().join("a.png")),
            job: Some(file.clone()),
            package: PackageArgs {
                flavour: Some(pocketmuse::Flavour::F32),
                ..PackageArgs::default()
            },
            ..GenerateArgs::default()
        };
        let begun = Task::new(&Order::generate(&args)).expect("read");
        begun.keeper.as_ref().expect("wanted").save().expect("written");
        let args = ResumeArgs {
            job: file,
            force: false,
            run: RunArgs::default(),
            written: WrittenArgs::default(),
            watch: WatchArgs::default(),
        };
        let resumed = Task::new(&Order::resume(&args)).expect("read");
        assert_eq!(resumed.request, begun.request);
        assert_eq!(resumed.package.flavour, begun.package.flavour);
        assert!(resumed.places().eq(begun.places()));
    }
}
