//! Other providers than the CPU: what is said of them, what is refused, and that the CPU's images
//! stay what they are. OpenVINO is brought as its users bring it, through pip.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../../tests/integration/likeness.rs"]
mod alike;
#[path = "support/left.rs"]
mod left;
#[path = "support/openvino.rs"]
mod openvino;
#[path = "support/profile.rs"]
mod profile;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use image::RgbImage;
use pocketmuse::{
    Budget, ErrorKind, Flavour, Options, Origin, Pipeline, Provider, Providers, Request, Source,
    Stage, prepared::Verdict,
};
use serde_json::{Value, json};
use support::{folders::flavoured_package, run, succeed};

/// What all images here are made of, by the command and in this process.
const PROMPT: &str = "a red lighthouse by the sea at sunset";
const STEPS: u32 = 4;
const WORDS: [&str; 7] =
    ["generate", PROMPT, "--num-inference-steps=4", "--seed=3", "--threads=1", "--quiet", "-o"];

/// The least share of an image's values that are as the CPU has them, give or take
/// [`NEAR`]. All were, on the machine where this was measured; a token that falls otherwise changes
/// a corner of an image, bf16 or wrong numbers all of it.
const LEAST_NEAR: f64 = 0.95;
const NEAR: u8 = 2;

fn request() -> Request {
    Request { num_inference_steps: Some(STEPS), seed: 3, ..Request::new(PROMPT) }
}

fn open(path: &Path) -> RgbImage {
    image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).to_rgb8()
}

fn assert_near(what: &str, found: &RgbImage, expected: &RgbImage) {
    assert_eq!(found.dimensions(), expected.dimensions(), "{what}");
    let pairs = found.as_raw().iter().zip(expected.as_raw());
    let near = pairs.filter(|(a, b)| a.abs_diff(**b) <= NEAR).count();
    let share = near as f64 / expected.as_raw().len() as f64;
    println!("{what}: {:.2} % of the values are near the CPU's", 100.0 * share);
    assert!(share >= LEAST_NEAR, "{what}: {share}");
}

/// What ONNX Runtime calls OpenVINO.
const OPENVINO_NAME: &str = "OpenVINOExecutionProvider";

/// The flag that names OpenVINO's plug-in.
fn library(plugin: &Path) -> String {
    format!("--provider-library=openvino={}", plugin.display())
}

fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// What made an image, as its file says.
fn made_by(root: &Path, file: &str) -> Value {
    let told: Value =
        serde_json::from_str(&succeed(root, &["inspect", file, "--json"])).expect("JSON");
    told["made_by"].clone()
}

