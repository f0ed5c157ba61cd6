//! `pocketmuse resume`: a job that was stopped goes on from its file, whatever it makes.

use pocketmuse_package::{Error, ErrorKind, Result};

use super::{generate, video};
use crate::{args::ResumeArgs, console::Console, job_file::JobFile, order::Order};

pub(crate) fn run(args: &ResumeArgs, offline: bool) -> Result<u8> {
    let console = Console::new(&args.run);
    let job = JobFile::read(&args.job).inspect_err(|error| console.error(error))?;
    if job.video.is_none() {
        return generate::run(&Order::resume(args), offline);
    }
    check(args).and_then(|()| video::resume(args, job, offline, &console)).inspect_err(|error| {
        console.error(error);
    })
}

/// Checks that nothing is asked for that a video has not.
fn check(args: &ResumeArgs) -> Result<()> {
    let flags = [("preview", args.watch.preview.is_some()), ("trace", args.watch.trace.is_some())];
    let Some((flag, _)) = flags.into_iter().find(|(_, is_given)| *is_given) else { return Ok(()) };
    Err(Error::new(ErrorKind::BadRequest, flag, "expected images to look at, found a video"))
}
