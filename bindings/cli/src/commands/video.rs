//! `pocketmuse video`: a prompt becomes an animation, frame after frame.

use std::{ops::ControlFlow, time::Duration};

use image::RgbImage;
use indicatif::ProgressBar;
use pocketmuse::{Control, Step, Video, Watch, pixels::Animation};
use pocketmuse_package::Result;

use crate::{
    args::VideoArgs,
    console::Console,
    events::{Event, paths},
    order,
    package::{self, Opened},
    source, stop, terminal,
};

pub(crate) fn run(args: &VideoArgs, offline: bool) -> Result<u8> {
    let console = Console::new(&args.package.run);
    let made = package::with_repair(&args.package, &console, || film(args, offline, &console));
    made.map(|()| 0).inspect_err(|error| console.error(error))
}

fn film(args: &VideoArgs, offline: bool, console: &Console) -> Result<()> {
    let animation = Animation::create(&args.output, Duration::from_secs_f64(1.0 / args.fps))?;
    let memory = args.package.run.memory;
    let read = |path| source::read_image(path, memory, console);
    let end = args.end.as_deref().map(read).transpose()?;
    let video = Video { frames: args.frames, motion: args.motion, remask: args.remask, end };
    let request = order::video_request(args);
    let found = package::find(&args.package, console)?;
    video.resolve(&request, &found.manifest)?; // a wrong request fails before anything is fetched
    let Opened { folder, manifest, pipeline } =
        found.open(&package::options(&args.package), offline)?;
    let unusual = order::unusual(&request, &manifest);
    order::warnings(&request)
        .iter()
        .chain(&unusual)
        .try_for_each(|warning| console.warning(warning))?;
    console.start((&folder, &manifest), request.seed, &[], None)?;

    let mut film = Film::new(animation, args.frames, console);
    let made = pipeline.video_job(&request, &video).and_then(|job| pipeline.run(&job, &mut film));
    let animation = film.end()?;
    let made = made?;
    stop::check()?;
    console.truncated(&made.truncated)?;
    console.unknown(&made.unknown_words, &manifest)?;
    let files = animation.finish()?;
    let event = Event::Video {
        files: paths(&files),
        frames: args.frames,
        request: &made.request,
        total_ms: terminal::milliseconds(made.report.total),
    };
    console.done(&files, &event)
}

/// Takes the frames of a video as they are made.
struct Film<'a> {
    animation: Animation,
    frames: u32,
    console: &'a Console,
    bar: ProgressBar,
    failed: Result<()>,
}

impl<'a> Film<'a> {
    fn new(animation: Animation, frames: u32, console: &'a Console) -> Self {
        let bar = terminal::step_bar("filming", console.hides_bars());
        bar.set_length(frames.into());
        Self { animation, frames, console, bar, failed: Ok(()) }
    }

    /// The animation, if every frame could be added and told.
    fn end(self) -> Result<Animation> {
        self.bar.finish_and_clear();
        self.failed.map(|()| self.animation)
    }
}

impl Watch for Film<'_> {
    fn control(&self) -> Option<&Control> {
        Some(stop::control())
    }

    fn step(&mut self, _: &Step<'_>) -> ControlFlow<()> {
        stop::flow()
    }

    fn frame(&mut self, frame: u32, image: RgbImage) -> ControlFlow<()> {
        self.bar.set_position(u64::from(frame) + 1);
        let event = Event::Frame { frame: frame + 1, frames: self.frames };
        self.failed = self.animation.add(&image).and_then(|()| self.console.event(&event));
        if self.failed.is_err() { ControlFlow::Break(()) } else { stop::flow() }
    }
}