/// A library made of C, which has what plug-ins have.
fn compiled(root: &Path, name: &str, source: &str) -> PathBuf {
    let [code, library] = ["c", "so"].map(|ending| root.join(name).with_extension(ending));
    fs::write(&code, source).expect("written");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &code]);
    let output = compiler.output().expect("the compiler that links Rust's programs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// A plug-in that says no: the first function of ONNX Runtime's table makes a status.
const REFUSING: &str = r#"
struct base { const void *(*api)(unsigned); const char *(*version)(void); };
void *CreateEpFactories(const char *name, const struct base *base, const void *logger,
                        void **factories, unsigned long most, unsigned long *count) {
    void *(*const *table)(int, const char *) = base->api(22);
    return table[0](1, "no device today");
}
void *ReleaseEpFactory(void *factory) { return 0; }
"#;

/// A plug-in that has no device.
const EMPTY: &str = r#"
void *CreateEpFactories(const char *name, const void *base, const void *logger,
                        void **factories, unsigned long most, unsigned long *count) {
    *count = 0;
    return 0;
}
void *ReleaseEpFactory(void *factory) { return 0; }
"#;

/// A plug-in that takes note that it was called, and does not come back.
fn calling(root: &Path, name: &str, then: &str) -> PathBuf {
    let calls = root.join("calls");
    let source = format!(
        r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
void *CreateEpFactories(const char *name, const void *base, const void *logger,
                        void **factories, unsigned long most, unsigned long *count) {{
    FILE *calls = fopen("{}", "a");
    fputs("called\n", calls);
    fclose(calls);
    {then}
}}
void *ReleaseEpFactory(void *factory) {{ return 0; }}
"#,
        calls.display()
    );
    compiled(root, name, &source)
}

/// How often a plug-in of [`calling`] was called.
fn calls(root: &Path) -> usize {
    fs::read_to_string(root.join("calls")).map_or(0, |calls| calls.lines().count())
}

/// The command in a cache of its own, and with little time for a proof.
fn in_own_cache(root: &Path, words: &[&str]) -> (Option<i32>, String) {
    within(root, words, "2")
}

/// The same with as much time as it takes.
fn in_own_cache_slowly(root: &Path, words: &[&str]) -> (Option<i32>, String) {
    within(root, words, "180")
}

fn within(root: &Path, words: &[&str], seconds: &str) -> (Option<i32>, String) {
    let engine = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
    let mut command = support::pocketmuse(root, words);
    command.env("XDG_CACHE_HOME", root.join("cache")).env("ORT_DYLIB_PATH", engine);
    let output = command.env("POCKETMUSE_PROOF_SECONDS", seconds).output().expect("started");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (output.status.code(), said.concat())
}

/// Neither a process that makes an image nor one that looks for what is wrong dies or waits.
fn is_not_tried_again(name: &str, then: &str, message: &str) {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    let package = flavoured_package(Flavour::F32);
    let package = package.to_str().expect("UTF-8");
    let plugin = calling(root, name, then);
    let flags = ["--provider=prologue=openvino", &library(&plugin)];
    let generate = ["generate", "a", "--steps=1", "--quiet", "--package", package];
    let make = || {
        let (code, said) = in_own_cache(root, &[&generate[..], &flags].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(message), "expected {message:?}, found {said:?}");
        assert!(said.starts_with("error: prologue: openvino "), "{said}");
    };
    make();
    assert_eq!(calls(root), 1);
    make();
    assert_eq!(calls(root), 1, "what was found out is kept");

    let examined = |more: &[&str]| {
        let doctor = ["doctor", package, "--json"];
        let (code, said) = in_own_cache(root, &[&doctor[..], &flags, more].concat());
        assert_eq!(code, Some(1), "{said}");
        let found: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        let stage = &found["stages"][0];
        assert_eq!((&stage["good"], &stage["stage"]), (&json!(false), &json!("prologue")));
        assert!(stage["sentence"].as_str().is_some_and(|said| said.contains(message)), "{stage}");
        assert!(stage["advice"].as_str().is_some_and(|said| said.contains("version")), "{stage}");
    };
    examined(&[]);
    assert_eq!(calls(root), 1);
    examined(&["--again"]);
    assert_eq!(calls(root), 2);
    make();
    assert_eq!(calls(root), 2);

    let mut newer = fs::OpenOptions::new().append(true).open(&plugin).expect("there");
    std::io::Write::write_all(&mut newer, b"a newer version").expect("written");
    drop(newer);
    make();
    assert_eq!(calls(root), 3, "a newer version is tried");
}

/// Whether OpenVINO computes on this processor; else it is said that `test` was skipped.
fn openvino_is_here(test: &str) -> bool {
    let missing = openvino::missing();
    if let Some(why) = missing {
        println!("skipped: {test}: {why}");
    }
    missing.is_none()
}

#[test]
fn a_plug_in_that_crashes_takes_no_image_with_it_and_is_not_tried_again() {
    is_not_tried_again("aborting", "abort();", "crashed when it was proved: signal: 6");
}

#[test]
#[ignore = "slow: waits three times for a plug-in that hangs"]
fn a_plug_in_that_hangs_is_given_up_and_not_tried_again() {
    let message = "did not come to the end of its proof within 2 s";
    is_not_tried_again("hanging", "for (;;) pause();", message);
}

/// In a program that proves in its own process a note is there meanwhile.
#[test]
fn a_proof_that_did_not_end_in_the_process_itself_is_not_tried_again() {
    let root = tempfile::tempdir().expect("a folder");
    let (root, package) = (root.path(), flavoured_package(Flavour::F32));
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let [prepared, seen] = ["prepared", "seen"].map(|name| root.join(name));
    let list = format!("system(\"ls '{}' > '{}'\");", prepared.display(), seen.display());
    let source = REFUSING.replace("void *(*const", &format!("{list}\n    void *(*const"));
    let plugin = compiled(root, "refusing", &format!("#include <stdlib.h>\n{source}"));
    let fails = |expected: &str| {
        let providers = Providers {
            stages: [(Stage::Prologue, Provider::OpenVino)].into(),
            libraries: [(Provider::OpenVino, plugin.clone())].into(),
            ..Providers::default()
        };
        let prepared = Some(prepared.clone());
        let options = Options { providers, prepared, threads: Some(1), ..Options::default() };
        let pipeline = Pipeline::open_with(&package, &options);
        let pipeline = pipeline.unwrap_or_else(|error| panic!("{error}"));
        let made = pipeline.generate(&request(), |_| ControlFlow::Continue(()));
        let error = made.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ProviderFailed, "{error}");
        assert!(error.to_string().contains(expected), "expected {expected:?}, found {error}");
    };
    fails("no device today");
    let names = fs::read_to_string(&seen).expect("listed");
    let note = names.lines().find(|name| name.ends_with(".proving")).expect("a note meanwhile");
    assert!(!prepared.join(note).exists(), "the proof came to its end");
    fs::remove_file(&seen).expect("removed");
    fails("no device today"); // what fails may be better the next time
    fs::remove_file(&seen).expect("tried again");

    fs::write(prepared.join(note), "").expect("written"); // as a process leaves it that crashes
    fails("did not come to the end of an earlier proof");
    assert!(!seen.exists(), "not tried again");
}

/// A status of ONNX Runtime, as the end of a function of [`calling`].
const NO_DEVICE: &str = r#"
    const void *(*api)(unsigned) = *(const void *(**)(unsigned))base;
    void *(*const *table)(int, const char *) = (void *(*const *)(int, const char *))api(22);
    return table[0](1, "no device today");
"#;

/// Who was tried to compute a stage of what was made, as `--json` says.
fn tried(stdout: &str, stage: &str) -> (Value, Value) {
    let done = events(stdout).pop().expect("an event");
    let stages = done["stages"].as_array().unwrap_or_else(|| panic!("{done}"));
    let one = stages.iter().find(|one| one["name"] == stage).expect("it ran");
    (one["provider"].clone(), one["tried"].clone())
}

