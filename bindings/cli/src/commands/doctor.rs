//! `pocketmuse doctor`: what a package can be run with on this machine.

use pocketmuse::{
    Options, Provider, Providers,
    doctor::{Doctor, Machine, PackageName, ProviderState, Report},
    prepared::Verdict,
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

pub(crate) fn run(args: &DoctorArgs, offline: bool) -> Result<u8> {
    let console = Console::new(&args.run);
    let report = match look(args, offline, &console) {
        Ok(report) => report,
        Err(error) => {
            console.error(&error);
            // 1 is for what is refused.
            return Ok(if terminal::fail(&error) == stop::EXIT_CODE { stop::EXIT_CODE } else { 2 });
        }
    };
    if args.run.json {
        terminal::print(events::line(&events::plain_json(&result(&report))))?;
    } else {
        lines(&report).iter().try_for_each(terminal::print)?;
    }
    Ok(u8::from(!report.is_good()))
}

fn look(args: &DoctorArgs, offline: bool, console: &Console) -> Result<Report> {
    runtime::start(offline)?;
    let named =
        PackageArgs { folder: args.package.clone(), flavour: args.flavour, run: args.run.clone() };
    let doctor = Doctor { options: package::options(&named), again: args.again };
    let Providers { stages, libraries, .. } = &doctor.options.providers;
    let is_asked = args.package.is_some() || !stages.is_empty() || !libraries.is_empty();
    let manifest = is_asked.then(|| package::find(&named, console)).transpose()?;
    let manifest = manifest.map(|found| found.manifest);
    let bar = terminal::step_bar("proving", console.hides_bars());
    let open = |options: &Options| {
        stop::check()?;
        let named = PackageArgs { flavour: options.flavour, ..named.clone() };
        Ok(package::find(&named, console)?.open(options, offline)?.pipeline)
    };
    let report = doctor.examine(manifest.as_ref(), open, |candidate| {
        bar.set_message(format!("proving {} of {}", candidate.stage, candidate.provider));
        bar.tick();
    });
    bar.finish_and_clear();
    stop::check()?;
    report
}

/// What people read.
fn lines(report: &Report) -> Vec<String> {
    let Machine { library, build, instruction_sets, cores, available_bytes, .. } = &report.machine;
    let left = available_bytes.map_or_else(|| "not told".to_owned(), megabytes);
    let mut lines = vec![
        format!("pocketmuse {}", env!("CARGO_PKG_VERSION")),
        format!("ONNX Runtime {build}, {}", library.display()),
        format!("processor {} cores, {}", cores, instruction_sets.join(" ")),
        format!("memory left {left}"),
    ];
    for ProviderState { provider, is_here, library, devices } in &report.providers {
        let state = match (provider, is_here, library) {
            (Provider::Cpu, ..) => "computes what no other does".to_owned(),
            (_, false, _) => "not in this build".to_owned(),
            (_, true, None) => format!("no library: --provider-library {provider}=FILE"),
            (_, true, Some(library)) if devices.is_empty() => library.display().to_string(),
            (_, true, Some(library)) => format!("{}: {}", library.display(), devices.join("; ")),
        };
        lines.push(format!("{:<9} {state}", provider.name()));
    }
    if let Some(PackageName { model, digest }) = &report.package {
        lines.push(format!("package {model} {digest}"));
    }
    for one in &report.stages {
        let name = format!("{} {} {}", one.flavour, one.provider, one.stage);
        lines.push(format!("{name}: {}", one.sentence()));
        lines.extend(one.verdict().and_then(details).map(|details| format!("  {details}")));
        lines.extend(one.advice().map(|advice| format!("  {advice}")));
    }
    lines
}

/// What was measured, in a line.
fn details(verdict: &Verdict) -> Option<String> {
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
fn result(report: &Report) -> DoctorResult<'_> {
    let Machine { library, build, instruction_sets, cores, available_bytes, .. } = &report.machine;
    let provider = |state: &'_ ProviderState| DoctorProvider {
        name: state.provider,
        here: state.is_here,
        library: state.library.as_ref().map(|path| path.to_string_lossy().into_owned()),
        devices: state.devices.clone(),
    };
    DoctorResult {
        version: env!("CARGO_PKG_VERSION"),
        good: report.is_good(),
        machine: DoctorMachine {
            library: PathText(library),
            build,
            instruction_sets,
            cores: *cores,
            available_bytes: *available_bytes,
        },
        providers: report.providers.iter().map(provider).collect(),
        package: report
            .package
            .as_ref()
            .map(|PackageName { model, digest }| DoctorPackage { model, digest: *digest }),
        stages: report.stages.iter().map(DoctorStage::of).collect(),
    }
}
