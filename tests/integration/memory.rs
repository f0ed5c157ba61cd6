//! The memory policy as a caller sees it: what stays loaded changes time and memory and never a
//! image, and a budget is kept or refused.

use std::{
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use pocketmuse::{
    Budget, ErrorKind, Flavour, Options, Output, Pipeline, Request, Source, prepared,
};

use crate::support::{self, flavoured_package, package};

const PLENTY: Budget = Budget::Bytes(8 << 30);

/// How long files that were just written may not be trusted: a file system's clock ticks every two
/// seconds, and other tests run beside this one.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(package: &Path, memory: Budget) -> Pipeline {
    support::open(package, Options { memory, ..Options::default() })
}

fn request(seed: u64) -> Request {
    let prompt = "a red lighthouse by the sea at sunset".to_owned();
    Request { prompt, seed, num_inference_steps: Some(3), ..Request::default() }
}

fn generate(pipeline: &Pipeline, request: &Request) -> Output {
    let output = pipeline.generate(request, |_| ControlFlow::Continue(()));
    output.unwrap_or_else(|error| panic!("{error}"))
}

/// The stages that were loaded.
fn loaded(output: &Output) -> Vec<&'static str> {
    let stages = output.report.stages.iter().filter(|stage| stage.load > Duration::ZERO);
    stages.map(|stage| stage.name).collect()
}

/// The smallest budget that serves `request`, as the error of a smaller one says.
pub(crate) fn smallest(package: &Path, request: &Request) -> Budget {
    let error = open(package, Budget::Bytes(1 << 20)).plan(request).expect_err("too small");
    assert_eq!(error.kind(), ErrorKind::NotEnoughMemory);
    let said = error.detail().strip_prefix("expected a budget of at least ").expect("the smallest");
    said.split_once(' ').expect("a size").0.parse().expect("as --memory reads it")
}

const ALL: [&str; 4] = ["text_encoder", "prologue", "step", "decoder"];

/// int8 cannot tip here: both images are made on one machine, by the same kernels.
#[test]
fn the_second_image_loads_nothing_and_is_the_same() {
    for flavour in [Flavour::F32, Flavour::Int8] {
        let (warm, cold) = (open(&flavoured_package(flavour), PLENTY), || {
            open(&flavoured_package(flavour), PLENTY)
        });
        let first = generate(&warm, &request(7));
        assert_eq!(loaded(&first), ALL);
        for request in
            [request(7), Request { prompt: "a green robot".to_owned(), ..request(8) }, request(7)]
        {
            let again = generate(&warm, &request);
            assert!(loaded(&again).is_empty(), "{:?}", again.report);
            assert_eq!(again.images, generate(&cold(), &request).images, "{flavour}");
        }
    }
}

#[test]
fn an_image_that_is_edited_again_is_encoded_once() {
    for budget in [PLENTY, Budget::Bytes(400 << 20)] {
        let (warm, cold) =
            (open(&package("tiny-world"), budget), || open(&package("tiny-world"), budget));
        let image = RgbImage::from_fn(64, 48, |x, y| Rgb([3 * x as u8, 5 * y as u8, 90]));
        let (other, whole) = (RgbImage::new(48, 64), Source::new(image));
        let part = whole.clone().with_box([0, 0, 32, 32]).expect("inside");
        let cases = [
            (&whole, 7, true),
            (&whole, 8, false),
            (&part, 7, false),
            (&Source::new(other), 7, true),
            (&whole, 7, true),
        ];
        for (source, seed, is_encoded) in cases {
            let edit = |pipeline: &Pipeline| {
                let output = pipeline.edit(&request(seed), source, |_| ControlFlow::Continue(()));
                output.unwrap_or_else(|error| panic!("{error}"))
            };
            let found = edit(&warm);
            assert_eq!(
                loaded(&found).contains(&"encoder"),
                is_encoded,
                "{budget:?}: {:?}",
                found.report
            );
            assert_eq!(found.images, edit(&cold()).images, "{budget:?}");
        }
    }
}

#[test]
fn a_small_budget_loads_every_stage_alone_and_makes_the_same_image() {
    let package = package("tiny-world");
    let small = open(&package, smallest(&package, &request(7)));
    let plan = small.plan(&request(7)).expect("it fits");
    assert!(plan.stages.iter().all(|stage| !stage.warm), "{plan}");
    let packed =
        plan.stages.iter().filter(|stage| stage.is_packed()).map(|stage| stage.stage.name());
    assert_eq!(
        packed.collect::<Vec<_>>(),
        ["decoder"],
        "convolutions are laid out anew in any case"
    );
    let passing = plan.stages.iter().filter(|stage| stage.window_bytes().is_some());
    let passing: Vec<_> = passing.map(|stage| stage.stage.name()).collect();
    let expected = if cfg!(target_os = "linux") { &["step"][..] } else { &[] };
    assert_eq!(passing, expected, "the largest weights, where they can leave: {plan}");
    let first = generate(&small, &request(7));
    assert_eq!(loaded(&first), ALL);
    assert_eq!(
        loaded(&generate(&small, &request(8))),
        ALL[1..],
        "the texts of the prompts are kept"
    );
    let plenty = open(&package, PLENTY);
    let plan = plenty.plan(&request(7)).expect("it fits");
    assert!(plan.stages.iter().all(|stage| stage.warm && stage.is_packed()), "{plan}");
    assert_eq!(generate(&plenty, &request(7)).images, first.images);
}

