//! `pocketmuse doctor`: what a package can be run with on this machine.

use std::collections::{BTreeMap, BTreeSet};

use pocketmuse::{
    Flavour, Manifest, Options, Provider, Providers, Request, Stage,
    doctor::{Diagnosis, Finding, Machine, shown},
};
use pocketmuse_package::Result;

use crate::{
    args::{DoctorArgs, PackageArgs},
    console::Console,
    events::{self, PathText},
    package,
    results::{DoctorMachine, DoctorPackage, DoctorProvider, DoctorResult, DoctorStage},
    runtime, stop,
    terminal::{self, megabytes},
};

/// Outputs of a stage that people are told of: a prologue has dozens. `--json` has all.
const MOST_OUTPUTS: usize = 2;

/// What was found.
struct Found {
    machine: Machine,
    providers: Vec<Looked>,
    package: Option<Manifest>,
    stages: Vec<Diagnosis>,
}

/// A provider, where its plug-in is, and what it offers.
struct Looked {
    provider: Provider,
    is_here: bool,
    library: Option<std::path::PathBuf>,
    devices: Vec<String>,
}

pub(crate) fn run(args: &DoctorArgs, offline: bool) -> Result<u8> {
    let console = Console::new(&args.run);
    let found = match look(args, offline, &console) {
        Ok(found) => found,
        Err(error) => {
            console.error(&error);
            // 1 is for what is refused.
            return Ok(if terminal::fail(&error) == stop::EXIT_CODE { stop::EXIT_CODE } else { 2 });
        }
    };
    if args.run.json {
        terminal::print(events::line(&events::plain_json(&result(&found))))?;
    } else {
        lines(&found).iter().try_for_each(terminal::print)?;
    }
    Ok(u8::from(!found.stages.iter().all(Diagnosis::is_good)))
}

fn look(args: &DoctorArgs, offline: bool, console: &Console) -> Result<Found> {
    runtime::start(offline)?;
    let machine = Machine::here(None)?;
    let asked = args.run.providers();
    let plans = plans(&asked);
    let (mut package, mut stages) = (None, Vec::new());
    if args.package.is_some() || !plans.is_empty() {
        let named = PackageArgs {
            folder: args.package.clone(),
            flavour: args.flavour,
            run: args.run.clone(),
        };
        let manifest = package::find(&named, console)?.manifest;
        for flavour in flavours(args.flavour, &manifest)? {
            let named = PackageArgs { flavour: Some(flavour), ..named.clone() };
            for providers in &plans {
                stages.extend(diagnose(&named, (providers, args.again), (offline, console))?);
            }
        }
        package = Some(manifest);
    }
    let looked = |provider: Provider| {
        let of = stages.iter().filter(|one: &&Diagnosis| one.provider == provider);
        let devices = of.filter_map(|one| match &one.finding {
            Finding::Verdict(verdict) => Some(verdict.devices.clone()),
            Finding::Failed(_) => None,
        });
        Looked {
            provider,
            is_here: machine.providers.contains(&provider),
            library: asked.libraries.get(&provider).map(|library| shown(library)),
            devices: devices.flatten().collect::<BTreeSet<_>>().into_iter().collect(),
        }
    };
    let all = Provider::ALL.into_iter().filter(|provider| *provider != Provider::Auto);
    let providers = all.map(looked).collect();
    Ok(Found { machine, providers, package, stages })
}

/// Who is to compute what, one after another: as was asked for, or each provider that has a library
/// all stages.
fn plans(asked: &Providers) -> Vec<Providers> {
    if !asked.stages.is_empty() {
        return vec![asked.clone()];
    }
    let of = |provider: &Provider| {
        let stages: BTreeMap<_, _> = Stage::ALL.map(|stage| (stage, *provider)).into();
        let options = asked.options_of(&stages);
        Providers { stages, options, ..asked.clone() }
    };
    asked.libraries.keys().map(of).collect()
}

/// The flavours to look at.
fn flavours(asked: Option<Flavour>, manifest: &Manifest) -> Result<Vec<Flavour>> {
    if let Some(flavour) = asked {
        manifest.flavour(flavour)?;
        return Ok(vec![flavour]);
    }
    Ok(manifest.flavours.keys().copied().collect())
}

