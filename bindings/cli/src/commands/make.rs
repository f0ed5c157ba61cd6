//! A task's images are made with an opened package, watched, and written.

use std::ops::ControlFlow;

use pocketmuse::{Manifest, Output, Pipeline, Step, Trace};
use pocketmuse_package::Result;

use crate::{
    console::Console, image_file::MadeBy, package::Opened, stop, task::Task, trace, watch::Watcher,
};

/// Makes the images of `task`.
pub(super) fn make(task: &mut Task, opened: &Opened, console: &Console) -> Result<()> {
    let Opened { folder, manifest, pipeline } = opened;
    if let Some(warning) = task.made_by.as_ref().and_then(|made_by| differs(made_by, manifest)) {
        console.warning(&warning)?;
    }
    task.keeper.as_ref().map_or(Ok(()), |keeper| keeper.save())?;
    console.start(folder, manifest, task.request.seed)?;

    let mut watcher = Watcher::new(task, opened, console)?;
    let made = draw(task, pipeline, |step| watcher.step(step));
    let tokens = watcher.end(task)?;
    let (output, traced) = made?;
    stop::check()?;
    console.truncated(&output.truncated)?;

    let files = task.write(&output, manifest)?.to_vec();
    tokens.write(&output.request)?;
    if let (Some(folder), Some(traced)) = (&task.watch.trace, &traced) {
        console.trace(&trace::write(folder, traced, &output, manifest)?, traced)?;
    }
    console.images(&files, &output, task.watch.verbose)
}

/// Runs what is left of a task, and looks inside if that is wanted.
fn draw(
    task: &Task,
    pipeline: &Pipeline,
    on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
) -> Result<(Output, Option<Trace>)> {
    let (request, source) = (&task.request, task.source.as_ref());
    if task.watch.trace.is_some() {
        let traced = match &task.state {
            Some(state) => pipeline.trace_resumed(state, source, on_step),
            None => pipeline.trace(request, source, on_step),
        };
        return traced.map(|(output, trace)| (output, Some(trace)));
    }
    let output = match (&task.state, source) {
        (Some(state), source) => pipeline.resume(state, source, on_step),
        (None, Some(source)) => pipeline.edit(request, source, on_step),
        (None, None) => pipeline.generate(request, on_step),
    };
    output.map(|output| (output, None))
}

/// Why an image may come out another than the one its request was read from.
fn differs(made_by: &MadeBy, manifest: &Manifest) -> Option<String> {
    let found = manifest.digest();
    (made_by.package != found).then(|| {
        format!(
            "the image was made with another package, {} {}, and not with {} {found}: expect \
             another image",
            made_by.model, made_by.package, manifest.model.name
        )
    })
}
