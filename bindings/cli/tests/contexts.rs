//! Graphs that are compiled ahead for phones' NPUs, by QNN's plug-in of a desktop, and run by its
//! simulator. What that takes of time to run says nothing about a phone.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "support/qnn.rs"]
mod qnn;
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use image::RgbImage;
use pocketmuse::{
    Error, ErrorKind, Flavour, Manifest, Options, Origin, Output, Pipeline, Provider, Providers,
    Request, Stage, doctor::Diagnosis, prepared::Verdict,
};
use pocketmuse_package::{ContextEntry, FileEntry, MANIFEST, StageEntry};
use serde_json::Value;
use support::{
    folders::{flavoured_package, link_folder},
    pocketmuse, run, succeed,
};

/// The chips that contexts are compiled for, with the texts in their files that say so.
const CHIPS: [(&str, &str, &str); 4] = [
    ("sm8550", "soc_type=SM8550;", ";arch=73;"),
    ("sm8650", "soc_type=SM8650;", ";arch=75;"),
    ("sm8750", "soc_type=SM8750;", ";arch=79;"),
    ("sm8850", "soc_type=SM8850;", ";arch=81;"),
];

/// One at a time: each simulates a chip with all cores.
static ONE: Mutex<()> = Mutex::new(());

/// A copy of the package of `flavour`, to be changed.
fn copy(flavour: Flavour) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let package = root.path().join("package");
    link_folder(&flavoured_package(flavour), &package);
    (root, package)
}

/// Compiles with these flags for images of 64 pixels; what was told of each stage.
fn compile(package: &Path, flags: &[&str]) -> Vec<Value> {
    let (folder, name) = (package.parent().expect("a folder"), package.to_str().expect("text"));
    let library = format!("--provider-library=qnn={}", qnn::plugin().display());
    let words = ["compile", name, "--size=64", "--json", &library];
    let told = succeed(folder, &[&words[..], flags].concat());
    let told: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for one in &told {
        println!(
            "{} {}: {} MB, {:.1} s with what the CPU makes, {} MiB",
            one["target"].as_str().expect("a chip"),
            one["graph"].as_str().expect("a file"),
            one["bytes"].as_u64().expect("bytes") / 100_000 / 10,
            one["ms"].as_f64().expect("a time") / 1000.0,
            one["peak_bytes"].as_u64().expect("Linux tells") >> 20,
        );
    }
    told
}

/// What the manifest of a package with one flavour says of a stage.
fn stage_of(manifest: &mut Manifest, stage: Stage) -> &mut StageEntry {
    let mut flavours = manifest.flavours.values_mut();
    flavours.next().expect("one").stages.get_mut(&stage).expect("there")
}

fn context_of(package: &Path, stage: Stage, chip: &str) -> ContextEntry {
    let mut manifest = Manifest::read(package).expect("a manifest");
    let contexts = &stage_of(&mut manifest, stage).contexts;
    contexts.iter().find(|context| context.target == chip).expect(chip).clone()
}

/// Changes what the manifest says of a stage.
fn change(package: &Path, stage: Stage, change: impl FnOnce(&mut StageEntry)) {
    let mut manifest = Manifest::read(package).expect("a manifest");
    change(stage_of(&mut manifest, stage));
    fs::write(package.join(MANIFEST), manifest.to_json()).expect("written");
}

/// A package whose `stages` the simulator computes as `chip`.
fn open(package: &Path, (stages, chip): (&[Stage], &str), kept: &Path) -> Result<Pipeline, Error> {
    pocketmuse_cli::runtime::start(false)?;
    let options = [("soc".to_owned(), chip.to_owned())].into();
    let providers = Providers {
        stages: stages.iter().map(|stage| (*stage, Provider::Qnn)).collect(),
        libraries: [(Provider::Qnn, qnn::plugin())].into(),
        options: [(Provider::Qnn, options)].into(),
        allow_fallback: false,
    };
    let prepared = Some(kept.to_owned());
    Pipeline::open_with(package, &Options { providers, prepared, ..Options::default() })
}

/// The same pipeline, and nobody looks at what its providers compute.
fn unproved(pipeline: Pipeline) -> Pipeline {
    let all_is_well = Verdict { is_right: true, ..Verdict::not_ended("not looked at") };
    pipeline.with_prover(move |_, _| Ok(Some(all_is_well.clone())))
}

/// An image without guidance: half the work of one with it.
fn request() -> Request {
    Request {
        num_inference_steps: Some(1),
        seed: 3,
        width: Some(64),
        height: Some(64),
        guidance_scale: Some(1.0),
        ..Request::new("a red lighthouse by the sea at sunset")
    }
}

