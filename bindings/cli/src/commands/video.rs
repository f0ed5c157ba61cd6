//! `pocketmuse video`: a prompt becomes an animation, frame after frame.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use image::RgbImage;
use indicatif::ProgressBar;
use pocketmuse::{Origin, Pipeline, Request, Step, Video, Watch, job::State, pixels::Animation};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::{
    args::{PackageArgs, ResumeArgs, RunArgs, VideoArgs},
    console::Console,
    events::{Event, Took, paths},
    frames::{Frames, Made},
    job_file::{JobFile, VideoFile},
    job_keeper::JobKeeper,
    order,
    package::{self, Opened},
    source::{self, PinnedFile},
    stop, terminal,
};

pub(crate) fn run(args: &VideoArgs, offline: bool) -> Result<u8> {
    let console = Console::new(&args.package.run);
    let shot = Shoot::new(args).and_then(|shoot| shoot.run(offline, &console));
    shot.map(|()| 0).inspect_err(|error| console.error(error))
}

/// Goes on with the video of a job.
pub(super) fn resume(
    args: &ResumeArgs,
    job: JobFile,
    offline: bool,
    console: &Console,
) -> Result<u8> {
    if !args.force {
        job.check_replaces_its_own()?;
    }
    Shoot::of(job, Some(&args.job), &args.run)?.run(offline, console).map(|()| 0)
}

/// A video to make.
struct Shoot {
    job: JobFile,
    video: VideoFile,
    /// Where the job is kept.
    file: Option<PathBuf>,
    package: PackageArgs,
}

/// Where a video begins.
enum Begin<'a> {
    /// With its first frame.
    New(Video),
    /// After a step.
    Saved(&'a State),
}

impl Shoot {
    fn new(args: &VideoArgs) -> Result<Self> {
        let video = VideoFile {
            frames: args.frames,
            motion: args.motion,
            remask: args.remask,
            end: args.end.as_deref().map(PinnedFile::new).transpose()?,
            fps: args.fps,
            made: Made::default(),
        };
        let job = JobFile {
            request: order::video_request(args),
            package: args.package.folder.clone(),
            flavour: args.package.flavour,
            providers: args.package.run.others(),
            libraries: args.package.run.providers().libraries,
            options: args.package.run.providers().options,
            allow_fallback: args.package.run.allow_fallback,
            source: None,
            video: Some(video),
            files: vec![args.output.clone()],
            only: None,
            private: args.written.private,
            state: None,
            written: Vec::new(),
        };
        let kept = match args.job.as_deref().filter(|path| path.exists()) {
            Some(path) => JobFile::unfinished(path, |kept| {
                let seed = args.request.seed.map_or(kept.request.seed, |_| job.request.seed);
                JobFile { request: Request { seed, ..job.request.clone() }, ..job.clone() }
            })?,
            None => None,
        };
        Self::of(kept.unwrap_or(job), args.job.as_deref(), &args.package.run)
    }

    fn of(job: JobFile, file: Option<&Path>, run: &RunArgs) -> Result<Self> {
        let video = job.video.clone().ok_or_else(|| {
            Error::new(ErrorKind::BadInput, "job", "expected a video, found images")
        })?;
        let (folder, flavour) = (job.package.clone(), job.flavour);
        let run = run.going_on_with(&job.providers())?;
        let package = PackageArgs { folder, flavour, run };
        Ok(Self { job, video, file: file.map(Path::to_owned), package })
    }

    fn run(&self, offline: bool, console: &Console) -> Result<()> {
        package::with_repair(&self.package, console, || self.film(offline, console))
    }