/// Who fails is not tried again either, until it changes; asked for by its name it is.
#[test]
fn whom_auto_cannot_have_the_cpu_stands_in_for() {
    let package = flavoured_package(Flavour::F32);
    let package = format!("--package={}", package.display());
    let words = ["generate", "a", "--steps=1", "--width=64", "--height=64", "--seed=1", &package];
    for (name, then, expected) in [
        ("refusing", NO_DEVICE, "no device today"),
        ("aborting", "abort();", "crashed when it was proved: signal: 6"),
    ] {
        let root = tempfile::tempdir().expect("a folder");
        let (root, plugin) = (root.path(), calling(root.path(), name, then));
        let plugin = library(&plugin);
        let make = |name: &str, more: &[&str]| {
            let words = [&words[..], &["-o", name], more].concat();
            let (code, said) = in_own_cache_slowly(root, &words);
            (code, said, fs::read(root.join(name)).ok())
        };
        let (_, _, by_cpu) = make("cpu.png", &[]);
        let auto = ["--provider=prologue=auto", "--json", &plugin];
        for name in ["first.png", "second.png"] {
            let (code, said, image) = make(name, &auto);
            assert_eq!((code, calls(root)), (Some(0), 1), "{said}");
            assert!(image == by_cpu, "the CPU's, byte for byte");
            let (by, tried) = tried(&said, "prologue");
            assert_eq!((&by, &tried[0]["provider"]), (&json!("cpu"), &json!("openvino")));
            let refused = tried[0]["refused"].as_str().unwrap_or_default();
            assert!(refused.contains(expected), "{tried}");
        }
        let (code, said, _) = make("verbose.png", &["--provider=prologue=auto", "-v", &plugin]);
        assert_eq!((code, calls(root)), (Some(0), 1), "{said}");
        assert!(said.contains("prologue: auto took cpu: openvino refused: "), "{said}");
        let (code, said, _) = make("named.png", &["--provider=prologue=openvino", &plugin]);
        assert_eq!(code, Some(1), "{said}");
        let again = usize::from(name == "refusing"); // what crashed is not tried again
        assert_eq!(calls(root), 1 + again, "{said}");

        let small = ["--memory=150MB", "--provider=step=auto,decoder=auto", "--json", &plugin];
        let (code, said, image) = make("small.png", &small);
        assert_eq!((code, calls(root)), (Some(0), 1 + again), "{said}");
        assert!(image == by_cpu);
        let (by, tried) = tried(&said, "step");
        let refused = tried[0]["refused"].as_str().unwrap_or_default();
        assert!(by == "cpu" && refused.contains("expected a budget of at least"), "{tried}");

        let path = root.join(name).with_extension("so");
        let mut newer = fs::OpenOptions::new().append(true).open(path).expect("there");
        std::io::Write::write_all(&mut newer, b"a newer version").expect("written");
        drop(newer);
        let (code, said, _) = make("newer.png", &auto);
        assert_eq!((code, calls(root)), (Some(0), 2 + again), "a newer version is tried: {said}");
    }
}

#[test]
fn auto_without_a_library_is_the_cpu() {
    let root = tempfile::tempdir().expect("a folder");
    let words = ["generate", "a", "--steps=1", "--width=64", "--height=64", "--seed=1"];
    let make = |more: &[&str]| succeed(root.path(), &[&words[..], more].concat());
    make(&["-o", "cpu.png"]);
    let said = make(&["-o", "auto.png", "--provider=auto", "--json"]);
    let read = |name: &str| fs::read(root.path().join(name)).expect(name);
    assert!(read("auto.png") == read("cpu.png"), "byte for byte");
    assert_eq!(events(&said)[0]["providers"]["step"], "auto");
    assert_eq!(tried(&said, "step"), (json!("cpu"), json!([])));
    let said = make(&["-o", "auto.png", "--provider=auto", "--json", "--skip-existing"]);
    assert!(said.contains("\"event\":\"skipped\""), "{said}");
}

/// What computes something else, what is not taken whole, and what is right.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn auto_takes_the_fastest_that_is_right_and_says_so() {
    if !openvino_is_here("auto takes the fastest that is right and says so") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let (flag, package) = (library(&openvino::plugin()), flavoured_package(Flavour::Int8));
    let package = format!("--package={}", package.display());
    let words = ["generate", PROMPT, "--num-inference-steps=2", "--seed=3", "--json", &package];
    let auto = "--provider=prologue=auto,step=auto,decoder=auto";
    let make = |name: &str| {
        let words = [&words[..], &["--flavour=int8", auto, &flag, "-o", name]].concat();
        let (code, said) = in_own_cache_slowly(root.path(), &words);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let first = make("first.png");
    for (stage, expected) in
        [("step", "computes another logits"), ("decoder", "does not take the whole graph")]
    {
        let (by, tried) = tried(&first, stage);
        let refused = tried[0]["refused"].as_str().unwrap_or_default();
        assert!(by == "cpu" && refused.contains(expected), "{tried}");
    }
    let (by, raced) = tried(&first, "prologue");
    println!("prologue: {raced}");
    let ran = |at: usize| (raced[at]["provider"].clone(), raced[at]["run_ms"].as_f64());
    let [(cpu, by_cpu), (other, by_other)] = [ran(0), ran(1)];
    assert_eq!((&cpu, &other), (&json!("cpu"), &json!("openvino")));
    let fastest = if by_other.expect("a time") < by_cpu.expect("a time") { other } else { cpu };
    assert_eq!(by, fastest);
    assert_eq!(tried(&make("second.png"), "prologue"), (by, raced), "nothing is measured again");
    let read = |name: &str| open(&root.path().join(name));
    assert!(read("first.png") == read("second.png"));
}

