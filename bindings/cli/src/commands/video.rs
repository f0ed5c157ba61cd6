//! `pocketmuse video`: a prompt becomes an animation, frame after frame.

use std::{ops::ControlFlow, time::Duration};

use pocketmuse::{Video, pixels::Animation, video::Moment};
use pocketmuse_package::Result;
use serde_json::json;

use super::{
    edit,
    generate::Console,
    job,
    package::{self, Opened},
};
use crate::{args::VideoArgs, stop, terminal};

pub(crate) fn run(args: &VideoArgs, offline: bool) -> Result<u8> {
    let console = Console { json: args.package.run.json };
    let made = package::mended(&args.package, &console, || film(args, offline, &console));
    made.map(|()| 0).inspect_err(|error| console.event(|| terminal::error_event(error)))
}

fn film(args: &VideoArgs, offline: bool, console: &Console) -> Result<()> {
    let mut animation = Animation::create(&args.output, Duration::from_secs_f64(1.0 / args.fps))?;
    let memory = args.package.run.memory;
    let end =
        args.end.as_deref().map(|path| edit::read_image(path, memory, console)).transpose()?;
    let video = Video { frames: args.frames, motion: args.motion, remask: args.remask, end };
    let request = args.request(job::random_seed());
    let found = package::find(&args.package, console)?;
    video.resolve(&request, &found.manifest)?; // a wrong request fails before anything is fetched
    let Opened { folder, manifest, pipeline } =
        found.open(&package::options(&args.package), offline)?;
    console.started(&folder, &manifest, request.seed);

    let mut failed = Ok(());
    let bar = terminal::step_bar("filming", console.json);
    bar.set_length(args.frames.into());
    let made = pipeline.video(&request, &video, |moment| {
        if let Moment::Frame { frame, image } = moment {
            failed = animation.add(&image);
            bar.set_position(u64::from(frame) + 1);
            console.event(|| json!({"event": "frame", "frame": frame + 1, "frames": args.frames}));
        }
        if failed.is_err() { ControlFlow::Break(()) } else { stop::flow() }
    });
    bar.finish_and_clear();
    failed?;
    let made = made?;
    stop::check()?;
    made.truncated
        .iter()
        .for_each(|cut| console.warning(&format!("too long for the model, cut off: {cut}")));
    let files = animation.finish()?;
    if console.json {
        let request = terminal::plain_json(&made.request);
        let total_ms = terminal::milliseconds(made.total);
        console.event(|| json!({"event": "done", "files": files, "frames": args.frames, "request": request, "total_ms": total_ms}));
    } else {
        files.iter().for_each(|file| terminal::print(file.display().to_string()));
    }
    Ok(())
}