fn diagnose(
    named: &PackageArgs,
    (providers, again): (&Providers, bool),
    (offline, console): (bool, &Console),
) -> Result<Vec<Diagnosis>> {
    let found = package::find(named, console)?;
    let options = Options { providers: providers.clone(), staged: true, ..package::options(named) };
    let pipeline = found.open(&options, offline)?.pipeline;
    // Its size is what providers are proved for.
    let job = pipeline.job(&Request::default(), pocketmuse::Origin::Nothing)?;
    let bar = terminal::step_bar("proving", console.hides_bars());
    let diagnosed = pipeline.diagnose(&job, again, |candidate| {
        bar.set_message(format!("proving {} of {}", candidate.stage, candidate.provider));
        bar.tick();
    });
    bar.finish_and_clear();
    stop::check()?;
    diagnosed
}

/// What people read.
fn lines(found: &Found) -> Vec<String> {
    let Machine { library, build, instruction_sets, cores, available_bytes, .. } = &found.machine;
    let left = available_bytes.map_or_else(|| "not told".to_owned(), megabytes);
    let mut lines = vec![
        format!("pocketmuse {}", env!("CARGO_PKG_VERSION")),
        format!("ONNX Runtime {build}, {}", library.display()),
        format!("processor {} cores, {}", cores, instruction_sets.join(" ")),
        format!("memory left {left}"),
    ];
    for Looked { provider, is_here, library, devices } in &found.providers {
        let state = match (provider, is_here, library) {
            (Provider::Cpu, ..) => "computes what no other does".to_owned(),
            (_, false, _) => "not in this build".to_owned(),
            (_, true, None) => format!("no library: --provider-library {provider}=FILE"),
            (_, true, Some(library)) if devices.is_empty() => library.display().to_string(),
            (_, true, Some(library)) => format!("{}: {}", library.display(), devices.join("; ")),
        };
        lines.push(format!("{:<9} {state}", provider.name()));
    }
    if let Some(package) = &found.package {
        lines.push(format!("package {} {}", package.model.name, package.digest()));
    }
    for one in &found.stages {
        let name = format!("{} {} {}", one.flavour, one.provider, one.stage);
        lines.push(format!("{name}: {}", one.sentence()));
        if let Finding::Verdict(verdict) = &one.finding {
            lines.extend(details(verdict).map(|details| format!("  {details}")));
        }
        lines.extend(one.advice().map(|advice| format!("  {advice}")));
    }
    lines
}

/// What was measured, in a line.
fn details(verdict: &pocketmuse::prepared::Verdict) -> Option<String> {
    let speed = verdict.speed?;
    let ms = |us: u64| us as f64 / 1000.0;
    let mut parts = vec![
        format!("load {:.1} ms (CPU {:.1})", ms(speed.load_us), ms(speed.cpu_load_us)),
        format!("run {:.1} ms (CPU {:.1})", ms(speed.run_us), ms(speed.cpu_run_us)),
    ];
    parts.extend(verdict.need.map(|need| format!("memory {}", megabytes(need.peak_bytes))));
    parts.extend(verdict.nodes.as_ref().map(|nodes| nodes.to_string()));
    if verdict.is_right {
        let outputs: Vec<_> = verdict.reason.split("; ").collect();
        parts.extend(outputs.iter().take(MOST_OUTPUTS).map(|output| (*output).to_owned()));
        if outputs.len() > MOST_OUTPUTS {
            parts.push(format!("and {} outputs more", outputs.len() - MOST_OUTPUTS));
        }
    }
    Some(parts.join("; "))
}

/// The object that a script reads.
fn result(found: &Found) -> DoctorResult<'_> {
    let Machine { library, build, instruction_sets, cores, available_bytes, .. } = &found.machine;
    let provider = |looked: &'_ Looked| DoctorProvider {
        name: looked.provider,
        here: looked.is_here,
        library: looked.library.as_ref().map(|path| path.to_string_lossy().into_owned()),
        devices: looked.devices.clone(),
    };
    DoctorResult {
        version: env!("CARGO_PKG_VERSION"),
        good: found.stages.iter().all(Diagnosis::is_good),
        machine: DoctorMachine {
            library: PathText(library),
            build,
            instruction_sets,
            cores: *cores,
            available_bytes: *available_bytes,
        },
        providers: found.providers.iter().map(provider).collect(),
        package: found.package.as_ref().map(|manifest| DoctorPackage {
            model: &manifest.model.name,
            digest: manifest.digest(),
        }),
        stages: found.stages.iter().map(DoctorStage::of).collect(),
    }
}