#[test]
fn more_memory_is_never_slower() {
    let package = package("tiny-world");
    let Budget::Bytes(smallest) = smallest(&package, &request(7)) else { panic!("a size") };
    let mut before = Vec::new();
    for step in 0..12 {
        let plan = open(&package, Budget::Bytes(smallest + step * (4 << 20)))
            .plan(&request(7))
            .expect("it fits");
        let mut stages: Vec<_> = plan.stages.iter().collect();
        stages.sort_by_key(|stage| std::cmp::Reverse(stage.weights_bytes));
        let stay = stages.iter().map(|stage| stage.warm);
        let spent: Vec<bool> = stay.chain(stages.iter().map(|stage| stage.is_packed())).collect();
        assert!(plan.peak_rss_bytes() <= plan.budget_bytes, "{plan}");
        assert!(spent >= before, "the largest first: {plan}");
        before = spent;
    }
    assert!(before.contains(&true), "something was spent");
}

#[test]
fn a_budget_is_refused_before_anything_is_loaded() {
    let package = package("tiny-world");
    let Budget::Bytes(bytes) = smallest(&package, &request(7)) else { panic!("a size") };
    let below = open(&package, Budget::Bytes(bytes - (2 << 20)));
    let refused = below
        .generate(&request(7), |_| ControlFlow::Continue(()))
        .map(|_| ())
        .expect_err("too small");
    assert_eq!((refused.kind(), refused.at()), (ErrorKind::NotEnoughMemory, "memory"));
    let small = Request { width: Some(64), height: Some(64), ..request(7) };
    generate(&below, &small); // a smaller image fits
}