/// Whom it names nobody can know of others; without a provider there is nothing to refuse.
#[test]
fn doctor_says_what_is_here_and_nothing_of_the_user() {
    let root = tempfile::tempdir().expect("a folder");
    let found = succeed(root.path(), &["doctor", "--json"]);
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!((&found["good"], &found["stages"]), (&json!(true), &json!([])));
    let all = Provider::ALL.into_iter().filter(|provider| *provider != Provider::Auto);
    let names: Vec<_> = all.map(|provider| json!(provider.name())).collect();
    let named: Vec<_> =
        found["providers"].as_array().expect("all").iter().map(|one| one["name"].clone()).collect();
    assert_eq!(named, names);
    let lines = succeed(root.path(), &["doctor"]);
    assert!(lines.contains("no library: --provider-library openvino=FILE"), "{lines}");
    let home = std::env::home_dir().expect("a home");
    let home = home.to_str().expect("UTF-8");
    for said in [found.to_string(), lines] {
        assert!(!said.contains(home), "{said}");
    }
    for (words, code) in [
        (["doctor", "--provider=openvino"], 2), // no library
        (["doctor", "--flavour=int4"], 0),      // nobody is to compute anything
        (["doctor", "nowhere"], 2),
    ] {
        let output = run(root.path(), &words);
        assert_eq!(output.status.code(), Some(code), "{words:?}");
    }
}

#[test]
#[ignore = "slow: brings OpenVINO"]
fn doctor_shows_openvino_whole_and_right() {
    if !openvino_is_here("doctor shows openvino whole and right") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let package = flavoured_package(Flavour::F32);
    let words = ["doctor", package.to_str().expect("UTF-8"), &library(&openvino::plugin())];
    let started = Instant::now();
    let (code, lines) = in_own_cache_slowly(root.path(), &words);
    println!("{lines}{:.1?}", started.elapsed());
    assert_eq!(code, Some(0), "{lines}");
    let (code, json) = in_own_cache_slowly(root.path(), &[&words[..], &["--json"]].concat());
    assert_eq!(code, Some(0), "{json}");
    let found: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
    let stages = found["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), Stage::ALL.len());
    for stage in stages {
        let nodes = &stage["nodes"];
        assert!(nodes["all"].as_u64() > Some(0) && nodes["all"] == nodes["taken"], "{stage}");
        assert!(stage["run_ms"].is_number() && stage["peak_bytes"].is_number(), "{stage}");
    }
    let devices = &found["providers"][1]["devices"];
    assert!(devices[0].as_str().is_some_and(|device| device.starts_with("CPU")), "{devices}");
}

/// What is fast in 16 bits is near enough only if that was asked for; then its images' files and its
/// events say so.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn bf16_is_a_choice_that_is_told_wherever_the_provider_is() {
    if !openvino_is_here("bf16 is a choice that is told wherever the provider is") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let flag = library(&openvino::plugin());
    let words = ["--json", "--provider=step=openvino,decoder=openvino", &flag];
    let words = [&WORDS[..], &["a.png"], &words, &["--provider-option=openvino.precision=bf16"]];
    let events = events(&succeed(root.path(), &words.concat()));
    let bf16 = json!({"openvino": {"precision": "bf16"}});
    assert_eq!(events[0]["provider_options"], bf16);
    for stage in events.last().expect("done")["stages"].as_array().expect("stages") {
        let is_other = stage["provider"] == "openvino";
        let expected = if is_other { json!({"precision": "bf16"}) } else { Value::Null };
        assert_eq!(stage.get("options").cloned().unwrap_or_default(), expected, "{stage}");
        assert_eq!(stage.get("nodes").is_some(), is_other, "{stage}");
    }
    assert_eq!(made_by(root.path(), "a.png")["provider_options"], bf16);
    // What was computed in f32 is another image.
    for (option, is_there) in [("bf16", true), ("f32", false)] {
        let option = format!("--provider-option=openvino.precision={option}");
        let skips = [&words[..3], &[&["--skip-existing", &option]]].concat().concat();
        let made = succeed(root.path(), &skips);
        assert_eq!(made.contains("\"event\":\"skipped\""), is_there, "{made}");
    }
}

/// Halves are computed as the CPU does: what docs/providers.md says of them.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn halves_are_whole_and_right_on_openvino() {
    if !openvino_is_here("halves are whole and right on openvino") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let (flag, package) = (library(&openvino::plugin()), flavoured_package(Flavour::F16));
    let words = ["doctor", package.to_str().expect("UTF-8"), &flag, "--json"];
    let (code, json) = in_own_cache_slowly(root.path(), &words);
    println!("{json}");
    assert_eq!(code, Some(0), "{json}");
    let found: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
    let stages = found["stages"].as_array().expect("stages");
    assert_eq!(stages.len(), Stage::ALL.len());
    for stage in stages {
        assert_eq!((&stage["flavour"], &stage["good"]), (&json!("f16"), &json!(true)), "{stage}");
    }
}

