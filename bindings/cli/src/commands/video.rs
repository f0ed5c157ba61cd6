//! `pocketmuse video`: a prompt becomes an animation, frame after frame.

use std::{ops::ControlFlow, time::Duration};

use pocketmuse::{
    Video,
    pixels::{self, Animation},
    video::Moment,
};
use pocketmuse_package::Result;

use crate::{
    args::VideoArgs,
    console::Console,
    events::{Event, paths},
    order,
    package::{self, Opened},
    stop, terminal,
};

pub(crate) fn run(args: &VideoArgs, offline: bool) -> Result<u8> {
    let console = Console { json: args.package.run.json };
    let made = package::with_repair(&args.package, &console, || film(args, offline, &console));
    made.map(|()| 0).inspect_err(|error| console.error(error))
}

fn film(args: &VideoArgs, offline: bool, console: &Console) -> Result<()> {
    let mut animation = Animation::create(&args.output, Duration::from_secs_f64(1.0 / args.fps))?;
    let end = args.end.as_deref().map(pixels::read).transpose()?.map(|read| read.image);
    let video = Video { frames: args.frames, motion: args.motion, remask: args.remask, end };
    let request = order::video_request(args);
    let found = package::find(&args.package, console)?;
    video.resolve(&request, &found.manifest)?; // a wrong request fails before anything is fetched
    let Opened { folder, manifest, pipeline } =
        found.open(&package::options(&args.package), offline)?;
    console.start(&folder, &manifest, request.seed)?;

    let mut failed = Ok(());
    let bar = terminal::step_bar("filming", console.json);
    bar.set_length(args.frames.into());
    let made = pipeline.video(&request, &video, |moment| {
        if let Moment::Frame { frame, image } = moment {
            bar.set_position(u64::from(frame) + 1);
            let event = Event::Frame { frame: frame + 1, frames: args.frames };
            failed = animation.add(&image).and_then(|()| console.event(&event));
        }
        if failed.is_err() { ControlFlow::Break(()) } else { stop::flow() }
    });
    bar.finish_and_clear();
    failed?;
    let made = made?;
    stop::check()?;
    console.truncated(&made.truncated)?;
    let files = animation.finish()?;
    let (request, total_ms) = (&made.request, terminal::milliseconds(made.total));
    let files_text = paths(&files);
    let event = Event::Video { files: files_text, frames: args.frames, request, total_ms };
    console.done(&files, &event)
}
