//! A task's images are made with an opened package, watched, and written.

use pocketmuse::Manifest;
use pocketmuse_package::Result;

use crate::{
    console::Console, events::Place, image_file::MadeBy, package::Opened, stop, task::Task, trace,
    watch::Watcher,
};

/// Makes the images of `task`.
pub(super) fn make(
    task: &mut Task,
    opened: &Opened,
    console: &Console,
    place: Option<Place>,
) -> Result<()> {
    let Opened { folder, manifest, pipeline } = opened;
    if let Some(warning) = task.made_by.as_ref().and_then(|made_by| differs(made_by, manifest)) {
        console.warning(&warning)?;
    }
    task.warnings.iter().try_for_each(|warning| console.warning(warning))?;
    task.keeper.as_ref().map_or(Ok(()), |keeper| keeper.save())?;
    let files: Vec<_> = task.places().map(|(_, file)| file.to_owned()).collect();
    console.start((folder, manifest), task.request.seed, &files, place)?;

    let mut watcher = Watcher::new(task, opened, console)?;
    let made = task.job(pipeline).and_then(|job| {
        watcher.look_inside(task, &job)?;
        pipeline.run(&job, &mut watcher)
    });
    let seen = watcher.end(task)?;
    let output = made?;
    stop::check()?;
    console.truncated(&output.truncated)?;

    let files = task.write(&output, manifest)?.to_vec();
    if let (Some(path), Some(tokens)) = (&task.save_tokens, &seen.tokens) {
        tokens.write(path, &output.request)?;
    }
    if let (Some(folder), Some(traced)) = (&task.watch.trace, &seen.trace) {
        console.trace(&trace::write(folder, traced, &output, manifest)?, traced)?;
    }
    let shown: &[_] = if task.is_to_stdout() { &[] } else { &files };
    console.images(shown, &output, task.watch.verbose)
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
