//! A task's images are made with an opened package, watched, and written.

use std::collections::BTreeMap;

use pocketmuse::{Capabilities, Flavour, Manifest, Provider, Stage};
use pocketmuse_package::Result;

use crate::{
    console::Console, events::Place, image_file::MadeBy, order, package::Opened, stop, task::Task,
    trace, watch::Watcher,
};

/// Makes the images of `task`.
pub(super) fn make(
    task: &mut Task,
    opened: &Opened,
    console: &Console,
    place: Option<Place>,
) -> Result<()> {
    let Opened { folder, manifest, pipeline } = opened;
    if let Some(made_by) = &task.made_by {
        let providers = pipeline.providers().into_iter().filter(|(stage, _)| task.uses(*stage));
        let now = providers.filter(|(_, provider)| *provider != Provider::Cpu).collect();
        let graphs = differs(made_by, manifest, pipeline.capabilities().flavour);
        let computed = computed_otherwise(&made_by.providers, &now);
        graphs.iter().chain(&computed).try_for_each(|warning| console.warning(warning))?;
    }
    task.warnings.iter().try_for_each(|warning| console.warning(warning))?;
    let unusual = order::unusual(&task.request, manifest);
    unusual.iter().try_for_each(|warning| console.warning(warning))?;
    task.keeper.as_ref().map_or(Ok(()), |keeper| keeper.save())?;
    let files: Vec<_> = task.places().map(|(_, file)| file.to_owned()).collect();
    console.start((folder, manifest, pipeline), task.request.seed, &files, place)?;

    let mut watcher = Watcher::new(task, opened, console)?;
    let made = task.job(pipeline).and_then(|job| {
        watcher.look_inside(task, &job)?;
        pipeline.run(&job, &mut watcher)
    });
    let seen = watcher.end(task)?;
    let output = made?;
    stop::check()?;
    console.truncated(&output.truncated)?;
    console.unknown(&output.unknown_words, manifest)?;

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
fn differs(made_by: &MadeBy, manifest: &Manifest, flavour: Flavour) -> Option<String> {
    let found = manifest.digest();
    if made_by.package != found {
        return Some(format!(
            "the image was made with another package, {} {}, and not with {} {found}: expect \
             another image",
            made_by.model, made_by.package, manifest.model.name
        ));
    }
    // Where none was chosen, the best ran.
    let best = || Capabilities::of(manifest, None).map(|best| best.flavour).ok();
    let made_with = made_by.flavour.or_else(best).filter(|made_with| *made_with != flavour)?;
    Some(format!(
        "the image was made with the graphs {made_with}, and not with {flavour}: expect another \
         image"
    ))
}

/// Why an image may come out near the one its request was read from, and not the same: who computed
/// that, and who will compute this, but for the CPU.
fn computed_otherwise(
    before: &BTreeMap<Stage, Provider>,
    now: &BTreeMap<Stage, Provider>,
) -> Option<String> {
    let names = |others: &BTreeMap<Stage, Provider>| {
        let stages = others.iter().map(|(stage, provider)| format!("{stage}={provider}"));
        let stages: Vec<_> = stages.collect();
        if stages.is_empty() { "cpu".to_owned() } else { stages.join(",") }
    };
    (before != now).then(|| {
        format!(
            "the image was computed by {}, and not by {}: expect one that is near, not the same",
            names(before),
            names(now)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_provider_than_before_is_said() {
        let cpu = BTreeMap::new();
        let step = [(Stage::Step, Provider::OpenVino)].into();
        assert_eq!(computed_otherwise(&cpu, &cpu), None);
        assert_eq!(computed_otherwise(&step, &step), None);
        let [there, back] = [(&cpu, &step), (&step, &cpu)]
            .map(|(before, now)| computed_otherwise(before, now).expect("they differ"));
        assert!(there.contains("computed by cpu, and not by step=openvino"), "{there}");
        assert!(back.contains("computed by step=openvino, and not by cpu"), "{back}");
    }
}
