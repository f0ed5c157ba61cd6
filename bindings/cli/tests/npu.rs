//! NPUs: QNN's plug-in with its simulator of a Hexagon, brought as its users bring it, through pip.
//! What the simulator takes of time says nothing about a phone.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../../tests/integration/likeness.rs"]
mod alike;
#[path = "support/left.rs"]
mod left;
#[path = "support/likeness.rs"]
mod likeness;
#[path = "support/profile.rs"]
mod profile;
#[path = "support/qnn.rs"]
mod qnn;
mod support;

use std::{
    env, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use image::RgbImage;
use likeness::psnr;
use pocketmuse::{
    Error, ErrorKind, Flavour, Manifest, Options, Output, Pipeline, Provider, Providers, Request,
    Source, Stage, doctor::Doctor, prepared::Verdict,
};
use pocketmuse_export::Ranges;
use pocketmuse_package::{
    FileEntry, MANIFEST, onnx,
    wire::{Field, Message, for_each},
};
use serde_json::Value;
use support::folders::{flavoured_package, link_folder};

/// What ONNX Runtime calls it.
const QNN_NAME: &str = "QNNExecutionProvider";

/// The stages that make an image.
const MAKERS: [Stage; 4] = [Stage::TextEncoder, Stage::Prologue, Stage::Step, Stage::Decoder];

fn request(side: u32, steps: u32) -> Request {
    Request {
        num_inference_steps: Some(steps),
        seed: 3,
        width: Some(side),
        height: Some(side),
        ..Request::new("a red lighthouse by the sea at sunset")
    }
}

/// A package whose `stages` the simulator computes; what it proves is kept in `prepared`.
fn open(package: &Path, which: (Flavour, &[Stage]), prepared: &Path) -> Result<Pipeline, Error> {
    pocketmuse_cli::runtime::start(false)?;
    Pipeline::open_with(package, &options(which, prepared))
}

fn options((flavour, stages): (Flavour, &[Stage]), prepared: &Path) -> Options {
    let providers = Providers {
        stages: stages.iter().map(|stage| (*stage, Provider::Qnn)).collect(),
        libraries: [(Provider::Qnn, qnn::plugin())].into(),
        ..Providers::default()
    };
    let prepared = Some(prepared.to_owned());
    Options { providers, flavour: Some(flavour), prepared, ..Options::default() }
}

/// The same pipeline, and nobody looks at what its providers compute.
fn unproved(pipeline: Pipeline) -> Pipeline {
    let all_is_well = Verdict { is_right: true, ..Verdict::not_ended("not looked at") };
    pipeline.with_prover(move |_, _| Ok(Some(all_is_well.clone())))
}

/// The graphs of f32 on the CPU, which all others are measured against.
fn f32_by_cpu(prepared: &Path) -> Pipeline {
    good(open(&flavoured_package(Flavour::F32), (Flavour::F32, &[]), prepared))
}

fn go_on(_: &pocketmuse::Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn good<T>(made: Result<T, Error>) -> T {
    made.unwrap_or_else(|error| panic!("{error}"))
}

fn image(output: Output) -> RgbImage {
    output.images.into_iter().next().expect("one")
}

/// What was proved of each stage, printed; the number of them.
fn print_proved(what: &str, prepared: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(prepared).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let record: Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("a record");
        count += print_reasons(what, &record);
    }
    count
}

/// Every `reason` in a record, whatever it is in.
fn print_reasons(what: &str, value: &Value) -> usize {
    match value {
        Value::Object(map) => {
            let reason = map.get("reason").and_then(Value::as_str);
            if let Some(reason) = reason {
                // Of a stage with many outputs those that are furthest off.
                let mut parts: Vec<_> = reason.split("; ").collect();
                let error = |part: &&str| {
                    let found = part.rsplit(' ').next().and_then(|text| text.parse().ok());
                    found.unwrap_or(0.0f64)
                };
                parts.sort_by(|a, b| error(b).total_cmp(&error(a)));
                println!("{what}: {}", parts[..parts.len().min(2)].join("; "));
            }
            usize::from(reason.is_some())
                + map.values().map(|value| print_reasons(what, value)).sum::<usize>()
        }
        Value::Array(values) => values.iter().map(|value| print_reasons(what, value)).sum(),
        _ => 0,
    }
}

/// An edit needs all five.
#[test]
#[ignore = "slow: brings QNN, simulates an NPU"]
fn all_stages_of_f16_are_whole_and_near_the_cpus_on_a_simulated_npu() {
    let (package, kept) = (flavoured_package(Flavour::F16), tempfile::tempdir().expect("made"));
    let by_cpu = good(open(&package, (Flavour::F16, &[]), kept.path()));
    let profiles = tempfile::tempdir().expect("made");
    let options = options((Flavour::F16, &Stage::ALL), kept.path());
    let by_npu = good(Pipeline::open_with_profiles(&package, &options, profiles.path()));
    let request = Request { strength: Some(0.5), ..request(64, 2) };
    let made = image(good(by_cpu.generate(&self::request(64, 2), go_on)));
    let source = Source::new(made.clone());
    let [found, expected] = [&by_npu, &by_cpu].map(|by| good(by.edit(&request, &source, go_on)));
    let by: Vec<_> = found.report.stages.iter().map(|stage| stage.provider).collect();
    assert_eq!(by, [Provider::Qnn; 5]);
    assert_eq!(print_proved("f16, 8 x 8", kept.path()), 5);
    let nodes: Vec<_> = found.report.stages.iter().map(|stage| stage.nodes.clone()).collect();
    let psnr = psnr(&image(found), &image(expected));
    println!("f16, 8 x 8: an edit is {psnr:.1} dB from the CPU's");
    assert!(psnr >= 30.0, "{psnr}"); // a token that falls otherwise is a corner of it

    // The plug-in is there now, and the CPU's image is what it was.
    assert!(image(good(by_cpu.generate(&self::request(64, 2), go_on))) == made);
    drop(by_npu);
    for (stage, nodes) in Stage::ALL.iter().zip(&nodes) {
        let all = profile::of_stage(profiles.path(), stage.name());
        let by_npu: Vec<_> = all.iter().filter(|ran| ran.contains_key(QNN_NAME)).collect();
        assert_eq!(by_npu.len(), 2, "{stage}: its proof and the edit; others are the CPU's");
        assert!(by_npu.iter().all(|ran| ran.len() == 1), "{stage}: nobody else: {by_npu:?}");
        let nodes = nodes.as_ref().expect("ONNX Runtime tells");
        assert!(nodes.taken == nodes.all && nodes.left.is_empty(), "{stage}: {nodes}");
    }
}

/// Both flavours against f32 on the CPU: the decoder of an image's tokens and, where it is the NPU's,
/// its encoder. Of an image of `POCKETMUSE_PIXELS` a side the step at 24 states, too, which takes a
/// simulator half an hour at 128: docs/measured.md.
#[test]
#[ignore = "slow: brings QNN, simulates an NPU"]
fn stages_of_a_simulated_npu_are_like_those_of_f32() {
    let asked = env::var("POCKETMUSE_PIXELS").ok();
    let asked = asked.map(|pixels| pixels.parse().expect("a number of pixels"));
    let request = request(asked.unwrap_or(64), 6);
    let kept = tempfile::tempdir().expect("made");
    let f32 = f32_by_cpu(kept.path());
    let stages: [(_, &[Stage], _, _); 2] = [
        (Flavour::F16, &Stage::ALL, 65.0, [0.006, 0.99]),
        (Flavour::Qdq, &MAKERS, 50.0, [0.05, 0.96]),
    ];
    for (flavour, stages, least, [most, codes]) in stages {
        println!("{flavour} by qnn against f32 by cpu:");
        let by_npu = good(open(&flavoured_package(flavour), (flavour, stages), kept.path()));
        let psnr = alike::decoders(&f32, &by_npu, &request);
        assert!(psnr >= least, "{flavour}: {psnr} dB");
        if stages.contains(&Stage::Encoder) {
            let share = alike::encoders(&f32, &by_npu, &request);
            assert!(share >= 0.985, "{flavour}: {share}");
        }
        if asked.is_some() {
            let steps = alike::steps(&f32, &by_npu, &request);
            assert!(steps.worst <= most && steps.codes >= codes, "{flavour}: {steps:?}");
        }
    }
}

#[test]
#[ignore = "slow: brings QNN, simulates an NPU"]
fn an_image_of_qdq_is_near_the_cpus_on_a_simulated_npu() {
    let (package, kept) = (flavoured_package(Flavour::Qdq), tempfile::tempdir().expect("made"));
    let by_npu = good(open(&package, (Flavour::Qdq, &MAKERS), kept.path()));
    let by_cpu = good(open(&package, (Flavour::Qdq, &[]), kept.path()));
    let (request, mut state) = (request(64, 6), None);
    let found = good(by_npu.generate(&request, |step| {
        if step.step == 4 {
            state = Some(by_npu.state(step));
        }
        ControlFlow::Continue(())
    }));
    let expected = good(by_cpu.generate(&request, go_on));
    let by: Vec<_> = found.report.stages.iter().map(|stage| stage.provider).collect();
    assert_eq!(by, [Provider::Qnn; 4]);
    assert_eq!(print_proved("qdq, 8 x 8", kept.path()), 4);
    let (found, state) = (image(found), state.expect("a step"));
    let psnr = psnr(&found, &image(expected));
    println!("qdq, 8 x 8: an image is {psnr:.1} dB from the CPU's");
    assert!(psnr >= 15.0, "{psnr}"); // six steps: tokens that fall otherwise change others

    // What it began nobody else ends, and `auto`, which would take the CPU, has it do so.
    let error = by_cpu.resume(&state, None, go_on).expect_err("another began");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert_eq!(error.detail(), "expected text_encoder by qnn, as the job began, found cpu");
    let mut options = options((Flavour::Qdq, &MAKERS), kept.path());
    options.providers.stages.values_mut().for_each(|provider| *provider = Provider::Auto);
    let by_auto = good(Pipeline::open_with(&package, &options));
    assert!(image(good(by_auto.resume(&state, None, go_on))) == found);
}

/// The trained size, as the doctor proves it: one call of each stage but the encoder.
#[test]
#[ignore = "slow: brings QNN, simulates an NPU"]
fn stages_at_the_trained_size_are_proved_on_a_simulated_npu() {
    good(pocketmuse_cli::runtime::start(false));
    for flavour in [Flavour::Qdq, Flavour::F16] {
        let (package, kept) = (flavoured_package(flavour), tempfile::tempdir().expect("made"));
        let options = options((flavour, &MAKERS), kept.path());
        let doctor = Doctor { options, again: false };
        let manifest = Manifest::read(&package).expect("a manifest");
        let open = |options: &Options| Pipeline::open_with(&package, options);
        let report = good(doctor.examine(Some(&manifest), open, |_| ()));
        let found: Vec<_> = report.stages.iter().map(|stage| stage.is_good()).collect();
        assert_eq!(found, [true; 4], "{flavour}: {:?}", report.stages);
        assert_eq!(print_proved(&format!("{flavour}, 16 x 16"), kept.path()), 4);
    }
}

/// A copy of the package of `flavour` whose graph of `stage` is changed, the manifest accordingly.
fn changed(
    (flavour, stage): (Flavour, Stage),
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let package = root.path().join("package");
    link_folder(&flavoured_package(flavour), &package);
    let mut manifest = Manifest::read(&package).expect("a manifest");
    let stages = &mut manifest.flavours.get_mut(&flavour).expect("it has it").stages;
    let graph = &mut stages.get_mut(&stage).expect("a stage").graph;
    let path = graph.locate(&package);
    let changed = change(fs::read(&path).expect("a graph"));
    fs::write(&path, changed).expect("written");
    *graph = FileEntry::describe(&package, &graph.path).expect("described");
    fs::write(package.join(MANIFEST), manifest.to_json()).expect("written");
    (root, package)
}

/// The error of an image of `side` pixels, none of whose steps may run.
fn refused(package: &Path, which: (Flavour, &[Stage]), side: u32) -> Error {
    let kept = tempfile::tempdir().expect("made");
    let pipeline = good(open(package, which, kept.path()));
    let made = pipeline.generate(&request(side, 1), |_| panic!("a step runs"));
    let error = made.expect_err("it is wrong");
    println!("{error}");
    assert_eq!((error.kind(), error.provider()), (ErrorKind::ProviderFailed, Some("qnn")));
    error
}

/// Norms of groups as f32 has them, by sums of squares. What is left is what the rules of the exporter
/// say.
#[test]
#[ignore = "slow: brings QNN, simulates an NPU"]
fn what_an_npu_does_not_take_whole_is_refused() {
    let package = flavoured_package(Flavour::F32);
    let error = refused(&package, (Flavour::F32, &[Stage::Decoder]), 64);
    assert!(error.to_string().starts_with("decoder: qnn does not take the whole graph"), "{error}");

    // Where the CPU may have the rest, the report says what that is, and the profile the same.
    let [kept, profiles] = [(); 2].map(|()| tempfile::tempdir().expect("made"));
    let mut options = options((Flavour::F32, &Stage::ALL), kept.path());
    options.providers.allow_fallback = true;
    let opened = Pipeline::open_with_profiles(&package, &options, profiles.path());
    let pipeline = unproved(good(opened)); // in halves it is too far from f32
    let request = Request { strength: Some(0.5), ..request(32, 2) };
    let source = Source::new(RgbImage::new(32, 32));
    let made = good(pipeline.edit(&request, &source, go_on));
    drop(pipeline);
    left::check(Provider::Qnn, &made.report.stages).unwrap_or_else(|error| panic!("{error}"));
    let decoder = made.report.stages.iter().find(|stage| stage.name == "decoder").expect("it ran");
    let nodes = decoder.nodes.as_ref().expect("ONNX Runtime tells");
    println!("decoder: {nodes}");
    assert!(error.to_string().contains(&format!("it takes {nodes}")), "{error}");
    let left: usize = nodes.left.values().sum();
    assert!(left > 0 && nodes.taken > 0 && nodes.taken + left == nodes.all, "{nodes}");
    let ran = profile::of_stage(profiles.path(), "decoder");
    assert_eq!(ran.len(), 1);
    println!("decoder, by the CPU as the profile says: {:?}", ran[0][profile::CPU]);
    assert_eq!(ran[0].keys().collect::<Vec<_>>(), [profile::CPU, QNN_NAME]);
    assert_eq!(ran[0][profile::CPU], nodes.left);
}

/// The fields of a message, in their order.
fn fields(message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    for_each(message, |number, field| {
        fields.push((number, field));
        Some(())
    })
    .expect("a message");
    fields
}

/// A message with those of its parts replaced of which `change` makes another.
fn with(message: &[u8], part: u64, mut change: impl FnMut(&[u8]) -> Option<Message>) -> Message {
    let mut made = Message::default();
    for (number, field) in fields(message) {
        match field {
            Field::Number(value) => made.number(number, value),
            Field::Bytes(bytes) if number == part => match change(bytes) {
                Some(other) => made.message(number, &other),
                None => made.bytes(number, bytes),
            },
            Field::Bytes(bytes) => made.bytes(number, bytes),
            Field::Fixed => panic!("no graph has one"),
        };
    }
    made
}

fn texts(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter_map(move |(number, found)| match found {
        Field::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

/// The first product of the step graph with 4 axes instead of 3: Reshape, Transpose, Reshape and
/// MatMul, which the simulator computes wrongly for 4 x 4 tokens and rightly for 8 x 8.
fn of_four_axes(model: Vec<u8>) -> Vec<u8> {
    let graph = texts(&model, onnx::model::GRAPH).next().expect("a graph").to_vec();
    let nodes: Vec<_> = texts(&graph, onnx::graph::NODE).collect();
    let is = |node: &[u8], operator: &[u8]| {
        texts(node, onnx::node::OP_TYPE).any(|found| found == operator)
    };
    let product = nodes.iter().find(|node| is(node, b"MatMul")).expect("a product");
    let left = texts(product, onnx::node::INPUT).next().expect("two").to_vec();
    let values: Vec<u8> = [1i64, 2, 2, 512].into_iter().flat_map(i64::to_le_bytes).collect();
    let mut shape = Message::default();
    shape.number(onnx::tensor::DIMS, 4).number(onnx::tensor::DATA_TYPE, 7);
    shape.text(onnx::tensor::NAME, "four axes").bytes(onnx::tensor::RAW_DATA, &values);
    let mut changed = with(&graph, onnx::graph::NODE, |node| {
        let makes_left = texts(node, onnx::node::OUTPUT).any(|output| output == left);
        if !makes_left {
            return None;
        }
        assert!(is(node, b"Reshape"));
        let value = texts(node, onnx::node::INPUT).next().expect("a value").to_vec();
        let mut reshape = Message::default();
        reshape.bytes(onnx::node::INPUT, &value).text(onnx::node::INPUT, "four axes");
        reshape.bytes(onnx::node::OUTPUT, &left).text(onnx::node::OP_TYPE, "Reshape");
        Some(reshape)
    });
    changed.message(onnx::graph::INITIALIZER, &shape);
    with(&model, onnx::model::GRAPH, |_| Some(std::mem::take(&mut changed))).into_bytes()
}

#[test]
#[ignore = "slow: brings QNN, simulates an NPU"]
fn four_nodes_that_an_npu_computes_wrongly_at_one_size_are_found() {
    let (_root, package) = changed((Flavour::F16, Stage::Step), of_four_axes);
    let error = refused(&package, (Flavour::F16, &[Stage::Step]), 32);
    let expected = "step: qnn computes another logits: expected a relative error of at most 0.05";
    assert!(error.to_string().starts_with(expected), "{error}");
}

/// The CPU and the NPU make the same of them, and both are wrong.
#[test]
#[ignore = "slow: brings QNN, simulates an NPU, measures ranges"]
fn ranges_of_a_fiftieth_are_found() {
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let shrunk = |draft: &Path| {
        let mut measured = pocketmuse_cli::runtime::calibrate(draft, &[])?;
        let manifest = Manifest::read(draft)?;
        for (stage, ranges) in &mut measured.activations {
            let mut small = Ranges::default();
            let taps = manifest.flavours[&Flavour::Qdq].stages[stage].taps.keys();
            for name in taps.filter_map(|name| name.strip_prefix(pocketmuse_export::RANGE)) {
                let [least, most] = ranges.whole(name, 1)?;
                small.widen(name, &[least / 50.0], &[most / 50.0])?;
            }
            *ranges = small;
        }
        Ok(measured)
    };
    let root = tempfile::tempdir().expect("a folder");
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-world");
    let options = pocketmuse_export::Options { flavours: vec![Flavour::Qdq], ..Default::default() };
    let (package, go_on) = (root.path().join("package"), |_: &pocketmuse_export::Progress<'_>| {
        ControlFlow::Continue(())
    });
    pocketmuse_export::export(&checkpoint, &package, &options, shrunk, go_on)
        .unwrap_or_else(|error| panic!("{error}"));
    for stage in [Stage::Step, Stage::Decoder] {
        let error = refused(&package, (Flavour::Qdq, &[stage]), 64);
        let expected = format!("{stage}: qnn computes another ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    // If nobody looked, the image would be another.
    let kept = tempfile::tempdir().expect("made");
    let made = |package: &Path, stages: &[Stage]| {
        let pipeline = unproved(good(open(package, (Flavour::Qdq, stages), kept.path())));
        image(good(pipeline.generate(&request(64, 2), |_| ControlFlow::Continue(()))))
    };
    let wrong = made(&package, &[Stage::Decoder]);
    let right = made(&flavoured_package(Flavour::Qdq), &[]);
    let psnr = psnr(&wrong, &right);
    println!("ranges of a fiftieth, not proved: {psnr:.1} dB");
    assert!(psnr < 20.0, "{psnr} dB");
}
