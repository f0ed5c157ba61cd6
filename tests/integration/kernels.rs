//! What ONNX Runtime makes of the int8 graphs: the fused integer kernels run, and no weight becomes
//! f32 again. No image is made: operators are counted, and integer sums are exact or wrong.

use std::{collections::BTreeMap, fs, path::Path};

use pocketmuse::{
    Flavour, Loading, Manifest, Runtime, Stage, Weights,
    internals::{Form, Input, Session, Settings},
};
use pocketmuse_measure::graph::Graph;
use pocketmuse_package::{Dtype, StageEntry};

use pocketmuse_export::quantize::{columns, pair_safe_scales};

use crate::support::{self, flavoured_package};

/// `NodeProto.op_type` on the wire: field 4, a text.
const OP_TYPE: u8 = 0x22;

/// The graph of `stage` as ONNX Runtime runs it, with the constants that it changed.
fn optimized(package: &Path, entry: &StageEntry, stage: Stage) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("graph.onnx");
    let form = Form::Saved(&saved);
    // Packing comes later, and is slow.
    let loading = Loading { weights: Weights::Mapped, ..Loading::of(stage) };
    let settings = Settings { form, ..Settings::new(1, loading) };
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    drop(Session::load(runtime, package, entry, settings).expect("a graph"));
    fs::read(saved).expect("the optimized graph")
}

/// How many nodes run each of `operators`.
pub(crate) fn count<'a>(model: &[u8], operators: &[&'a str]) -> BTreeMap<&'a str, usize> {
    let occurrences = |operator: &&'a str| {
        let field = [&[OP_TYPE, operator.len() as u8], operator.as_bytes()].concat();
        (*operator, model.windows(field.len()).filter(|window| *window == field).count())
    };
    operators.iter().map(occurrences).collect()
}

#[test]
fn every_linear_layer_runs_the_fused_integer_kernel() {
    support::runtime();
    let package = flavoured_package(Flavour::Int8);
    let manifest = Manifest::read(&package).expect("a package");
    for stage in [Stage::TextEncoder, Stage::Step] {
        let entry = &manifest.flavours[&Flavour::Int8].stages[&stage];
        let written = fs::read(entry.graph.locate(&package)).expect("a graph");
        let layers = count(&written, &["MatMulInteger"])["MatMulInteger"];
        let model = optimized(&package, entry, stage);
        let kernels = [
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
            "MatMulInteger",
            "DynamicQuantizeLinear",
        ];
        let found = count(&model, &kernels);
        println!("{stage}: {layers} linear layers, run as {found:?}");
        assert!(layers > 0, "{stage}");
        assert_eq!(
            found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"],
            layers,
            "{stage}: all are fused"
        );
        assert_eq!(found["MatMulInteger"], 0, "{stage}: none is left alone");
        assert_no_weight_grew(entry, &model, stage);
    }
}

fn assert_no_weight_grew(entry: &StageEntry, optimized: &[u8], what: impl std::fmt::Display) {
    let weights = entry.weights.as_ref().expect("weights").bytes as f64;
    let growth = (weights + optimized.len() as f64) / (weights + entry.graph.bytes as f64);
    // A weight of 8 bits that became f32 is in the graph itself, four times as large; names and
    // scales are hundredths.
    assert!(growth < 1.1, "{what}: {growth:.2} times as large when optimized: a weight became f32");
}

/// Every operator of `kernel` in the graph as it is written is one when it is optimized, and
/// nothing grew into f32.
fn keeps(flavour: Flavour, stage: Stage, kernel: &str) {
    let package = flavoured_package(flavour);
    let manifest = Manifest::read(&package).expect("a package");
    let entry = &manifest.flavours[&flavour].stages[&stage];
    let written = fs::read(entry.graph.locate(&package)).expect("a graph");
    let model = optimized(&package, entry, stage);
    let [before, after] = [&written, &model].map(|model| count(model, &[kernel])[kernel]);
    println!("{flavour} {stage}: {before} {kernel}, run as {after}");
    assert!(
        before > 0 && before == after,
        "{flavour} {stage}: {before} {kernel}, {after} of them run"
    );
    assert_no_weight_grew(entry, &model, format!("{flavour} {stage}"));
}

