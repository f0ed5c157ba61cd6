//! Graphs with operators of our own against those as they were exported: the decoder of integers, and
//! the step.

use std::{collections::BTreeMap, fs, path::Path};

use pocketmuse::{
    Flavour, Intermediates, Loading, Manifest, Runtime, Stage, Weights,
    internals::{Form, Input, Session, Settings},
};

use pocketmuse_package::{Dim, Dtype, FileEntry, StageEntry, onnx, wire::Message};

use crate::{
    kernels::count,
    likeness::psnr,
    support::{self, flavoured_package, link_folder, logged},
};

/// Our own operators in a decoder.
const OWN: [&str; 5] = ["LastRows", "Lookup", "LookupFloats", "ScaledAddition", "Statistics"];

/// Those in a step graph.
const OF_STEP: [&str; 3] = ["GatedGelu", "ModulatedLayerNorm", "ModulatedRmsNorm"];

/// The decoder of integers of the package at `root`, with operators of our own or as it was
/// exported. What ONNX Runtime makes of it is saved in `saved`.
fn decoder(root: &Path, own_operators: bool, saved: &Path) -> Session {
    let plain = Settings::new(2, Loading::of(Stage::Decoder));
    load(root, Settings { own_operators, form: Form::Saved(saved), ..plain })
}

fn load(root: &Path, settings: Settings<'_>) -> Session {
    let entry = entry(root);
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    Session::load(runtime, root, &entry, settings).expect("a graph")
}

fn entry(root: &Path) -> StageEntry {
    let manifest = Manifest::read(root).expect("a package");
    let graph = manifest.flavours[&Flavour::Int8].stages[&Stage::Decoder].clone();
    StageEntry { graph: FileEntry::describe(root, &graph.graph.path).expect("there"), ..graph }
}