    fn film(&self, offline: bool, console: &Console) -> Result<()> {
        let mut animation = Animation::create(&self.job.files[0], self.delay()?)?;
        let keeper = self.file.as_ref().map(|path| JobKeeper::new(path, &self.job));
        let mut keeper = keeper.transpose()?;
        let request = &self.job.request;
        let begin = match &self.job.state {
            Some(state) => Begin::Saved(state),
            None => Begin::New(self.moved(console)?),
        };
        let found = package::find(&self.package, console)?;
        if let Begin::New(video) = &begin {
            video.resolve(request, &found.manifest)?; // or it fails before anything is fetched
        }
        let Opened { folder, manifest, pipeline } =
            found.open(&package::options(&self.package), offline)?;
        let unusual = order::unusual(request, &manifest);
        order::warnings(request)
            .iter()
            .chain(&unusual)
            .try_for_each(|warning| console.warning(warning))?;
        let job = match &begin {
            Begin::New(video) => pipeline.video_job(request, video),
            Begin::Saved(state) => pipeline.job(&state.request, Origin::Saved(state, None)),
        }?;
        let frames = keeper.as_ref().map(JobKeeper::frames);
        frames.as_ref().map_or(Ok(()), |frames| frames.read(|image| animation.add(image)))?;
        keeper.as_ref().map_or(Ok(()), JobKeeper::save)?;
        console.start((&folder, &manifest, &pipeline), request.seed, &[], None)?;

        let kept = keeper.as_mut().zip(frames).map(|(keeper, frames)| Kept { keeper, frames });
        let mut film = Film::new(animation, kept, (self.video.frames, &pipeline, console));
        let made = pipeline.run(&job, &mut film);
        let (animation, frames) = film.end()?;
        let made = made?;
        stop::check()?;
        console.truncated(&made.truncated)?;
        console.unknown(&made.unknown_words, &manifest)?;
        let files = animation.finish()?;
        keeper.as_mut().map_or(Ok(()), |keeper| keeper.save_video(&files))?;
        frames.map_or(Ok(()), Frames::remove)?;
        let event = Event::Video {
            files: paths(&files),
            frames: self.video.frames,
            request: &made.request,
            took: Took::of(&made.report),
        };
        console.done(&files, &event)
    }

    /// How long a frame is shown.
    fn delay(&self) -> Result<Duration> {
        let fps = self.video.fps;
        Duration::try_from_secs_f64(1.0 / fps).map_err(|_| {
            let detail = format!("expected frames in a second above 0, found {fps}");
            Error::new(ErrorKind::BadInput, "fps", detail)
        })
    }

    /// How the image moves, its end read.
    fn moved(&self, console: &Console) -> Result<Video> {
        let memory = self.package.run.memory;
        let read = |file: &PinnedFile| source::read_image(file.check()?, memory, console);
        let VideoFile { frames, motion, remask, end, .. } = &self.video;
        let end = end.as_ref().map(read).transpose()?;
        Ok(Video { frames: *frames, motion: *motion, remask: *remask, end })
    }
}

/// Keeps a video's job and its frames.
struct Kept<'a> {
    keeper: &'a mut JobKeeper,
    frames: Frames,
}

/// Takes the frames of a video as they are made.
struct Film<'a> {
    animation: Animation,
    kept: Option<Kept<'a>>,
    frames: u32,
    pipeline: &'a Pipeline,
    console: &'a Console,
    bar: ProgressBar,
    failed: Result<()>,
}

impl<'a> Film<'a> {
    fn new(
        animation: Animation,
        kept: Option<Kept<'a>>,
        (frames, pipeline, console): (u32, &'a Pipeline, &'a Console),
    ) -> Self {
        let bar = terminal::step_bar("filming", console.hides_bars());
        bar.set_length(frames.into());
        bar.set_position(kept.as_ref().map_or(0, |kept| kept.frames.made().frames.into()));
        Self { animation, kept, frames, pipeline, console, bar, failed: Ok(()) }
    }

    /// The animation and its frames, if every frame could be added and told.
    fn end(self) -> Result<(Animation, Option<Frames>)> {
        self.bar.finish_and_clear();
        self.failed.map(|()| (self.animation, self.kept.map(|kept| kept.frames)))
    }

    fn note(&mut self, step: &Step<'_>) -> Result<()> {
        if let Some(Kept { keeper, frames }) = &mut self.kept {
            keeper.save_frame_state(self.pipeline.state(step), frames.made())?;
        }
        self.console.event(&Event::Step {
            step: step.step + 1,
            num_inference_steps: step.num_inference_steps,
            preview: None,
        })
    }

    fn add(&mut self, frame: u32, image: &RgbImage) -> Result<()> {
        self.animation.add(image)?;
        if let Some(Kept { frames, .. }) = &mut self.kept {
            frames.add(image)?;
        }
        self.bar.set_position(u64::from(frame) + 1);
        self.console.event(&Event::Frame { frame: frame + 1, frames: self.frames })
    }

    /// Stops where something could not be written, or the user wants it.
    fn flow(&self) -> ControlFlow<()> {
        if self.failed.is_err() { ControlFlow::Break(()) } else { stop::flow() }
    }
}

impl Watch for Film<'_> {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.failed = self.note(step);
        self.flow()
    }

    fn frame(&mut self, frame: u32, image: RgbImage) -> ControlFlow<()> {
        self.failed = self.add(frame, &image);
        self.flow()
    }
}
