//! What ONNX Runtime makes of the int8 graphs: the fused integer kernels run, and no weight becomes
//! f32 again. No image is made: operators are counted, and integer sums are exact or wrong.

use std::{collections::BTreeMap, fs, path::Path};

use ort::{
    editor::{Graph, Model, Node, ONNX_DOMAIN, Opset},
    memory::Allocator,
    session::Session,
    value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, TensorRef, ValueType},
};
use pocketmuse::{Flavour, Manifest, Runtime, Stage};
use pocketmuse_package::StageEntry;

use pocketmuse_export::quantize::{columns, pair_safe_scales};

use crate::support::{self, flavoured_package};

/// `NodeProto.op_type` on the wire: field 4, a text.
const OP_TYPE: u8 = 0x22;

/// The graph as ONNX Runtime runs it, constants inside.
fn optimized(graph: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("optimized.onnx");
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    let builder = Session::builder(runtime.environment()).expect("a session");
    let mut builder = builder.with_optimized_model_path(&target).expect("a path");
    builder.commit_from_file(graph).expect("a graph");
    fs::read(target).expect("the optimized graph")
}

/// How many nodes run each of `operators`.
fn count<'a>(model: &[u8], operators: &[&'a str]) -> BTreeMap<&'a str, usize> {
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
        let model = optimized(&entry.graph.locate(&package));
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
    let growth = optimized.len() as f64 / (weights + entry.graph.bytes as f64);
    assert!(growth < 1.1, "{what}: {growth:.2} times as large when optimized: a weight became f32");
}

/// Every operator of `kernel` in the graph as it is written is one when it is optimized, and
/// nothing grew into f32.
fn keeps(flavour: Flavour, stage: Stage, kernel: &str) {
    let package = flavoured_package(flavour);
    let manifest = Manifest::read(&package).expect("a package");
    let entry = &manifest.flavours[&flavour].stages[&stage];
    let written = fs::read(entry.graph.locate(&package)).expect("a graph");
    let model = optimized(&entry.graph.locate(&package));
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

fn matrix(name: &str, ty: TensorElementType, extents: [usize; 2]) -> Outlet {
    let shape = Shape::new(extents.map(|extent| extent as i64));
    Outlet::new(
        name,
        ValueType::Tensor { ty, shape, dimension_symbols: SymbolicDimensions::empty(2) },
    )
}

/// One `MatMulInteger` of u8 activations with constant s8 weights.
fn product(weight: &[i8]) -> Session {
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    let mut graph = Graph::new().expect("a graph");
    graph.set_inputs([matrix("a", TensorElementType::Uint8, [ROWS, INNER])]).expect("an input");
    graph.set_outputs([matrix("c", TensorElementType::Int32, [ROWS, COLUMNS])]).expect("an output");
    let node =
        Node::new("MatMulInteger", ONNX_DOMAIN, "product", ["a", "b"], ["c"], []).expect("a node");
    graph.add_node(node).expect("a node");
    let mut constant =
        Tensor::<i8>::new(&Allocator::default(), [INNER as i64, COLUMNS as i64]).expect("memory");
    constant.extract_tensor_mut().1.copy_from_slice(weight);
    graph.add_initializer("b", constant, false).expect("a constant");
    let mut model = Model::new([Opset::new(ONNX_DOMAIN, 21).expect("an opset")]).expect("a model");
    model.set_graph(graph).expect("a graph");
    let builder = Session::builder(runtime.environment()).expect("a session");
    model.into_session(&builder).expect("a session")
}

/// How many of the sums ONNX Runtime gets wrong on this processor.
fn wrong_sums(weight: &[i8], activations: &[u8]) -> usize {
    let mut session = product(weight);
    let input = TensorRef::from_array_view(([ROWS, INNER], activations)).expect("activations");
    let found = session.run(ort::inputs!["a" => input]).expect("sums");
    let (_, found) = found["c"].try_extract_tensor::<i32>().expect("integers");
    let exact = |row: usize, column: usize| -> i32 {
        (0..INNER)
            .map(|k| {
                i32::from(activations[row * INNER + k]) * i32::from(weight[k * COLUMNS + column])
            })
            .sum()
    };
    found.iter().enumerate().filter(|(at, sum)| **sum != exact(at / COLUMNS, at % COLUMNS)).count()
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