#[test]
fn what_stays_loaded_is_sound_after_a_cancel_and_after_an_error() {
    let pipeline = open(&package("tiny-world"), PLENTY);
    let image = generate(&pipeline, &request(7)).images;
    let cancelled = pipeline.generate(&request(8), |_| ControlFlow::Break(())).map(|_| ());
    assert_eq!(cancelled.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    let wrong = Request { height: Some(17), ..request(8) };
    assert!(pipeline.generate(&wrong, |_| ControlFlow::Continue(())).is_err());
    let panicked = pipeline.generate(&request(8), |_| panic!("the caller's mistake")).map(|_| ());
    assert_eq!(panicked.expect_err("panicked").kind(), ErrorKind::Internal);
    let again = generate(&pipeline, &request(7));
    assert_eq!(again.images, image);
    assert_eq!(loaded(&again), ["step"], "only what the panic tore down");
}

#[test]
fn a_repeated_prompt_is_not_encoded_again() {
    let pipeline = open(&package("tiny-world"), PLENTY);
    let run = |output: &Output| output.report.stages[0].run > Duration::ZERO;
    let other = Request { prompt: "a green robot".to_owned(), ..request(8) };
    let ran = [request(7), request(8), other.clone(), request(9), other]
        .map(|request| run(&generate(&pipeline, &request)));
    assert_eq!(ran, [true, false, true, false, false]);
    for seed in 0..9 {
        // The empty prompt and this one in turn are the oldest that are kept.
        let prompt = format!("a house, number {seed}");
        generate(
            &pipeline,
            &Request {
                prompt,
                num_inference_steps: Some(1),
                height: Some(64),
                width: Some(64),
                ..request(1)
            },
        );
    }
    assert!(run(&generate(&pipeline, &request(7))), "it was dropped");
}

/// int8 cannot tip here: its images are compared with each other on one machine.
#[test]
fn a_package_is_checked_and_optimised_by_the_first_process_only() {
    // ONNX Runtime lays the weights of f32 convolutions out anew: a second copy, which is not kept.
    for (flavour, graphs) in [(Flavour::F32, 3), (Flavour::Int8, 4)] {
        let (folder, package) =
            (tempfile::tempdir().expect("a folder"), flavoured_package(flavour));
        let options =
            Options { prepared: Some(folder.path().join("made/for/it")), ..Options::default() };
        let prepared = options.prepared.as_deref().expect("a folder");
        support::runtime();
        let image = || {
            let pipeline =
                Pipeline::open_with(&package, &options).unwrap_or_else(|error| panic!("{error}"));
            generate(&pipeline, &request(7)).images
        };
        let without = Options { prepared: None, ..options.clone() };
        let unprepared = Pipeline::open_with(&package, &without).expect("a package");
        let unprepared = generate(&unprepared, &request(7)).images;
        assert_eq!(image(), unprepared);
        let kept = || prepared::list(prepared).expect("readable");
        let started = Instant::now();
        // A tokenizer, four graphs, their data: all but those that were just written.
        while kept().iter().all(|entry| entry.files < 9) {
            assert!(started.elapsed() < PATIENCE, "{:?}", kept());
            assert_eq!(image(), unprepared);
        }
        let [entry] = kept().try_into().expect("one package");
        assert_eq!(entry.files, 9);
        assert_eq!(entry.graphs.len(), graphs);

        // A graph that does not load would be made again: as another file.
        let stamps = || -> Vec<_> {
            let modified = |path: &std::path::PathBuf| {
                std::fs::metadata(path).and_then(|file| file.modified())
            };
            entry.graphs.iter().map(|path| modified(path).expect("a file")).collect()
        };
        let before = stamps();
        assert_eq!(image(), unprepared);
        assert_eq!(stamps(), before);

        for (graph, damage) in
            entry.graphs.iter().zip([&b""[..], b"not a graph"].into_iter().cycle())
        {
            let whole = std::fs::read(graph).expect("a graph");
            std::fs::write(graph, [damage, &whole[..whole.len() / 2]].concat()).expect("written");
        }
        assert_eq!(image(), unprepared);
        assert!(
            stamps().iter().zip(&before).all(|(now, before)| now != before),
            "all were made again"
        );
        let before = stamps();
        std::fs::remove_file(&entry.path).expect("removed");
        assert_eq!(
            kept().iter().map(|entry| entry.graphs.len()).collect::<Vec<_>>(),
            [graphs],
            "graphs without a record"
        );
        assert_eq!(image(), unprepared);
        assert!(
            stamps().iter().zip(&before).all(|(now, before)| now != before),
            "without a record none is trusted"
        );

        let left = || std::fs::read_dir(prepared).expect("readable").count();
        assert_eq!(left(), graphs + 1);
        assert_eq!(prepared::clean(prepared).expect("cleaned"), 1);
        assert_eq!(left(), 0);
    }
}

#[test]
fn memory_is_measured_where_it_was_asked_for() {
    support::runtime();
    for measure_memory in [false, true] {
        let options = Options { measure_memory, threads: Some(1), ..Options::default() };
        let pipeline = Pipeline::open_with(package("tiny-256"), &options);
        let output = generate(&pipeline.unwrap_or_else(|error| panic!("{error}")), &request(1));
        let peaks = output.report.stages.iter().flat_map(|stage| {
            [stage.peak_rss_bytes, stage.peak_anonymous_bytes].map(|peak| peak.is_some())
        });
        let expected = measure_memory && cfg!(target_os = "linux");
        assert!(peaks.into_iter().all(|is_told| is_told == expected), "{:?}", output.report);
        assert_eq!(output.report.peak_rss_bytes.is_some(), cfg!(target_os = "linux"));
    }
}

/// How much longer the quickest of the last images may take than that of the first: the machine may
/// be busy.
#[cfg(target_os = "linux")]
const SLOWER: f64 = 1.5;

/// What may be held after the last image more than after the first hundred.
#[cfg(target_os = "linux")]
const GROWTH_BYTES: u64 = 8 << 20;

/// Bytes that the process holds.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kibibytes = resident.trim().strip_suffix(" kB").expect("a unit");
    kibibytes.parse::<u64>().expect("a number") << 10
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "slow: makes a thousand images"]
fn a_thousand_images_in_a_row_grow_no_slower_and_no_larger() {
    let (package, small) = (flavoured_package(Flavour::F32), |seed| Request {
        height: Some(32),
        width: Some(32),
        num_inference_steps: Some(1),
        ..request(seed)
    });
    // As much memory as leaves weights that pass: then most stages stay.
    let Budget::Bytes(smallest) = smallest(&package, &small(0)) else { panic!("a size") };
    let plan = |bytes| open(&package, Budget::Bytes(bytes)).plan(&small(0)).expect("enough");
    let mut budgets = (0..40).rev().map(|more| smallest + more * (4 << 20));
    let passing = budgets.find(|bytes| plan(*bytes).to_string().contains("passing"));
    let pipeline = open(&package, Budget::Bytes(passing.expect("a budget")));
    println!("{}", pipeline.plan(&small(0)).expect("enough"));
    let (mut took, mut held) = (Vec::new(), Vec::new());
    for seed in 0..1000 {
        let started = Instant::now();
        generate(&pipeline, &small(seed));
        took.push(started.elapsed());
        held.push(resident());
    }
    let [first, last] = [&took[1..101], &took[900..]].map(|took| took.iter().min().expect("some"));
    println!("the quickest of the first hundred {first:?}, of the last {last:?}");
    assert!(*last <= first.mul_f64(SLOWER), "{first:?}, then {last:?}");
    let [first, last] = [&held[..100], &held[900..]].map(|held| held.iter().max().expect("some"));
    assert!(*last <= first + GROWTH_BYTES, "{first} bytes, then {last}");
}