#[test]
fn a_library_that_is_no_plug_in_is_refused_before_any_work() {
    let root = tempfile::tempdir().expect("a folder");
    let engine = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
    let at = |name: &str| root.path().join(name);
    fs::write(at("text.so"), "no library").expect("written");
    let other = compiled(root.path(), "other", "int answer(void) { return 42; }");
    let mut bytes = fs::read(&other).expect("read");
    fs::write(at("cut.so"), &bytes[..bytes.len() / 2]).expect("written");
    bytes[18..20].copy_from_slice(&183u16.to_le_bytes()); // e_machine: an AArch64
    fs::write(at("foreign.so"), &bytes).expect("written");
    let refusing = compiled(root.path(), "refusing", REFUSING);
    let empty = compiled(root.path(), "empty", EMPTY);
    fs::create_dir(at("out")).expect("made");

    let none = "provider_library: openvino: expected the path of its plug-in's library, found none";
    let cases: [(&str, Option<PathBuf>, i32, &str); 13] = [
        ("openvino", None, 2, none),
        ("step=openvino", None, 2, none),
        ("openvino", Some("a.so".into()), 2, "expected an absolute path, found a.so"),
        ("openvino", Some(at("none.so")), 2, "expected a file, found none at"),
        ("openvino", Some(root.path().to_owned()), 2, "expected a file, found none at"),
        ("openvino", Some(at("text.so")), 2, "expected a library that opens"),
        ("openvino", Some(at("cut.so")), 2, "expected a library that opens, found one cut short"),
        ("openvino", Some(at("foreign.so")), 2, "expected a library that opens"),
        ("openvino", Some(other), 2, "expected a plug-in, which has CreateEpFactories"),
        ("openvino", Some(engine.to_owned()), 2, "expected a plug-in, which has CreateEpFactories"),
        ("step=openvino", Some(refusing), 1, "step: openvino failed: "),
        ("step=openvino", Some(empty), 1, "step: openvino failed: "),
        (
            "decoder=coreml",
            None,
            2,
            "expected cpu, openvino, qnn or webgpu, found coreml, which is not",
        ),
    ];
    for (provider, plugin, code, message) in cases {
        let provider = format!("--provider={provider}");
        let plugin = plugin.as_deref().map(library);
        let mut words = vec!["generate", "a", "--num-inference-steps=1", "--quiet", &provider];
        words.extend(plugin.as_deref());
        let output = run(&at("out"), &words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(message), "{words:?}: expected {message:?}, found {stderr:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let made = fs::read_dir(at("out")).expect("readable").count();
        assert_eq!(made, 0, "{words:?}");
    }
}

#[test]
fn flags_that_name_no_provider_are_refused() {
    let root = tempfile::tempdir().expect("a folder");
    for (flag, message) in [
        ("--provider=npu", "expected cpu, openvino, qnn"),
        ("--provider=step", "expected cpu, openvino, qnn"),
        ("--provider=steps=cpu", "expected text_encoder, prologue, step"),
        ("--provider=step=cpu,step=openvino", "expected each stage once, found step twice"),
        ("--provider-option=precision=bf16", "expected PROVIDER.OPTION=VALUE"),
        ("--provider-option=npu.precision=bf16", "expected cpu, openvino, qnn"),
        ("--provider-library=openvino", "expected PROVIDER=FILE"),
        ("--provider-library=npu=/a.so", "expected cpu, openvino, qnn"),
    ] {
        let output = run(root.path(), &["generate", "a", flag]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flag}: {stderr}");
        assert!(stderr.contains(message), "{flag}: expected {message:?}, found {stderr:?}");
    }
}

#[test]
fn options_that_no_provider_has_are_refused_before_any_work() {
    let root = tempfile::tempdir().expect("a folder");
    for (provider, option, message) in [
        ("openvino", "openvino.precison=bf16", "expected precision or threads, found \"precison\""),
        ("openvino", "openvino.precision=fp16", "expected f32 or bf16, found \"fp16\""),
        ("openvino", "openvino.threads=many", "expected a whole number of 1 to 1024"),
        ("cpu", "openvino.precision=bf16", "expected openvino to compute a stage"),
        ("decoder=cpu", "cpu.precision=f32", "provider_option: cpu: expected no option"),
    ] {
        let flags = [format!("--provider={provider}"), format!("--provider-option={option}")];
        let words = ["generate", "a", "--steps=1", "--quiet", &flags[0], &flags[1]];
        let output = run(root.path(), &words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{option}: {stderr}");
        assert!(stderr.contains(message), "{option}: expected {message:?}, found {stderr:?}");
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0, "{option}");
    }
}

/// Without a plug-in the CPU is named, and an image's file says what it always said.
#[test]
fn the_cpu_is_named_and_its_images_are_what_they_were() {
    let root = tempfile::tempdir().expect("a folder");
    let words = ["generate", "a", "--steps=1", "--width=64", "--height=64", "--threads=1"];
    let words = [&words[..], &["-o", "a.png", "--json"]].concat();
    let made = events(&succeed(root.path(), &words));
    let providers: BTreeMap<_, _> = Stage::ALL.map(|stage| (stage.name(), "cpu")).into();
    assert_eq!(made[0]["providers"], json!(providers));
    assert_eq!(made[0]["flavour"], "f32");
    for stage in made.last().expect("done")["stages"].as_array().expect("stages") {
        assert_eq!((&stage["flavour"], &stage["provider"]), (&json!("f32"), &json!("cpu")));
    }
    assert_eq!(made_by(root.path(), "a.png").get("providers"), None);
}

#[test]
#[ignore = "slow: brings OpenVINO"]
fn who_computed_an_image_is_said_wherever_it_is_told_of() {
    if !openvino_is_here("who computed an image is said wherever it is told of") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let flag = library(&openvino::plugin());
    let make = |more: &[&str]| succeed(root.path(), &[&WORDS[..], more].concat());
    make(&["cpu.png"]);
    let made = events(&make(&["openvino.png", "--json", "--provider=openvino", &flag]));
    let providers: BTreeMap<_, _> = Stage::ALL.map(|stage| (stage.name(), "openvino")).into();
    assert_eq!(made[0]["providers"], json!(providers));
    for stage in made.last().expect("done")["stages"].as_array().expect("stages") {
        assert_eq!(stage["provider"], "openvino", "{stage}");
    }
    let ran = ["text_encoder", "prologue", "step", "decoder"].map(|name| (name, "openvino"));
    let ran = json!(BTreeMap::from(ran));
    assert_eq!(made_by(root.path(), "openvino.png")["providers"], ran);
    assert_eq!(made_by(root.path(), "cpu.png").get("providers"), None);
    let at = |name: &str| root.path().join(name);
    assert_near("all stages", &open(&at("openvino.png")), &open(&at("cpu.png")));

    // Of the request in such a file the CPU makes its own image, and says that it is another.
    let again = ["generate", "--from=openvino.png", "--threads=1", "-o", "again.png", "--json"];
    let made = events(&succeed(root.path(), &again));
    let warned = made.iter().any(|event| {
        let message = event["message"].as_str().unwrap_or_default();
        event["event"] == "warning" && message.contains("and not by cpu: expect one that is near")
    });
    assert!(warned, "{made:?}");
    let read = |name: &str| fs::read(at(name)).expect(name);
    assert!(read("again.png") == read("cpu.png"), "the CPU's image, byte for byte");

    // Of several stages one.
    let mixed = ["generate", PROMPT, "--steps=1", "--threads=1", "--verbose", "-o", "mixed.png"];
    let output = run(root.path(), &[&mixed[..], &["--provider=decoder=openvino", &flag]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for (stage, provider) in [("step", "cpu"), ("decoder", "openvino")] {
        let of_stage = |line: &&str| line.split_whitespace().next() == Some(stage);
        let line = stderr.lines().find(of_stage).unwrap_or_else(|| panic!("{stage}: {stderr}"));
        assert!(line.split_whitespace().any(|word| word == provider), "{line}");
    }
}

#[test]
#[ignore = "slow: brings OpenVINO"]
fn what_computes_something_else_is_refused_before_any_step() {
    let root = tempfile::tempdir().expect("a folder");
    let flag = library(&openvino::plugin());
    let words = ["int8.png", "--json", "--flavour=int8", "--provider=step=openvino", &flag];
    let output = run(root.path(), &[&WORDS[..], &words].concat());
    let events = events(&String::from_utf8_lossy(&output.stdout));
    let error = events.last().expect("an error");
    println!("{error}");
    assert_eq!(output.status.code(), Some(1), "{error}");
    for (key, expected) in
        [("kind", "provider_failed"), ("at", "step"), ("provider", "openvino"), ("event", "error")]
    {
        assert_eq!(error[key], expected, "{error}");
    }
    assert!(events.iter().all(|event| event["event"] != "step"), "{events:?}");
    assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
}

/// Two pipelines with different providers in one process, three sizes, and an edit.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn a_plug_in_that_is_registered_changes_no_byte_of_the_cpus_images() {
    if !openvino_is_here("a plug in that is registered changes no byte of the cpus images") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let package = flavoured_package(Flavour::F32);
    let package_flag = format!("--package={}", package.display());
    // By a process that knows of no plug-in.
    succeed(root.path(), &[&WORDS[..], &["cpu.png", &package_flag]].concat());
    let expected = open(&root.path().join("cpu.png"));

    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let open = |providers| {
        let options = Options { providers, threads: Some(1), ..Options::default() };
        Pipeline::open_with(&package, &options).unwrap_or_else(|error| panic!("{error}"))
    };
    let on = |_: &pocketmuse::Step<'_>| ControlFlow::Continue(());
    let image = |pipeline: &Pipeline, request: &Request| {
        let made = pipeline.generate(request, on).unwrap_or_else(|error| panic!("{error}"));
        made.images.into_iter().next().expect("one")
    };
    let before = open(Providers::default());
    assert!(image(&before, &request()) == expected);
    let providers = Providers {
        stages: Stage::ALL.map(|stage| (stage, Provider::OpenVino)).into(),
        libraries: [(Provider::OpenVino, openvino::plugin())].into(),
        ..Providers::default()
    };
    let other = open(providers);
    let after = open(Providers::default());
    for size in [128, 64, 96, 128] {
        let request = Request { width: Some(size), height: Some(size), ..request() };
        let cpu = image(&after, &request);
        assert!(cpu == image(&before, &request), "{size}");
        assert_near(&format!("{size} pixels"), &image(&other, &request), &cpu);
    }
    assert!([&before, &after].map(|cpu| image(cpu, &request()) == expected) == [true; 2]);

    let request = Request { strength: Some(0.5), ..request() };
    let [by_cpu, by_other] = [&after, &other].map(|pipeline| {
        let made = pipeline.edit(&request, &Source::new(expected.clone()), on);
        made.unwrap_or_else(|error| panic!("{error}"))
    });
    let by = |output: &pocketmuse::Output| {
        let stages = output.report.stages.iter();
        stages.map(|stage| stage.provider).collect::<Vec<_>>()
    };
    assert_eq!((by(&by_cpu), by(&by_other)), (vec![Provider::Cpu; 5], vec![Provider::OpenVino; 5]));
    assert_near("an edit", &by_other.images[0], &by_cpu.images[0]);
}

/// The records of what was found out about packages.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect()
}

/// What is proved once is believed in the next process, until its record is damaged; and what it
/// takes is then what was measured.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn a_proof_is_kept_with_the_memory_that_it_took() {
    if !openvino_is_here("a proof is kept with the memory that it took") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let (plugin, package) = (openvino::plugin(), flavoured_package(Flavour::F32));
    let prepared = root.path().join("prepared");
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let open = |plugin: &Path, memory| {
        let providers = Providers {
            stages: [(Stage::Step, Provider::OpenVino), (Stage::Decoder, Provider::OpenVino)]
                .into(),
            libraries: [(Provider::OpenVino, plugin.to_owned())].into(),
            ..Providers::default()
        };
        let prepared = Some(prepared.clone());
        let options = Options {
            providers,
            prepared,
            memory,
            threads: Some(1),
            staged: true,
            measure_memory: true,
            ..Options::default()
        };
        Pipeline::open_with(&package, &options).unwrap_or_else(|error| panic!("{error}"))
    };
    let measured = |pipeline: &Pipeline, request: &Request| {
        let plan = pipeline.plan(request).unwrap_or_else(|error| panic!("{error}"));
        [Stage::Step, Stage::Decoder, Stage::Prologue].map(|stage| plan.stage(stage).is_measured)
    };
    let plenty = Budget::Bytes(4 << 30);
    let on = |_: &pocketmuse::Step<'_>| ControlFlow::Continue(());
    let first = open(&plugin, plenty);
    assert_eq!(measured(&first, &request()), [false; 3]);
    let estimated = first.plan(&request()).expect("it fits");
    let made = first.generate(&request(), on).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(measured(&first, &request()), [true, true, false]);
    let plan = first.plan(&request()).expect("it fits");
    println!("{estimated}\n{plan}");
    for stage in [Stage::Step, Stage::Decoder] {
        let [before, after] = [&estimated, &plan].map(|plan| plan.stage(stage).peak_rss_bytes);
        assert!(after < before * 3 / 2, "{stage}: {after} measured, {before} estimated");
    }

    // Another process: the record alone is there.
    let again = open(&plugin, plenty);
    assert_eq!(again.plan(&request()).expect("it fits"), plan);
    let next = again.generate(&request(), on).unwrap_or_else(|error| panic!("{error}"));
    assert!(next.images == made.images);
    let took = next.report.peak_rss_bytes.expect("Linux tells");
    println!("{} MB planned, {} taken", plan.peak_rss_bytes() / 1_000_000, took / 1_000_000);
    let job = again.job(&request(), Origin::Nothing).expect("a job");
    let started = Instant::now();
    let known = again.diagnose(&job, false, |_| panic!("it is known")).expect("known");
    let each = started.elapsed() / known.len() as u32;
    println!("a verdict that is known takes a stage {:.2} ms", 1000.0 * each.as_secs_f64());
    let other = Request { width: Some(64), height: Some(64), ..request() };
    assert_eq!(measured(&again, &other), [false; 3], "another size is another proof");
    assert_eq!(measured(&again, &Request { guidance_scale: Some(1.0), ..request() }), [false; 3]);

    let small = open(&plugin, Budget::Bytes(100 << 20));
    let error = small.generate(&request(), on).expect_err("too small for OpenVINO");
    assert_eq!(error.kind(), ErrorKind::NotEnoughMemory, "{error}");

    let records = kept(&prepared);
    assert_eq!(records.len(), 1);
    let record = fs::read_to_string(&records[0]).expect("a record");
    fs::write(&records[0], record.replace("\"is_right\": true", "\"is_right\": false"))
        .expect("written");
    let anew = open(&plugin, plenty);
    assert_eq!(measured(&anew, &request()), [false; 3], "a damaged record says nothing");
    anew.generate(&request(), on).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(measured(&open(&plugin, plenty), &request()), [true, true, false]);
}

