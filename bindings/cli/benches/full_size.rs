//! What aMUSEd-512 costs on this machine, in one table: `cargo bench -p pocketmuse-cli --bench
//! full_size`. Makes a full-size checkpoint of random weights, exports it and runs the command as
//! people do. Takes about half an hour and 12 GB of disk.
//!
//! `POCKETMUSE_PEER_PYTHON` names a Python with torch, diffusers and transformers, to compare with.
//! `POCKETMUSE_CHECKPOINT` names a checkpoint to use instead.

#[path = "../tests/support/group.rs"]
mod group;
#[path = "../tests/support/openvino.rs"]
mod openvino;
mod support;

use std::{
    env,
    error::Error,
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pocketmuse::Flavour;
use pocketmuse_measure::bench::{MOST_SPREAD, Machine, forget, median, spread};
use serde_json::Value;

use self::{
    group::Group,
    support::{
        Bench, Ran, Result,
        cost::{Peaks, size},
        head, mb, number, row,
    },
};

/// Steps of an image that the peer runs; its time for the others is taken from these.
const PEER_STEPS: f64 = 3.0;
const STEPS: f64 = 12.0;

/// The smallest budget of int8, and the control group that it runs in, in bytes.
const SMALLEST: &str = "235MB";
const GROUP_BYTES: u64 = 330_000_000;

/// Images of which a median is.
const RUNS: usize = 3;

/// A peer that takes longer is given up.
const PEER_PATIENCE: Duration = Duration::from_secs(300);

impl Bench {
    /// An image of a package that is prepared.
    fn generate(&self, [package, flavour]: [&str; 2], memory: &str) -> Result<Ran> {
        self.run(&words([package, flavour, memory, "1"]))?; // prepares
        self.run(&words([package, flavour, memory, "12"]))
    }

    /// Images of int8 within the smallest budget and within one that holds all, by turns.
    fn generate_by_turns(&self) -> Result<Vec<[Ran; 2]>> {
        let budgets = [SMALLEST, "8GB"];
        for memory in budgets {
            self.run(&words(["int8", "int8", memory, "1"]))?; // prepares
        }
        let mut ran = Vec::new();
        loop {
            for _ in 0..RUNS {
                let [small, large] =
                    budgets.map(|memory| self.run(&words(["int8", "int8", memory, "12"])));
                ran.push([small?, large?]);
            }
            let spread = [0, 1].map(|at| spread(ran.iter().map(|pair| pair[at].seconds)));
            if ran.len() > RUNS || spread.iter().all(|spread| *spread <= MOST_SPREAD) {
                return Ok(ran);
            }
            eprintln!("the same took {spread:.2?} times as long, so all are run again");
        }
    }

    /// The same of int8, in a control group that holds the pages of its files, too, from a disk
    /// that was not read before; or why there is none.
    fn generate_in_group(&self) -> Result<std::result::Result<Ran, String>> {
        let group = match Group::new(GROUP_BYTES) {
            Ok(group) => group,
            Err(why) => return Ok(Err(why)),
        };
        for file in fs::read_dir(self.folder.path().join("int8/int8"))? {
            if !forget(&file?.path()) {
                return Ok(Err("the system keeps what it read".to_owned()));
            }
        }
        let command = group.command(env!("CARGO_BIN_EXE_pocketmuse"));
        self.run_as(command, &words(["int8", "int8", SMALLEST, "12"])).map(Ok)
    }

    fn measure(&self, [package, flavour]: [&str; 2], more: &[&str]) -> Result<Value> {
        let words = [
            "bench",
            "--threads=2",
            &format!("--runs={RUNS}"),
            "--json",
            "--package",
            package,
            "--flavour",
            flavour,
        ];
        let words = [&words[..], more].concat();
        Ok(serde_json::from_str(self.run(&words)?.stdout.trim())?)
    }
}

/// What makes an image of a package's flavour within a budget, in so many steps.
fn words([package, flavour, memory, steps]: [&str; 4]) -> Vec<&str> {
    let begin =
        ["generate", "a red lighthouse", "--seed=7", "--threads=2", "--json", "-o=image.png"];
    let rest = ["--package", package, "--flavour", flavour, "--memory", memory];
    [&begin[..], &rest, &["--num-inference-steps", steps]].concat()
}

fn main() -> Result<()> {
    let Some(bench) = Bench::new()? else { return Ok(()) };
    let checkpoint = bench.checkpoint()?;
    let export = bench.run(&["export", &checkpoint, "-o", "int8"])?;
    bench.run(&["export", &checkpoint, "-o", "others", "--flavour", "f32", "--flavour", "int4"])?;
    let by_turns = bench.generate_by_turns()?;
    let median_of = |of: &dyn Fn(&[Ran; 2]) -> f64| median(by_turns.iter().map(of));
    let [small, large] = [0, 1].map(|at| median_of(&|pair| pair[at].seconds));
    let slower = median_of(&|[small, large]| small.seconds / large.seconds);
    let peak = |of: fn(&Peaks) -> u64| by_turns.iter().map(|[small, _]| of(&small.peaks)).max();
    let cold = bench.generate_in_group()?;
    let int4_peaks = bench.generate(["others", "int4"], "450MB")?.peaks;
    let int8 = bench.measure(["int8", "int8"], &[])?;
    let f32 = bench.measure(["others", "f32"], &[])?;
    // Its time at the shapes of f32's own graphs; in bf16 where the processor has that.
    let openvino = match openvino::missing() {
        Some(why) => Err(why),
        None => {
            let library = format!("openvino={}", openvino::plugin().display());
            let by = ["--provider=step=openvino,decoder=openvino", "--provider-library", &library];
            Ok(bench.measure(["others", "f32"], &by)?)
        }
    };

    let machine = Machine::this();
    let has = |set: &str| machine.instruction_sets.contains(&set);
    // What is asked of a ratio depends on what the processor gains by integers at most.
    let asked = |amx, vnni, avx2| match () {
        () if has("amx-int8") => amx,
        () if has("avx512vnni") || has("avxvnni") => vnni,
        () => avx2,
    };
    eprintln!(
        "{}: {}; {} threads at once",
        machine.processor.as_deref().unwrap_or("unknown processor"),
        machine.instruction_sets.join(" "),
        machine.threads
    );
    head();
    row(
        "package, int8, without the encoder",
        "830 MB",
        "800 MB",
        &mb(size(&bench.folder.path().join("int8"), Flavour::Int8)),
    );
    let [rss, anonymous] = [peak(|peaks| peaks.rss), peak(|peaks| peaks.anonymous)];
    row("peak memory, int8, smallest budget", "330 MB", "256 MB", &mb(rss.unwrap_or_default()));
    row("of it anonymous, at its peak", "160 MB", "120 MB", &mb(anonymous.unwrap_or_default()));
    let slower = format!("{slower:.2}x ({small:.1} s, {large:.1} s)");
    row("time at the smallest budget against the fastest, by turns", "1.15x", "1.05x", &slower);
    let cold = cold.map_or_else(
        |why| format!("not measured: {why}"),
        |cold| format!("{:.2}x ({:.1} s)", cold.seconds / large, cold.seconds),
    );
    row("the same in a control group of 330 MB, nothing of it read before", "2x", "1.5x", &cold);
    row("peak memory, int4", "400 MB", "300 MB", &mb(int4_peaks.rss));
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    let share = |from: &Value| number(from, "share_of_int8_peak");
    let (of_step, of_image) = (share(stage(&int8, "step"))?, share(&int8)?);
    row("step graph, share of the machine's MatMulInteger peak", "70%", "85%", &percent(of_step));
    row("all stages, the same", "60%", "75%", &percent(of_image));
    // Two threads, on cores of their own.
    let most = machine.int8_operations_per_cycle().map(|operations| {
        let gops = 2.0 * f64::from(operations) * machine.clock / 1e9;
        let peak = number(&int8["machine"], "int8_peak_gops")?;
        let [step, all] = [of_step, of_image].map(|share| percent(share * peak / gops));
        Ok::<_, Box<dyn Error>>(format!(
            "{step}, {all} (2 x {operations} a cycle, {:.1} GHz)",
            machine.clock / 1e9
        ))
    });
    let most = most.transpose()?.unwrap_or_else(|| "not known".to_owned());
    row("step graph and all stages, share of the processor's own peak", "", "", &most);
    let load = |bench| {
        Ok::<_, Box<dyn Error>>(format!(
            "{:.0} ms",
            number(stage(bench, "step"), "prepared_load_ms")?
        ))
    };
    row("load of the step graph, prepared, packed", "", "", &load(&int8)?);
    let seconds = |bench: &Value, at: &str| Ok::<_, Box<dyn Error>>(number(bench, at)? / 1000.0);
    let against =
        |int8: f64, other: f64| format!("{:.2}x ({int8:.1} s, {other:.1} s)", other / int8);
    let total = seconds(&int8, "total_ms")?;
    let images = against(total, seconds(&f32, "total_ms")?);
    row(
        "int8 against f32, whole image",
        asked("5x", "2.6x", "1.9x"),
        asked("8x", "3.5x", "2.3x"),
        &images,
    );
    let decoders = against(
        seconds(stage(&int8, "decoder"), "run_ms")?,
        seconds(stage(&f32, "decoder"), "run_ms")?,
    );
    row(
        "int8 against f32, decoder",
        asked("4.5x", "3x", "2x"),
        asked("7x", "4x", "2.6x"),
        &decoders,
    );
    for (name, must, aim) in [("step", "1.5x", "2x"), ("decoder", "1.6x", "2.2x")] {
        let run = |bench| seconds(stage(bench, name), "run_ms");
        let found = match &openvino {
            Ok(openvino) => against(run(&int8)?, run(openvino)?),
            Err(why) => format!("not measured: {why}"),
        };
        row(&format!("int8 against OpenVINO, of f32, {name}"), must, aim, &found);
    }
    let (must, aim) = (asked("1.7x", "2.2x", "2.2x"), asked("2.5x", "3x", "3x"));
    for (precision, mode) in
        [("f32", "eager"), ("f32", "compiled"), ("bf16", "eager"), ("bf16", "compiled")]
    {
        let found = match peer(precision, mode)? {
            Ok(peer) => against(total, peer),
            Err(why) => why,
        };
        row(&format!("whole image against PyTorch, {precision} {mode}"), must, aim, &found);
    }
    let took = format!("{:.0} s, {}", export.seconds, mb(export.peaks.rss));
    row("export of int8", "120 s, 1.5 GB", "60 s, 1 GB", &took);
    stages(&int8, &f32)
}

/// A table of what each stage takes, and the whole image.
fn stages(int8: &Value, f32: &Value) -> Result<()> {
    println!("\n| stage | int8 | of the machine's int8 peak | f32 | times faster |");
    println!("|---|---|---|---|---|");
    for name in ["text_encoder", "prologue", "step", "decoder"] {
        let [ours, theirs] = [int8, f32].map(|bench| stage(bench, name));
        let share = number(ours, "share_of_int8_peak").ok();
        let share = share.map_or(String::new(), |share| format!("{:.0}%", 100.0 * share));
        let [ours, theirs] = [number(ours, "run_ms")? / 1000.0, number(theirs, "run_ms")? / 1000.0];
        let faster = theirs / ours;
        println!("| {name} | {ours:.2} s | {share} | {theirs:.2} s | {faster:.1} |");
    }
    let [ours, theirs] = [number(int8, "total_ms")? / 1000.0, number(f32, "total_ms")? / 1000.0];
    let faster = theirs / ours;
    println!("| image, loading included | {ours:.2} s | | {theirs:.2} s | {faster:.1} |");
    for (flavour, bench) in [("int8", int8), ("f32", f32)] {
        let [runs, spread] = [number(bench, "runs")?, number(bench, "spread")?];
        eprintln!(
            "{flavour}: {runs} images, the slowest took {spread:.2} times as long as the fastest"
        );
    }
    Ok(())
}

fn stage<'a>(bench: &'a Value, name: &str) -> &'a Value {
    let stages = bench["stages"].as_array();
    stages
        .and_then(|stages| stages.iter().find(|stage| stage["name"] == name))
        .unwrap_or(&Value::Null)
}

/// The seconds that diffusers takes for an image, without loading; or why there are none.
fn peer(precision: &str, mode: &str) -> Result<std::result::Result<f64, String>> {
    let Some(python) = env::var_os("POCKETMUSE_PEER_PYTHON") else {
        return Ok(Err("not measured: POCKETMUSE_PEER_PYTHON names none".to_owned()));
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/diffusers_peer.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([precision, mode, &PEER_STEPS.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    eprintln!("diffusers {precision} {mode}");
    let (mut child, started) = (command.spawn()?, Instant::now());
    while child.try_wait()?.is_none() {
        if started.elapsed() > PEER_PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Err(format!("given up after {} s", PEER_PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut found = String::new();
    child.stdout.take().ok_or("no stdout")?.read_to_string(&mut found)?;
    let Ok(found) = serde_json::from_str::<Value>(found.trim()) else {
        return Ok(Err("failed".to_owned()));
    };
    Ok(Ok(number(&found, "text_s")?
        + STEPS * number(&found, "step_s")?
        + number(&found, "decoder_s")?))
}
