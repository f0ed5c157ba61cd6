//! A task's images are made with an opened package, watched, and written.

use std::collections::BTreeMap;

use pocketmuse::{Capabilities, Flavour, MadeBy, Manifest, Provider, Stage};
use pocketmuse_package::Result;

use crate::{
    console::Console, events::Place, order, package::Opened, stop, task::Task, trace,
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
    let providers = pipeline.providers().into_iter().filter(|(stage, _)| task.uses(*stage));
    let now = providers.filter(|(_, provider)| *provider != Provider::Cpu).collect();
    // Who that is is known only when the images are made.
    let is_automatic = task.package.run.others().values().any(|by| *by == Provider::Auto);
    if let Some(made_by) = &task.made_by {
        let graphs = differs(made_by, manifest, pipeline.capabilities().flavour);
        graphs.iter().try_for_each(|warning| console.warning(warning))?;
    }
    if !is_automatic {
        warn_of(&now, task, console)?;
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
    if is_automatic {
        warn_of(&output.made_by.providers, task, console)?;
    }

    let files = task.write(&output)?.to_vec();
    if let (Some(path), Some(tokens)) = (&task.save_tokens, &seen.tokens) {
        tokens.write(path, &output.request)?;
    }
    if let (Some(folder), Some(traced)) = (&task.watch.trace, &seen.trace) {
        console.trace(&trace::write(folder, traced, &output, manifest)?, traced)?;
    }
    let shown: &[_] = if task.is_to_stdout() { &[] } else { &files };
    console.images(shown, &output, task.watch.verbose)
}

/// Says so if the image that the request was read from was computed by others than `now`.
fn warn_of(now: &BTreeMap<Stage, Provider>, task: &Task, console: &Console) -> Result<()> {
    let Some(made_by) = &task.made_by else { return Ok(()) };
    let options = task.package.run.providers().options_of(now);
    let before = (&made_by.providers, &made_by.provider_options);
    let computed = computed_otherwise(before, (now, &options));
    computed.iter().try_for_each(|warning| console.warning(warning))
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
fn computed_otherwise(before: Computed<'_>, now: Computed<'_>) -> Option<String> {
    let names = |(others, options): Computed<'_>| {
        let stages = others.iter().map(|(stage, provider)| format!("{stage}={provider}"));
        let options = options.iter().flat_map(|(provider, chosen)| {
            chosen.iter().map(move |(key, value)| format!("{provider}.{key}={value}"))
        });
        let names: Vec<_> = stages.chain(options).collect();
        if names.is_empty() { "cpu".to_owned() } else { names.join(",") }
    };
    (before != now).then(|| {
        format!(
            "the image was computed by {}, and not by {}: expect one that is near, not the same",
            names(before),
            names(now)
        )
    })
}

/// Who computes which stage, but for the CPU, and the options of those.
type Computed<'a> =
    (&'a BTreeMap<Stage, Provider>, &'a BTreeMap<Provider, BTreeMap<String, String>>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_provider_than_before_is_said_and_another_option() {
        let (cpu, none) = (BTreeMap::new(), BTreeMap::new());
        let step = [(Stage::Step, Provider::OpenVino)].into();
        let bf16 =
            [(Provider::OpenVino, [("precision".to_owned(), "bf16".to_owned())].into())].into();
        for (before, now, expected) in [
            ((&cpu, &none), (&cpu, &none), None),
            ((&step, &bf16), (&step, &bf16), None),
            ((&cpu, &none), (&step, &none), Some("by cpu, and not by step=openvino:")),
            ((&step, &none), (&cpu, &none), Some("by step=openvino, and not by cpu:")),
            (
                (&step, &bf16),
                (&step, &none),
                Some("by step=openvino,openvino.precision=bf16, and not by step=openvino:"),
            ),
        ] {
            let said = computed_otherwise(before, now);
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            let said = said.unwrap_or_default();
            assert!(said.contains(expected.unwrap_or_default()), "{said}");
        }
    }
}