/// Both kinds of decoder, and which operators each has.
fn both(root: &Path) -> [(Session, BTreeMap<&'static str, usize>); 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("graph.onnx");
    [false, true].map(|own| {
        let session = decoder(root, own, &saved);
        let model = fs::read(&saved).expect("saved");
        (session, count(&model, &[&OWN[..], &["QLinearConv", "Pad"]].concat()))
    })
}

fn decoded(session: &mut Session, [height, width]: [usize; 2], seed: i64) -> Vec<f32> {
    let token = |at: i64| (at * 7919 + seed * 104_729).rem_euclid(200);
    let tokens: Vec<i64> = (0..(height * width) as i64).map(token).collect();
    let pixels = session.run(&[("tokens", Input::I64(&[1, height, width], &tokens))]);
    pixels.expect("pixels")[0].as_f32().expect("floats").to_vec()
}

/// Sums of pixels are whole numbers below 2^24 here, so ONNX Runtime's own are exact, too: tiles
/// have at most 8 rows, a square of a unit is at most 2^14, and 128 pixels lie in a row.
#[test]
fn an_image_of_128_pixels_is_the_same_to_the_bit() {
    support::runtime();
    let [(mut exported, _), (mut own, _)] = both(&flavoured_package(Flavour::Int8));
    for (seed, grid) in [(0, [16, 16]), (1, [5, 16]), (2, [1, 1]), (3, [24, 3])] {
        let [expected, found] = [&mut exported, &mut own].map(|with| decoded(with, grid, seed));
        assert!(found == expected, "{grid:?}");
    }
}

/// How like the images are that both make, in dB.
///
/// Where images are wider, ONNX Runtime's sums of squares are rounded with every pixel, ours once.
/// So a norm differs by some millionths, and a byte that is made of it by one unit where it was
/// that near to half a unit. The bound is far from that, and far from an operator that is wrong (10
/// to 20 dB). In all that were tried every bit was the same.
const LEAST_PSNR: f64 = 60.0;

#[test]
fn a_wide_image_is_the_same_but_for_rounding() {
    support::runtime();
    let [(mut exported, _), (mut own, _)] = both(&flavoured_package(Flavour::Int8));
    for (seed, grid) in [(0, [8, 40]), (1, [32, 32])] {
        let [expected, found] = [&mut exported, &mut own].map(|with| decoded(with, grid, seed));
        let psnr = psnr(&found, &expected);
        println!("{grid:?}: {psnr:.1} dB");
        assert!(psnr >= LEAST_PSNR, "{grid:?}: {psnr} dB");
    }
}

/// An image of the last levels is as large as those whose rows leave memory once they are read, and
/// kernels are packed that are small: however it is loaded, an image is the same.
#[test]
fn rows_that_left_are_not_missed_and_packed_kernels_make_the_same() {
    support::runtime();
    let root = flavoured_package(Flavour::Int8);
    let plain = Settings::new(2, Loading::of(Stage::Decoder));
    let mut kept = load(&root, Settings { own_operators: true, ..plain });
    let expected = decoded(&mut kept, [40, 64], 0);
    for weights in [Weights::Packed, Weights::Mapped, Weights::Passing { window_bytes: 1 << 20 }] {
        let loading = Loading { intermediates: Intermediates::Apart, weights };
        let mut apart = load(&root, Settings { own_operators: true, loading, ..plain });
        for round in 0..2 {
            let found = decoded(&mut apart, [40, 64], 0);
            assert!(found == expected, "{weights}, run {round}");
        }
    }
}

#[test]
fn operators_of_our_own_stand_for_others() {
    support::runtime();
    let [(_, exported), (_, own)] = both(&flavoured_package(Flavour::Int8));
    println!("as exported {exported:?}, with our own {own:?}");
    for name in OWN {
        assert_eq!(exported[name], 0, "{name}");
        assert!(own[name] > 0, "{name}");
    }
    assert_eq!(own["QLinearConv"], exported["QLinearConv"]);
    assert!(own["Pad"] < exported["Pad"]);
}

/// A graph that has a value of a name that our own operators need cannot have them.
#[test]
fn a_graph_that_cannot_have_them_stays_as_it_was_exported() {
    support::runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("package");
    link_folder(&flavoured_package(Flavour::Int8), &copy);
    let [mut node, mut more, mut model] = [(); 3].map(|()| Message::default());
    node.text(onnx::node::INPUT, "tokens").text(onnx::node::OUTPUT, "own.all_bytes");
    more.message(onnx::graph::NODE, node.text(onnx::node::OP_TYPE, "Identity"));
    model.message(onnx::model::GRAPH, &more); // which adds to the graph that is there
    let file = entry(&copy).graph.locate(&copy);
    let model = [fs::read(&file).expect("a graph"), model.into_bytes()].concat();
    fs::write(&file, model).expect("written");
    let mut loaded = None;
    let said = logged(|| loaded = Some(both(&copy)));
    assert!(said.contains("decoder.onnx: it stays as it was exported, which is slower"), "{said}");
    let [(mut exported, _), (mut own, operators)] = loaded.expect("both");
    assert!(OWN.iter().all(|name| operators[name] == 0), "{operators:?}");
    let [expected, found] = [&mut exported, &mut own].map(|with| decoded(with, [4, 40], 0));
    assert!(found == expected);
}

/// A value that is drawn.
enum Drawn {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// What a step graph makes of numbers that are drawn from nothing but their place, for two branches
/// and 8 x 8 tokens.
fn logits(session: &mut Session, entry: &StageEntry) -> Vec<f32> {
    let extent = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Named(name) if name == "branches" => 2,
        Dim::Named(name) if name == "positions" => 64,
        Dim::Named(_) => 8,
    };
    let drawn: Vec<_> = (0u64..)
        .zip(&entry.inputs)
        .map(|(number, spec)| {
            let shape: Vec<usize> = spec.shape.0.iter().map(extent).collect();
            let places = 0..shape.iter().product::<usize>() as u64;
            let numbers = places.map(|at| ((at + number * 7919) * 2_654_435_761) >> 16);
            let drawn = match (spec.dtype, spec.name.as_str()) {
                (_, "positions") => Drawn::Integers((0..64).collect()),
                (Dtype::I64, _) => Drawn::Integers(numbers.map(|x| (x % 200) as i64).collect()),
                _ => Drawn::Floats(numbers.map(|x| (x % 2000) as f32 / 1e3 - 1.0).collect()),
            };
            (spec.name.as_str(), shape, drawn)
        })
        .collect();
    let given = drawn.iter().map(|(name, shape, drawn)| match drawn {
        Drawn::Floats(values) => (*name, Input::F32(shape, values)),
        Drawn::Integers(values) => (*name, Input::I64(shape, values)),
    });
    let outputs = session.run(&given.collect::<Vec<_>>()).expect("logits");
    outputs[0].as_f32().expect("floats").to_vec()
}

/// The largest difference of logits, in parts of the largest logit. Only the order in which numbers
/// are added differs, and the error function by 5e-7: where nothing is rounded to integers, as in
/// the graph of floats here, nothing becomes more than that through the layers.
const LARGEST_DIFFERENCE: f32 = 1e-5;

#[test]
fn a_step_of_floats_is_the_same_but_for_rounding() {
    support::runtime();
    let root = flavoured_package(Flavour::F32);
    let manifest = Manifest::read(&root).expect("a package");
    let entry = &manifest.flavours[&Flavour::F32].stages[&Stage::Step];
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("graph.onnx");
    let [exported, own] = [false, true].map(|own_operators| {
        let plain = Settings::new(2, Loading::of(Stage::Step));
        let settings = Settings { own_operators, form: Form::Saved(&saved), ..plain };
        let mut session = Session::load(runtime, &root, entry, settings).expect("a graph");
        let operators = count(&fs::read(&saved).expect("saved"), &OF_STEP);
        assert!(operators.values().all(|found| (*found > 0) == own_operators), "{operators:?}");
        logits(&mut session, entry)
    });
    let largest = exported.iter().fold(0f32, |most, x| most.max(x.abs()));
    let apart = own.iter().zip(&exported).map(|(a, b)| (a - b).abs() / largest);
    let apart = apart.fold(0f32, f32::max);
    println!("logits of a step differ by {apart:.1e}");
    assert!(apart <= LARGEST_DIFFERENCE && largest > 0.0, "{apart}");
}