#[test]
fn every_convolution_of_the_decoder_but_the_last_runs_on_integers() {
    support::runtime();
    keeps(Flavour::Int8, Stage::Decoder, "QLinearConv");
    let package = flavoured_package(Flavour::Int8);
    let manifest = Manifest::read(&package).expect("a package");
    let graph = manifest.flavours[&Flavour::Int8].stages[&Stage::Decoder].graph.locate(&package);
    assert_eq!(count(&fs::read(graph).expect("a graph"), &["Conv"])["Conv"], 1);
}

#[test]
fn every_linear_layer_of_four_bits_stays_so() {
    support::runtime();
    keeps(Flavour::Int8, Stage::Prologue, "MatMulNBits");
    for stage in [Stage::TextEncoder, Stage::Prologue, Stage::Step] {
        keeps(Flavour::Int4, stage, "MatMulNBits");
    }
}

const ROWS: usize = 64;
const INNER: usize = 256;
const COLUMNS: usize = 32;

/// One `MatMulInteger` of u8 activations with constant s8 weights. They come as floats and go as
/// floats, which hold all of these integers exactly.
fn product(weight: &[i8]) -> Session {
    let weight: Vec<u8> = weight.iter().map(|value| value.cast_unsigned()).collect();
    let mut graph = Graph::default();
    graph
        .input("a", [ROWS, INNER])
        .cast("a", Dtype::U8, "u8")
        .constant("b", Dtype::I8, [INNER, COLUMNS], &weight)
        .node("MatMulInteger", &["u8", "b"], &["i32"])
        .cast("i32", Dtype::F32, "c")
        .output("c", [ROWS, COLUMNS]);
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    let settings = Settings::new(1, Loading::of(Stage::Step));
    Session::of_model(runtime, "a product", &graph.into_model(), settings).expect("a session")
}

/// How many of the sums ONNX Runtime gets wrong on this processor.
fn wrong_sums(weight: &[i8], activations: &[u8]) -> usize {
    let mut session = product(weight);
    let floats: Vec<f32> = activations.iter().map(|value| f32::from(*value)).collect();
    let found = session.run(&[("a", Input::F32(&[ROWS, INNER], &floats))]).expect("sums");
    let found = found[0].shaped(&[ROWS, COLUMNS]).expect("floats");
    let exact = |row: usize, column: usize| -> i32 {
        (0..INNER)
            .map(|k| {
                i32::from(activations[row * INNER + k]) * i32::from(weight[k * COLUMNS + column])
            })
            .sum()
    };
    let is_wrong = |(at, sum): &(usize, &f32)| **sum != exact(at / COLUMNS, at % COLUMNS) as f32;
    found.iter().enumerate().filter(is_wrong).count()
}

/// x86 before VNNI clips sums of pairs of products; the weights are scaled so that no pair can be
/// clipped.
#[test]
fn sums_are_exact_on_this_processor_even_at_the_extremes() {
    support::runtime();
    let wave = |k: usize| (k as f32 * 0.7).sin();
    type Weight = fn(usize) -> f32;
    let kinds: [(&str, Weight); 4] = [
        ("all alike", |_| 1.0),
        ("all negative", |_| -3.0),
        ("alternating pairs", |at| if (at / COLUMNS / 2).is_multiple_of(2) { 1.0 } else { -1.0 }),
        ("alternating", |at| if (at / COLUMNS).is_multiple_of(2) { 1.0 } else { -1.0 }),
    ];
    let activations =
        [vec![255u8; ROWS * INNER], (0..ROWS * INNER).map(|at| (at * 37 % 256) as u8).collect()];
    let waves: Vec<f32> = (0..INNER * COLUMNS).map(wave).collect();
    let weights =
        kinds.iter().map(|(name, of)| (*name, (0..INNER * COLUMNS).map(of).collect::<Vec<_>>()));
    for (name, weight) in weights.chain([("waves", waves)]) {
        let bytes = columns(&weight, &pair_safe_scales(&weight, COLUMNS));
        let bytes: Vec<i8> = bytes.into_iter().map(u8::cast_signed).collect();
        for activations in &activations {
            assert_eq!(wrong_sums(&bytes, activations), 0, "{name}");
        }
    }
    let whole_range = vec![127i8; INNER * COLUMNS];
    println!(
        "with weights of the whole range, {} of {} sums are wrong here",
        wrong_sums(&whole_range, &activations[0]),
        ROWS * COLUMNS
    );
}
