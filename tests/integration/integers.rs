//! The flavour qdq against f32, stage by stage, on ONNX Runtime's CPU provider: the same inputs for
//! both. Each bound is one that other providers are held to, too, and wrong ranges break it.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::OnceLock};

use pocketmuse::{
    Flavour, Options, Pipeline, Request, Source, Stage, Tileable,
    internals::{Decoder, TextEncoder},
};
use pocketmuse_export::{Measured, Ranges, Result};
use tempfile::TempDir;

use crate::{
    likeness::{Steps, decoded, images, load, prompts, psnr, relative, request, steps, tokens},
    support::{self, checkpoint},
};

/// The most that logits may differ, by the length of the difference over their own.
const MOST_OF_LOGITS: f64 = 0.05;
/// The least share of positions with the same most likely token.
const LEAST_CODES: f64 = 0.96;
/// How like decoded images are at least, in dB.
const LEAST_PSNR: f64 = 50.0;

/// A package of tiny-world with the flavours f32, int8 and qdq, exported once.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<TempDir> = OnceLock::new();
    PACKAGE.get_or_init(|| export("tiny-world", support::calibrate)).path()
}

fn export(name: &str, calibrate: impl FnOnce(&Path) -> Result<Measured>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let options = pocketmuse_export::Options {
        flavours: vec![Flavour::Int8, Flavour::F32, Flavour::Qdq],
        overwrite: true,
        ..Default::default()
    };
    let go_on = |_: &pocketmuse_export::Progress<'_>| ControlFlow::Continue(());
    let made =
        pocketmuse_export::export(&checkpoint(name), folder.path(), &options, calibrate, go_on);
    made.unwrap_or_else(|error| panic!("{name}: {error}"));
    folder
}

fn open(package: &Path, flavour: Flavour) -> Pipeline {
    support::open(package, Options { flavour: Some(flavour), ..Options::default() })
}

fn both() -> [Pipeline; 2] {
    [Flavour::F32, Flavour::Qdq].map(|flavour| open(package(), flavour))
}

#[test]
#[ignore = "slow: ranges of every stage are measured"]
fn text_is_nearly_what_f32_says() {
    let [ours, theirs] = both();
    let mut encoders: [TextEncoder; 2] = [load(&ours), load(&theirs)];
    let prompts = prompts(&ours.manifest().tokenizer);
    let [expected, found] =
        encoders.each_mut().map(|encoder| encoder.encode(&prompts).expect("texts"));
    for (what, found, expected) in
        [("hidden", &found.hidden, &expected.hidden), ("pooled", &found.pooled, &expected.pooled)]
    {
        let [found, expected] = [found, expected].map(|text| text.as_f32().expect("floats"));
        let relative = relative(found, expected);
        println!("{what} differs by {:.3} %", 100.0 * relative);
        assert!(relative <= MOST_OF_LOGITS, "{what} differs by {relative}");
    }
}

#[test]
#[ignore = "slow: ranges of every stage are measured"]
fn the_step_graph_chooses_nearly_as_f32_does_at_every_mask_ratio() {
    let [ours, theirs] = both();
    for seed in [3, 4] {
        let Steps { worst, codes } = steps(&ours, &theirs, &request(seed));
        assert!(worst <= MOST_OF_LOGITS, "{worst}");
        assert!(codes >= LEAST_CODES, "{codes}");
    }
    let wide = Request { height: Some(64), width: Some(160), ..request(5) };
    let Steps { worst, codes } = steps(&ours, &theirs, &wide);
    assert!(worst <= MOST_OF_LOGITS && codes >= LEAST_CODES, "{worst}, {codes}");
}

#[test]
#[ignore = "slow: ranges of every stage are measured"]
fn the_decoder_is_nearly_that_of_f32() {
    let [ours, theirs] = both();
    let [mut f32, mut qdq]: [Decoder; 2] = [load(&ours), load(&theirs)];
    for (tokens, grid) in images(&ours) {
        let [(expected, size), (found, _)] =
            [&mut f32, &mut qdq].map(|decoder| decoded(decoder, &tokens, grid));
        let psnr = psnr(&found, &expected);
        println!("{size:?}: decoded {psnr:.1} dB");
        assert!(psnr >= LEAST_PSNR, "{size:?}: {psnr} dB");
    }
}