/// A pipeline of these graphs whose stages OpenVINO computes with these options; with `None`, the
/// CPU.
fn opened(flavour: Flavour, options: Option<&[&str]>) -> Options {
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let by = if options.is_some() { Provider::OpenVino } else { Provider::Cpu };
    let mut providers = Providers {
        stages: Stage::ALL.map(|stage| (stage, by)).into(),
        libraries: [(Provider::OpenVino, openvino::plugin())].into(),
        ..Providers::default()
    };
    for option in options.into_iter().flatten() {
        let (provider, key, value) = Providers::option_of(option).expect("an option");
        providers.options.entry(provider).or_default().insert(key, value);
    }
    let flavour = Some(flavour);
    Options { providers, flavour, threads: Some(1), staged: true, ..Options::default() }
}

/// Of a request at the trained size, against f32 on the CPU.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn what_openvino_makes_is_as_near_to_f32_as_it_must_be() {
    if !openvino_is_here("what openvino makes is as near to f32 as it must be") {
        return;
    }
    let open = |flavour, options| {
        Pipeline::open_with(flavoured_package(flavour), &opened(flavour, options))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let f32 = open(Flavour::F32, None);
    let request = Request { guidance_scale: Some(1.5), ..request() };
    let bf16 = &["openvino.precision=bf16"][..];
    for (flavour, options, logits, codes, decoder, encoder) in [
        (Flavour::F32, &[][..], 1e-4, 0.999, 100.0, 0.999),
        (Flavour::F16, &[], 0.006, 0.99, 65.0, 0.985),
        (Flavour::F16, bf16, 0.015, 0.99, 52.0, 0.95),
        (Flavour::Qdq, &[], 0.05, 0.96, 50.0, 0.0),
    ] {
        let other = open(flavour, Some(options));
        println!("{flavour} {options:?}:");
        let steps = alike::steps(&f32, &other, &request);
        assert!(steps.worst <= logits && steps.codes >= codes, "{flavour} {options:?}");
        let found = alike::decoders(&f32, &other, &request);
        assert!(found >= decoder, "{flavour} {options:?}: {found} dB");
        if encoder > 0.0 {
            let found = alike::encoders(&f32, &other, &request);
            assert!(found >= encoder, "{flavour} {options:?}: {found} of the tokens");
        }
    }
}

