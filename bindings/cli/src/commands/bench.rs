//! `pocketmuse bench`: what a package costs on this machine. Only prints: the runtime measures.

use std::time::Duration;

use pocketmuse::{Manifest, Options, Request};
use pocketmuse_measure::bench::{self, Bench, Progress, StageBench};
use pocketmuse_package::Result;

use crate::{
    args::BenchArgs,
    console::Console,
    events,
    package::{self, Found},
    results::{BenchResult, MachineResult, StageResult},
    runtime, stop,
    terminal::{self, megabytes, milliseconds},
};

const PROMPT: &str = "a red lighthouse by the sea at sunset";

pub(crate) fn run(args: &BenchArgs, offline: bool) -> Result<u8> {
    let json = args.package.run.json;
    let Found { folder, manifest, .. } =
        package::find(&args.package, &Console::new(&args.package.run))?;
    let request = Request {
        prompt: PROMPT.to_owned(),
        num_inference_steps: args.steps,
        height: args.size,
        width: args.size,
        ..Request::default()
    };
    request.resolve(&manifest)?; // a wrong request fails before anything is fetched
    runtime::start(offline)?;
    let options = Options { staged: true, prepared: None, ..package::options(&args.package) };
    let bar = terminal::step_bar("measuring", json);
    let found =
        bench::bench(&folder, &options, &request, args.runs.into(), |Progress { done, of }| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            stop::flow()
        });
    bar.finish_and_clear();
    let found = found?;
    if json {
        terminal::print(events::line(&events::plain_json(&result(&found, &manifest))))?;
    } else {
        lines(&found, &manifest).iter().try_for_each(terminal::print)?;
    }
    Ok(0)
}

fn result<'a>(bench: &'a Bench, manifest: &'a Manifest) -> BenchResult<'a> {
    let stages = bench.stages.iter().map(|stage| StageResult {
        name: stage.name,
        cold_load_ms: stage.cold_load.map(milliseconds),
        warm_load_ms: milliseconds(stage.warm_load),
        prepared_load_ms: milliseconds(stage.prepared_load),
        run_ms: milliseconds(stage.run),
        operations: stage.operations,
        gops: giga(stage.speed()),
        share_of_int8_peak: stage.share(bench.peak.int8),
        share_of_f32_peak: stage.share(bench.peak.f32),
        peak_rss_bytes: stage.peak_rss_bytes,
        peak_anonymous_bytes: stage.peak_anonymous_bytes,
    });
    BenchResult {
        model: &manifest.model.name,
        digest: manifest.digest(),
        flavour: bench.flavour,
        machine: MachineResult {
            processor: bench.machine.processor.as_deref(),
            instruction_sets: &bench.machine.instruction_sets,
            threads: bench.machine.threads,
            clock_ghz: giga(bench.machine.clock),
            int8_operations_per_cycle: bench.machine.int8_operations_per_cycle(),
            int8_peak_gops: giga(bench.peak.int8),
            f32_peak_gops: giga(bench.peak.f32),
        },
        request: &bench.request,
        runs: bench.runs,
        spread: bench.spread,
        stages: stages.collect(),
        share_of_int8_peak: bench.share(bench.peak.int8),
        share_of_f32_peak: bench.share(bench.peak.f32),
        total_ms: milliseconds(bench.total),
    }
}

/// What people read: the machine, then a line for each stage.
fn lines(bench: &Bench, manifest: &Manifest) -> Vec<String> {
    let Bench { machine, peak, request, .. } = bench;
    let side = |side: Option<u32>| side.unwrap_or_default();
    let mut lines = vec![
        format!(
            "{}, {}, {} x {}, {} steps, median of {}",
            manifest.model.name,
            bench.flavour,
            side(request.width),
            side(request.height),
            side(request.num_inference_steps),
            bench.runs
        ),
        format!(
            "{}, {}, {} threads at once, {:.1} GHz",
            machine.processor.as_deref().unwrap_or("unknown processor"),
            if machine.instruction_sets.is_empty() {
                "no known instruction sets".to_owned()
            } else {
                machine.instruction_sets.join(" ")
            },
            machine.threads,
            giga(machine.clock)
        ),
        format!(
            "linear layers of the step graph, one by one: int8 {:.0} GOPS, f32 {:.0} GOPS",
            giga(peak.int8),
            giga(peak.f32)
        ),
        format!(
            "{:<13}{:>13}{:>13}{:>17}{:>12}{:>11}{:>9}{:>10}{:>9}{:>14}{:>14}",
            "stage",
            "cold load ms",
            "warm load ms",
            "prepared load ms",
            "run ms",
            "GOP",
            "GOPS",
            "of int8",
            "of f32",
            "peak memory",
            "anonymous"
        ),
    ];
    lines.extend(bench.stages.iter().map(|stage| stage_line(stage, bench)));
    lines.push(format!(
        "an image in {:.1} ms, the slowest in {:.2} times the fastest's; {:.0}% of int8 without \
         loading",
        milliseconds(bench.total),
        bench.spread,
        100.0 * bench.share(bench.peak.int8)
    ));
    if bench.stages.iter().any(|stage| stage.cold_load.is_none()) {
        lines.push("no cold loads: this system cannot be asked to forget files".to_owned());
    }
    lines
}

fn stage_line(stage: &StageBench, bench: &Bench) -> String {
    let load = |time: Option<Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", milliseconds(time)))
    };
    let memory = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), megabytes);
    let share = |peak: f64| format!("{:.0}%", 100.0 * stage.share(peak));
    format!(
        "{:<13}{:>13}{:>13}{:>17}{:>12.1}{:>11.3}{:>9.1}{:>10}{:>9}{:>14}{:>14}",
        stage.name,
        load(stage.cold_load),
        load(Some(stage.warm_load)),
        load(Some(stage.prepared_load)),
        milliseconds(stage.run),
        giga(stage.operations as f64),
        giga(stage.speed()),
        share(bench.peak.int8),
        share(bench.peak.f32),
        memory(stage.peak_rss_bytes),
        memory(stage.peak_anonymous_bytes)
    )
}

fn giga(number: f64) -> f64 {
    number / 1e9
}