/// The bounds above find ranges that are a fiftieth of what they should be.
#[test]
#[ignore = "slow: ranges of every stage are measured"]
fn wrong_ranges_are_seen() {
    let shrunk = |draft: &Path| {
        let mut measured = support::calibrate(draft)?;
        let names = taps(draft);
        for (stage, ranges) in &mut measured.activations {
            let mut small = Ranges::default();
            for name in &names[stage] {
                let [least, most] = ranges.whole(name, 1)?;
                small.widen(name, &[least / 50.0], &[most / 50.0])?;
            }
            *ranges = small;
        }
        Ok(measured)
    };
    let wrong = export("tiny-world", shrunk);
    let ours = open(package(), Flavour::F32);
    let theirs = open(wrong.path(), Flavour::Qdq);
    let Steps { worst, codes } = steps(&ours, &theirs, &request(3));
    assert!(worst > MOST_OF_LOGITS && codes < LEAST_CODES, "{worst}, {codes}");
    let (tokens, grid) = tokens(&ours, &request(3));
    let tokens: Vec<i64> = tokens.into_iter().map(i64::from).collect();
    let [mut f32, mut qdq]: [Decoder; 2] = [load(&ours), load(&theirs)];
    let [(expected, _), (found, _)] =
        [&mut f32, &mut qdq].map(|decoder| decoded(decoder, &tokens, grid));
    let psnr = psnr(&found, &expected);
    println!("with ranges a fiftieth of the right ones: decoded {psnr:.1} dB");
    assert!(psnr < LEAST_PSNR, "{psnr} dB");
}

/// The names of the ranges that a draft has taps for.
fn taps(draft: &Path) -> BTreeMap<Stage, Vec<String>> {
    let manifest = pocketmuse::Manifest::read(draft).expect("a draft");
    let stages = manifest.flavours[&Flavour::Qdq].stages.iter();
    let names = stages.map(|(stage, entry)| {
        let names =
            entry.taps.keys().filter_map(|name| name.strip_prefix(pocketmuse_export::RANGE));
        (*stage, names.map(str::to_owned).collect())
    });
    names.collect()
}

/// A package of random weights: what int8 has is there once, and a part of the package has it, too.
#[test]
fn weights_are_those_of_int8() {
    let calibrate = |draft: &Path| {
        support::runtime();
        let (options, prompts) = (Options::default(), ["a tree".to_owned()]);
        pocketmuse_measure::calibrate(draft, &options, &prompts, |_| ControlFlow::Continue(()))
    };
    let package = export("tiny-256", calibrate);
    let pipeline = open(package.path(), Flavour::Qdq);
    let manifest = pipeline.manifest();
    let [qdq, int8] = [Flavour::Qdq, Flavour::Int8].map(|flavour| &manifest.flavours[&flavour]);
    assert_eq!(qdq.stages[&Stage::Encoder], int8.stages[&Stage::Encoder]);
    let subset = pocketmuse::Subset { flavours: vec![Flavour::Qdq], ..Default::default() };
    let part = manifest.subset(&subset).expect("a part");
    assert_eq!(part.format, 2);
    assert!(part.files().any(|file| file.path == "int8/encoder.onnx"));
    let paths: Vec<_> = manifest.files().map(|file| &file.path).collect();
    let distinct: std::collections::BTreeSet<_> = paths.iter().collect();
    assert_eq!(paths.len(), distinct.len(), "each file once");
    let request = Request { num_inference_steps: Some(2), ..request(1) };
    let made = pipeline.generate(&request, |_| ControlFlow::Continue(()));
    made.unwrap_or_else(|error| panic!("{error}"));
}

/// Images by way of all stages, edits, several prompts at once, tileable ones, and sizes that are
/// neither square nor the trained one.
#[test]
#[ignore = "slow: ranges of every stage are measured"]
fn whole_jobs_run_in_integers() {
    let pipeline = open(package(), Flavour::Qdq);
    let flavours = &pipeline.manifest().flavours;
    for stage in [Stage::TextEncoder, Stage::Step, Stage::Decoder, Stage::Encoder] {
        let [qdq, int8] = [Flavour::Qdq, Flavour::Int8].map(|flavour| &flavours[&flavour].stages);
        assert_eq!(qdq[&stage].weights, int8[&stage].weights, "{stage}: int8's own");
    }
    let short = |seed| Request { num_inference_steps: Some(3), ..request(seed) };
    let go_on = |_: &pocketmuse::Step<'_>| ControlFlow::Continue(());
    let make = |request: &Request| {
        let made = pipeline.generate(request, go_on);
        made.unwrap_or_else(|error| panic!("{request:?}: {error}")).images
    };
    let plain = make(&short(1));
    let source = Source::new(plain[0].clone());
    let edit = Request { strength: Some(0.6), ..short(2) };
    pipeline.edit(&edit, &source, go_on).unwrap_or_else(|error| panic!("{error}"));
    make(&Request { guidance_scale: Some(1.0), ..short(3) });
    let wide = Request { height: Some(48), width: Some(112), ..short(4) };
    assert_eq!(make(&wide)[0].dimensions(), (112, 48));
    let tileable = Tileable::ALL.into_iter().next_back().expect("a way");
    make(&Request { tileable, ..short(5) });
    let prepared = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        let prepared = Some(prepared.path().to_owned());
        let options = Options { flavour: Some(Flavour::Qdq), prepared, ..Options::default() };
        let again = support::open(package(), options).generate(&short(1), go_on);
        let again = again.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.images, plain, "the same request, the same image");
    }
}