/// Of each stage that it takes, in all flavours.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn what_a_report_says_of_nodes_the_profile_says_too() {
    if !openvino_is_here("what a report says of nodes the profile says too") {
        return;
    }
    for (flavour, refused) in [
        (Flavour::F32, None),
        (Flavour::F16, None),
        (Flavour::Int8, Some(Stage::Decoder)),
        (Flavour::Int4, Some(Stage::Decoder)),
        (Flavour::Qdq, None),
    ] {
        let profiles = tempfile::tempdir().expect("a folder");
        let mut options = opened(flavour, Some(&[]));
        options.providers.stages.retain(|stage, _| Some(*stage) != refused);
        let package = flavoured_package(flavour);
        let opened = Pipeline::open_with_profiles(&package, &options, profiles.path());
        let all_is_well = Verdict { is_right: true, ..Verdict::not_ended("not looked at") };
        let pipeline = opened.unwrap_or_else(|error| panic!("{error}"));
        let pipeline = pipeline.with_prover(move |_, _| Ok(Some(all_is_well.clone())));
        let side = Some(64);
        let request = Request { strength: Some(0.5), width: side, height: side, ..request() };
        let source = Source::new(RgbImage::new(64, 64));
        let made = pipeline.edit(&request, &source, |_| ControlFlow::Continue(()));
        let made = made.unwrap_or_else(|error| panic!("{error}"));
        drop(pipeline);
        assert_eq!(made.report.stages.len(), Stage::ALL.len());
        if flavour == Flavour::F32 {
            let checked = left::check(Provider::OpenVino, &made.report.stages);
            checked.unwrap_or_else(|error| panic!("{error}"));
        }
        let mut told = Vec::new();
        for stage in made.report.stages {
            let ran = profile::of_stage(profiles.path(), stage.name);
            assert_eq!(ran.len(), 1, "{flavour} {}", stage.name);
            let by: Vec<_> = ran[0].keys().map(String::as_str).collect();
            let Some(nodes) = stage.nodes else {
                assert_eq!((stage.provider, &by[..]), (Provider::Cpu, &[profile::CPU][..]));
                continue;
            };
            assert_eq!((stage.provider, &by[..]), (Provider::OpenVino, &[OPENVINO_NAME][..]));
            assert!(nodes.taken > 0 && nodes.taken == nodes.all && nodes.left.is_empty());
            told.push(format!("{} {nodes}", stage.name));
        }
        println!("{flavour} by openvino alone: {}", told.join("; "));
    }
}

/// As the cache of a hub's client is.
#[test]
#[ignore = "slow: brings OpenVINO"]
fn a_package_made_of_links_is_as_any() {
    if !openvino_is_here("a package made of links is as any") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let package = flavoured_package(Flavour::F32);
    let at = |name: &str| root.path().join(name);
    for folder in ["blobs", "linked", "linked/f32"] {
        fs::create_dir(at(folder)).expect("made");
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [package.clone(), package.join("f32")] {
        let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry"));
        files.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    for (number, file) in files.iter().enumerate() {
        let blob = at("blobs").join(number.to_string());
        fs::copy(file, &blob).expect("copied");
        let name = file.strip_prefix(&package).expect("in the package");
        std::os::unix::fs::symlink(blob, at("linked").join(name)).expect("a link");
    }
    let flag = library(&openvino::plugin());
    let make = |name: &str, package: &Path| {
        let package = format!("--package={}", package.display());
        let words = [name, "--provider=openvino", &flag, &package];
        succeed(root.path(), &[&WORDS[..], &words].concat());
        open(&at(name))
    };
    assert!(make("linked.png", &at("linked")) == make("plain.png", &package));
}