fn generate(pipeline: &Pipeline) -> Result<Output, Error> {
    pipeline.generate(&request(), |_| ControlFlow::Continue(()))
}

fn good<T>(made: Result<T, Error>) -> T {
    made.unwrap_or_else(|error| panic!("{error}"))
}

fn image(output: Output) -> RgbImage {
    output.images.into_iter().next().expect("one")
}

/// The names in a folder and in those in it.
fn names(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(names(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
#[ignore = "slow: brings QNN, compiles for NPUs and simulates one"]
fn contexts_of_four_chips_are_made_and_what_one_computes_is_proved() {
    let _one = ONE.lock();
    let (_root, package) = copy(Flavour::F16);
    let chips = CHIPS.map(|(chip, ..)| chip).join(",");
    let told =
        compile(&package, &["--stage=step", "--branches=1", &format!("--target=qnn:{chips}")]);
    assert_eq!(told.len(), 4);
    for (chip, soc, arch) in CHIPS {
        let context = context_of(&package, Stage::Step, chip);
        let binary = fs::read(context.binary.locate(&package)).expect("read");
        for text in [soc, arch] {
            let is_there = binary.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(is_there, "{chip}: expected {text}");
        }
        assert!(context.rows.bytes <= 100_000 && context.sdk == "2.51.0", "{context:?}");
    }
    let by_size: Vec<_> = told.iter().map(|one| one["bytes"].as_u64().expect("bytes")).collect();
    let graph = flavoured_package(Flavour::F16);
    let weights = fs::metadata(graph.join("f16/step.data")).expect("there").len();
    println!("f16 step: contexts of {by_size:?} bytes, weights of {weights}");

    // The plan says it, before anything is loaded.
    let library = format!("--provider-library=qnn={}", qnn::plugin().display());
    let name = package.to_str().expect("text");
    let words = ["generate", "a", "--explain", "--json", "--flavour=f16", "--provider=step=qnn"];
    let size = ["--width=64", "--height=64", "--guidance-scale=1", &library, "--package", name];
    let words = [&words[..], &size].concat();
    let plan: Value =
        serde_json::from_str(succeed(&package, &words).lines().last().expect("a plan"))
            .expect("JSON");
    let stages = plan["stages"].as_array().expect("stages");
    for stage in stages {
        assert_eq!(stage["context"], stage["name"] == "step", "{stage}");
    }

    let kept = tempfile::tempdir().expect("made");
    let which = (&[Stage::Step][..], "sm8650");
    let by_context = good(generate(&good(open(&package, which, kept.path())))); // proved by the CPU
    let step = by_context.report.stages.iter().find(|stage| stage.name == "step").expect("it ran");
    assert!(step.is_context && step.nodes.is_none(), "{step:?}");
    let by_graph = good(generate(&unproved(good(open(&graph, which, kept.path())))));
    let step = by_graph.report.stages.iter().find(|stage| stage.name == "step").expect("it ran");
    assert!(!step.is_context && step.nodes.is_some(), "{step:?}");
    let right = image(by_context);
    assert!(right == image(by_graph), "other bits");

    // Eight bytes that are others, and a digest that says that all is well.
    let context = context_of(&package, Stage::Step, "sm8650");
    let binary = context.binary.locate(&package);
    let mut changed = fs::read(&binary).expect("read");
    let middle = changed.len() / 2;
    changed[middle..middle + 8].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(&binary, &changed).expect("written");
    change(&package, Stage::Step, |step| {
        let of_chip = step.contexts.iter_mut().find(|context| context.target == "sm8650");
        let path = &context.binary.path;
        of_chip.expect("there").binary = FileEntry::describe(&package, path).expect("described");
    });
    let error = generate(&good(open(&package, which, kept.path()))).expect_err("other numbers");
    println!("eight changed bytes: {error}");
    assert_eq!((error.kind(), error.at()), (ErrorKind::ProviderFailed, "step"), "{error}");
    let unknown = tempfile::tempdir().expect("made");
    let nobody_looks = unproved(good(open(&package, which, unknown.path())));
    assert!(image(good(generate(&nobody_looks))) != right, "the same image");
}

/// How often a command had a stage proved, which makes an image of 64 pixels if the proof holds; its
/// exit code, and the last line that it said.
fn proved(package: &Path) -> (usize, Option<i32>, String) {
    let folder = package.parent().expect("a folder");
    let library = format!("--provider-library=qnn={}", qnn::plugin().display());
    let words = ["generate", "a", "--flavour=f16", "--provider=step=qnn", &library, "--package"];
    let size = ["--width=64", "--height=64", "--guidance-scale=1", "--num-inference-steps=1"];
    let name = [package.to_str().expect("text"), "-o=image.png"];
    let mut command = pocketmuse(folder, &[&words[..], &name, &size].concat());
    command.env("RUST_LOG", "debug").env("XDG_CACHE_HOME", folder.join("cache"));
    let output = command.output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default().to_owned();
    (said.matches(" is proved by ").count(), output.status.code(), last)
}

/// The step for images without guidance.
const STEP: [&str; 3] = ["--stage=step", "--branches=1", "--target=qnn:sm8650"];

/// The binary of the step for images of `side` pixels, in a package that is whole.
fn binary(package: &Path, side: usize) -> FileEntry {
    let mut manifest = Manifest::read(package).expect("a manifest");
    manifest.check(package, &mut |_| Ok(())).expect("whole");
    let contexts = &stage_of(&mut manifest, Stage::Step).contexts;
    let of_side = contexts.iter().find(|context| context.extents["height"] == side / 8);
    of_side.expect("compiled").binary.clone()
}

#[test]
#[ignore = "slow: brings QNN, compiles for NPUs"]
fn a_second_size_is_a_small_part_of_a_binary_that_both_share() {
    let _one = ONE.lock();
    for flavour in [Flavour::F16, Flavour::Qdq] {
        let (root, package) = copy(flavour);
        let (before, of_flavour) = (names(&package), format!("--flavour={flavour}"));
        let step = [&STEP[..], &[&of_flavour]].concat();
        let both = [&step[..], &["--size=128"]].concat();
        let told = compile(&package, &both);
        let shared = binary(&package, 64);
        assert_eq!(shared, binary(&package, 128));
        assert!(told.len() == 2 && told.iter().all(|one| one["sharing"] == 2), "{told:?}");
        assert_eq!(names(&package).len() - before.len(), 6, "a folder, two graphs, rows, a binary");

        let from = package.to_str().expect("text");
        let words = ["package", from, "-o", "small", "--without=encoder", "--target=qnn:sm8650"];
        succeed(root.path(), &[&words[..], &[&of_flavour]].concat());
        assert_eq!(binary(&root.path().join("small"), 128), shared);
        let told = succeed(root.path(), &["inspect", "small", "--json"]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let networks = told["networks"].as_array().expect("networks");
        let step_of = |one: &&Value| one["name"] == format!("{flavour}/step");
        let inspected = networks.iter().find(step_of).expect("a step");
        assert_eq!(inspected["bytes"], shared.bytes, "once");

        // What is compiled by itself takes the place of one; the other has what both shared.
        compile(&package, &step);
        let one = binary(&package, 64).bytes;
        let more = shared.bytes - one;
        println!("{flavour} step: one size {one} bytes, another {more} more in the same binary");
        assert!(more <= one / 4, "a second size: at most a quarter of the first");
        assert_eq!(binary(&package, 128), shared);
        let told = compile(&package, &[&both[..], &["--separate"]].concat());
        assert!(told.len() == 2 && told.iter().all(|one| one["sharing"] == 1), "{told:?}");
        assert!(!shared.locate(&package).exists(), "nobody names it any more");
        assert_eq!(names(&package).len() - before.len(), 7);
    }
}

/// The vendor says that devices alone load what sizes share.
#[test]
#[ignore = "slow: brings QNN, compiles for NPUs and simulates one"]
fn that_the_simulator_crashes_is_survived() {
    let _one = ONE.lock();
    let (_root, package) = copy(Flavour::F16);
    compile(&package, &[&STEP[..], &["--size=128"]].concat());
    let crashed = "error: step: qnn crashed when it was proved: signal: 11 (SIGSEGV)";
    for times in [1, 0] {
        let (proofs, code, said) = proved(&package);
        assert_eq!((proofs, code), (times, Some(1)), "{said}");
        assert!(said.starts_with(crashed), "{said}");
    }
    // What is compiled again is something else, which is tried.
    compile(&package, &STEP);
    let (proofs, code, said) = proved(&package);
    assert_eq!((proofs, code), (1, Some(0)), "{said}");
}

/// The stages that a phone's NPU computes here.
const NPU: [Stage; 3] = [Stage::TextEncoder, Stage::Prologue, Stage::Step];

/// A package of `flavour` with what was compiled of [`NPU`], and without their graphs.
fn without_graphs(flavour: Flavour, branches: u8) -> (tempfile::TempDir, PathBuf) {
    let (root, package) = copy(flavour);
    let [flavour, branches] = [format!("--flavour={flavour}"), format!("--branches={branches}")];
    let words = ["--stage=text_encoder,prologue,step", "--target=qnn:sm8650", &flavour];
    assert_eq!(compile(&package, &[&words[..], &[&branches]].concat()).len(), 3);
    let (from, small) = (package.to_str().expect("text"), root.path().join("small"));
    let words = ["package", from, "-o", "small", "--without=encoder", "--target=qnn:sm8650"];
    succeed(root.path(), &[&words[..], &[&flavour]].concat());
    let files = names(&small);
    for stage in NPU {
        let is_of_graph = |path: &&PathBuf| {
            path.parent().is_some_and(|folder| !folder.ends_with("qnn-sm8650"))
                && path.file_stem().is_some_and(|name| name == stage.name())
        };
        assert_eq!(files.iter().find(is_of_graph), None);
    }
    (root, small)
}

/// Guidance makes errors larger.
#[test]
#[ignore = "slow: brings QNN, compiles for NPUs and simulates one"]
fn integers_without_graphs_are_proved_by_their_rows() {
    let _one = ONE.lock();
    let (_root, small) = without_graphs(Flavour::Qdq, 2);
    let kept = tempfile::tempdir().expect("made");
    let pipeline = good(open(&small, (&NPU, "sm8650"), kept.path()));
    let guided = Request { guidance_scale: Some(3.0), ..request() };
    let job = good(pipeline.job(&guided, Origin::Nothing));
    let found = good(pipeline.diagnose(&job, false, |_| ()));
    assert_eq!(found.len(), NPU.len());
    assert!(found.iter().all(Diagnosis::is_good), "{found:?}");
    print_reasons("qdq", kept.path());
}

/// The output of each stage that was furthest off in its proof.
fn print_reasons(what: &str, kept: &Path) {
    for verdict in verdicts(kept) {
        let reason = verdict["reason"].as_str().expect("a reason");
        let error = |part: &str| part.rsplit(' ').next().and_then(|text| text.parse().ok());
        let error = |part: &str| error(part).unwrap_or(0.0f64);
        let worst = reason.split("; ").max_by(|a, b| error(a).total_cmp(&error(b)));
        println!("{what}, by rows: {}", worst.expect("one"));
    }
}

/// What a phone has: the NPU's stages without graphs, rows of what the CPU made of them.
#[test]
#[ignore = "slow: brings QNN, compiles for NPUs and simulates one"]
fn a_package_without_graphs_is_proved_by_its_rows_and_takes_no_other_file() {
    let _one = ONE.lock();
    let (_root, small) = without_graphs(Flavour::F16, 1);
    let opened = Pipeline::open_with(&small, &Options::default());
    let error = opened.err().expect("no graph for the CPU");
    assert_eq!((error.kind(), error.at()), (ErrorKind::Unsupported, "text_encoder"));
    let expected = "expected a graph for cpu, found what was compiled for qnn:sm8650 alone";
    assert!(error.detail().starts_with(expected), "{error}");

    let kept = tempfile::tempdir().expect("made");
    let made = good(generate(&good(open(&small, (&NPU, "sm8650"), kept.path()))));
    assert_eq!(made.report.stages.iter().filter(|stage| stage.is_context).count(), 3);
    print_reasons("f16", kept.path());
    for (chip, side, expected) in [
        ("sm8550", 64, "expected a context for sm8550, found sm8650"),
        ("sm8650", 128, "step: qnn expected a context for sm8650 with "),
    ] {
        let request = Request { width: Some(side), height: Some(side), ..request() };
        let pipeline = good(open(&small, (&NPU, chip), kept.path()));
        let error = pipeline.generate(&request, |_| panic!("a step runs")).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }

    // Files that were cut, changed and swapped.
    let [binary, other] = [Stage::Step, Stage::Prologue]
        .map(|stage| context_of(&small, stage, "sm8650").binary.locate(&small));
    let whole = fs::read(&binary).expect("read");
    let mut changed = whole.clone();
    changed[7] = !changed[7];
    let other = fs::read(other).expect("read");
    for (bytes, expected) in [
        (&whole[..whole.len() - 9], "expected a file of"),
        (&changed[..], "the file was changed"),
        (&other[..], "expected a file of"),
    ] {
        fs::write(&binary, bytes).expect("written");
        let opened = open(&small, (&NPU, "sm8650"), kept.path());
        let error = opened.and_then(|pipeline| generate(&pipeline).map(drop)).expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// The verdicts that are kept in a folder.
fn verdicts(kept: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for path in names(kept).iter().filter(|path| path.extension().is_some_and(|it| it == "json")) {
        let record: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
        let verdicts = record["record"]["verdicts"].as_array().into_iter().flatten();
        found.extend(verdicts.map(|verdict| verdict[1].clone()));
    }
    found
}

#[test]
#[ignore = "slow: brings QNN, compiles for NPUs"]
fn compiling_that_is_stopped_leaves_the_package_as_it_was_and_the_next_does_all() {
    let _one = ONE.lock();
    let (root, package) = copy(Flavour::F16);
    let (before, manifest) = (names(&package), fs::read(package.join(MANIFEST)).expect("read"));
    let library = format!("--provider-library=qnn={}", qnn::plugin().display());
    let name = package.to_str().expect("text");
    let words = ["compile", name, "--target=qnn:sm8650", "--size=64", &library];
    let words = [&words[..], &["--stage=text_encoder"]].concat();
    let mut child = pocketmuse(root.path(), &words).spawn().expect("started");
    while names(&package) == before {
        assert_eq!(child.try_wait().expect("a child"), None, "it compiles");
    }
    let stop = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(stop.expect("started").success());
    assert_eq!(child.wait().expect("a child").code(), Some(130));
    let said = BufReader::new(child.stderr.take().expect("piped")).lines().last();
    assert_eq!(said.expect("a line").expect("UTF-8"), "stopped, nothing was written");
    assert_eq!(names(&package), before);
    assert!(fs::read(package.join(MANIFEST)).expect("read") == manifest);

    let first = compile(&package, &["--stage=text_encoder", "--target=qnn:sm8650"]);
    let again = compile(&package, &["--stage=text_encoder", "--target=qnn:sm8650"]);
    assert_ne!(first[0]["graph"], again[0]["graph"], "who has the first open keeps it");
    assert!(!package.join(first[0]["graph"].as_str().expect("a file")).exists());
    let kept = Manifest::read(&package).expect("a manifest");
    kept.check(&package, &mut |_| Ok(())).expect("whole");
    assert_eq!(kept.format, 3);
    let more = names(&package).len() - before.len();
    assert_eq!(more, 4, "a folder with three files");
}

#[test]
fn what_cannot_be_compiled_is_one_line() {
    let root = tempfile::tempdir().expect("a folder");
    let package = flavoured_package(Flavour::F16);
    let name = package.to_str().expect("text");
    let none = "--provider-library=qnn=/none.so";
    let cases: [(&[&str], i32, &str); 7] = [
        (&["compile", name, "--target=qnn:sm8650"], 2, "--provider-library"),
        (&["compile", name, "--target=sm8650", none], 2, "expected PROVIDER:CHIP, such as"),
        (&["compile", name, "--target=qnn:", none], 2, "expected names of chips with commas"),
        (
            &["compile", name, "--target=qnn:sm1", none],
            2,
            "provider_option: qnn.soc: expected sm8550 or sm8650 or sm8750 or sm8850, found \"sm1\"",
        ),
        (&["compile", name, "--target=qnn:sm8650", none], 2, "expected a file, found none"),
        (&["compile", name, "--target=qnn:sm8650", none, "--branches=3"], 2, "3"),
        (
            &["package", name, "-o", "small", "--target=qnn:sm8650"],
            2,
            "target: expected contexts for qnn:sm8650, found none: make them with compile",
        ),
    ];
    for (words, code, expected) in cases {
        let output = run(root.path(), words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    // Where no graph is, before any library is looked at.
    let part = root.path().join("part");
    link_folder(&package, &part);
    let mut manifest = Manifest::read(&part).expect("a manifest");
    let file = FileEntry::describe(&part, "f16/step.onnx").expect("described");
    fs::write(part.join("a.rows"), [0; 8]).expect("written");
    let rows = FileEntry::describe(&part, "a.rows").expect("described");
    let step = stage_of(&mut manifest, Stage::Step);
    let context = ContextEntry {
        provider: "qnn".to_owned(),
        target: "sm8650".to_owned(),
        architecture: "75".to_owned(),
        sdk: "2.51.0".to_owned(),
        extents: Default::default(),
        source: step.source(),
        graph: file.clone(),
        binary: file,
        rows,
    };
    step.contexts.push(context);
    manifest.format = 3;
    fs::write(part.join(MANIFEST), manifest.to_json()).expect("written");
    let opened = Pipeline::open_with(&part, &Options::default());
    let error = opened.err().expect("a graph is no context").to_string();
    assert!(error.contains("expected its values in \"step.onnx\""), "{error}");
}
