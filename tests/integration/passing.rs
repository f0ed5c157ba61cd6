//! Weights that pass through memory are the weights: results are the same to the bit.

use pocketmuse::{
    Flavour, Loading, Manifest, Runtime, Stage, Weights,
    internals::{Input, Session, Settings},
};

use crate::support::{self, flavoured_package};

/// Less than any stage has, so that pages leave while they are read.
const WINDOW_BYTES: u64 = 64 << 10;

/// What the graph of `stage` makes of some tokens, whose weights are held as `weights` says. Three
/// runs, as bits.
fn made(flavour: Flavour, stage: Stage, weights: Weights) -> Vec<Vec<u32>> {
    let package = flavoured_package(flavour);
    let manifest = Manifest::read(&package).expect("a package");
    let entry = &manifest.flavours[&flavour].stages[&stage];
    let settings = Settings::new(2, Loading { weights, ..Loading::of(stage) });
    let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
    let mut session = Session::load(runtime, &package, entry, settings).expect("a graph");
    let shape: &[usize] = match stage {
        Stage::TextEncoder => &[1, manifest.tokenizer.max_tokens as usize],
        _ => &[1, 8, 8],
    };
    let count = shape.iter().product::<usize>() as i64;
    let input = entry.inputs[0].name.as_str();
    let mut run = |first: i64| {
        let tokens: Vec<i64> = (first..first + count).map(|token| token % 200).collect();
        let outputs = session.run(&[(input, Input::I64(shape, &tokens))]).expect("it runs");
        let values = outputs.iter().flat_map(|output| output.as_f32().expect("floats").to_vec());
        values.map(f32::to_bits).collect()
    };
    [0, 7, 0].map(&mut run).into()
}

#[test]
fn what_passes_through_memory_computes_the_same() {
    support::runtime();
    let passing = Weights::Passing { window_bytes: WINDOW_BYTES };
    let graphs = [
        (Flavour::F32, Stage::TextEncoder),
        (Flavour::F32, Stage::Decoder),
        (Flavour::Int8, Stage::TextEncoder),
        (Flavour::Int8, Stage::Decoder),
        (Flavour::Int4, Stage::TextEncoder),
    ];
    for (flavour, stage) in graphs {
        let mapped = made(flavour, stage, Weights::Mapped);
        assert_eq!(mapped[0], mapped[2], "{flavour} {stage}");
        assert_ne!(mapped[0], mapped[1], "{flavour} {stage}");
        assert!(made(flavour, stage, passing) == mapped, "{flavour} {stage}");
    }
}

/// How this process has the file mapped: the kind of each mapping, as `/proc` writes it.
#[cfg(target_os = "linux")]
fn mappings(file: &std::path::Path) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let name = file.to_str().expect("UTF-8");
    let ours = maps.lines().filter(|line| line.ends_with(name));
    ours.map(|line| line.split(' ').nth(1).expect("a kind").to_owned()).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn onnx_runtime_reads_our_mapping_alone_and_it_ends_with_the_session() {
    use pocketmuse_package::{FileEntry, StageEntry};

    support::runtime();
    for (flavour, stage) in [(Flavour::F32, Stage::TextEncoder), (Flavour::Int8, Stage::Decoder)] {
        let package = flavoured_package(flavour);
        let manifest = Manifest::read(&package).expect("a package");
        let entry = &manifest.flavours[&flavour].stages[&stage];
        let folder = tempfile::tempdir().expect("a folder");
        let copied = |file: &FileEntry| {
            let path = folder.path().join(&file.path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::copy(file.locate(&package), &path).expect("copied");
            path.canonicalize().expect("there")
        };
        let StageEntry { graph, weights, .. } = entry;
        copied(graph);
        let weights_file = copied(weights.as_ref().expect("weights"));
        let load = |weights| {
            let settings = Settings::new(1, Loading { weights, ..Loading::of(stage) });
            let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
            Session::load(runtime, folder.path(), entry, settings).expect("a graph")
        };
        let mapped = load(Weights::Mapped);
        let kinds = mappings(&weights_file);
        assert!(kinds.len() > 1 && kinds.iter().all(|kind| kind.ends_with('p')), "{kinds:?}");
        drop(mapped);
        assert_eq!(mappings(&weights_file), [""; 0]);
        let passing = load(Weights::Passing { window_bytes: WINDOW_BYTES });
        assert_eq!(mappings(&weights_file), ["r--s"], "{flavour} {stage}");
        drop(passing);
        assert_eq!(mappings(&weights_file), [""; 0], "who watched them is gone, too");
    }
}
