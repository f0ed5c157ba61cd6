//! `pocketmuse compile`: a package's graphs for the NPUs of phones, in processes of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

use pocketmuse::{
    Candidate, Flavour, Manifest, Options, Origin, Pipeline, Request, Stage, prepared::Need,
};
use pocketmuse_package::{
    ContextEntry, Result,
    files::{self, TemporaryFolder},
};

use crate::{
    args::{CompileArgs, PackageArgs, RunArgs},
    console::Console,
    events, package, proof,
    results::CompiledContext,
    runtime, stop,
    terminal::{self, megabytes, milliseconds},
};

/// The option that says which chip a provider compiles for.
const CHIP: &str = "soc";

pub(crate) fn run(args: &CompileArgs, offline: bool) -> Result<u8> {
    runtime::start(offline)?;
    let manifest = Manifest::read(&args.package)?;
    let flavour = flavour(args, &manifest);
    let stages = stages(args, (&manifest, flavour))?;
    let (provider, chips) = &args.target;
    for chip in chips {
        let run = RunArgs {
            threads: args.threads,
            provider: Some(stages.iter().map(|stage| (*stage, *provider)).collect()),
            provider_library: vec![args.provider_library.clone()],
            provider_option: vec![(*provider, CHIP.to_owned(), chip.clone())],
            quiet: args.quiet,
            json: args.json,
            ..RunArgs::default()
        };
        let console = Console::new(&run);
        let named = PackageArgs { folder: Some(args.package.clone()), flavour: Some(flavour), run };
        let options = Options { staged: true, ..package::options(&named) };
        let opened = package::find(&named, &console)?.open(&options, offline)?;
        let by = (&*opened.folder, &options);
        for candidates in by_stage(args, (&opened.pipeline, &manifest))?.values() {
            let count = if args.separate { 1 } else { candidates.len() };
            for candidates in candidates.chunks(count) {
                together(candidates, by, (flavour, &console))?;
            }
        }
    }
    Ok(0)
}

/// The stages, each for the sizes that differ for it.
fn by_stage(
    args: &CompileArgs,
    (pipeline, manifest): (&Pipeline, &Manifest),
) -> Result<BTreeMap<Stage, Vec<Candidate>>> {
    let (mut known, mut stages) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
    for request in requests(args, manifest) {
        let job = pipeline.job(&request, Origin::Nothing)?;
        for candidate in pipeline.candidates(&job)? {
            if known.insert((candidate.stage, candidate.extents(pipeline)?)) {
                stages.entry(candidate.stage).or_default().push(candidate);
            }
        }
    }
    Ok(stages)
}

/// The flavour that NPUs take best.
fn flavour(args: &CompileArgs, manifest: &Manifest) -> Flavour {
    let made_for_them = [Flavour::Qdq, Flavour::F16];
    let best = made_for_them.into_iter().find(|flavour| manifest.flavours.contains_key(flavour));
    let any = manifest.flavours.keys().next().copied();
    args.flavour.or(best).or(any).unwrap_or(Flavour::F16)
}

/// The stages that are compiled. The encoder of `qdq` is that of `int8`, which no NPU takes whole.
fn stages(args: &CompileArgs, (manifest, flavour): (&Manifest, Flavour)) -> Result<Vec<Stage>> {
    let all = manifest.flavour(flavour)?.stages.keys().copied();
    let is_made_for_it = |stage: &Stage| flavour != Flavour::Qdq || *stage != Stage::Encoder;
    let is_wanted = |stage: &Stage| match args.stage.is_empty() {
        true => is_made_for_it(stage),
        false => args.stage.contains(stage),
    };
    Ok(all.filter(is_wanted).collect())
}

/// A request for each size and number of branches.
fn requests(args: &CompileArgs, manifest: &Manifest) -> Vec<Request> {
    let own = [manifest.model.sample_size * manifest.model.pixels_per_token];
    let sizes = if args.size.is_empty() { &own[..] } else { &args.size };
    let request = |size: u32, branches: u8| Request {
        width: Some(size),
        height: Some(size),
        guidance_scale: Some(f32::from(branches)), // 1 switches it off
        ..Request::default()
    };
    let of_size = |size: &u32| {
        let size = *size;
        args.branches.iter().map(move |branches| request(size, *branches))
    };
    sizes.iter().flat_map(of_size).collect()
}

/// Compiles a stage for each size into one binary, and says what came of it.
fn together(
    candidates: &[Candidate],
    (folder, options): (&Path, &Options),
    (flavour, console): (Flavour, &Console),
) -> Result<()> {
    let Some(Candidate { stage, provider, .. }) = candidates.first() else { return Ok(()) };
    stop::check()?;
    let bar = terminal::step_bar("compiling", console.hides_bars());
    bar.set_message(format!("compiling {stage} of {flavour}"));
    bar.tick();
    files::sweep(folder);
    let work = TemporaryFolder::beside(&folder.join("context"))?;
    let started = Instant::now();
    let cancel = stop::control().canceller();
    let compiled = proof::compile(candidates, (folder, options), (work.path(), cancel));
    bar.finish_and_clear();
    let (contexts, need) = compiled?;
    let (ms, sharing) = (milliseconds(started.elapsed()), contexts.len());
    let peak_bytes = need.map(|Need { peak_bytes, .. }| peak_bytes);
    for ContextEntry { target, sdk, extents, graph, binary, .. } in &contexts {
        let told = CompiledContext {
            flavour,
            stage: *stage,
            provider: *provider,
            target,
            sdk,
            extents,
            graph: &graph.path,
            bytes: binary.bytes,
            sharing,
            peak_bytes,
            ms,
        };
        if console.json {
            terminal::print(events::line(&events::plain_json(&told)))?;
            continue;
        }
        let peak = peak_bytes.map(|bytes| format!(", {} of memory", megabytes(bytes)));
        let size = megabytes(binary.bytes);
        let size = if sharing > 1 { format!("one of {sharing} in {size}") } else { size };
        terminal::print(format!(
            "{}: {size}, {:.1} s{}",
            graph.path,
            ms / 1000.0,
            peak.unwrap_or_default()
        ))?;
    }
    Ok(())
}
