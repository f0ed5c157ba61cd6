//! Images of quantized flavours show what is asked for as often as those of the f32 flavour: pairs
//! of the same prompt, seed and settings, scored by the judge.
//!
//! | kind | settings |
//! |---|---|
//! | generation | the defaults: 12 steps, guidance 1.5 |
//! | image to image | the defaults: 12 steps, strength 0.5, towards another prompt |
//! | inpainting | 6 steps, the image's own prompt, other random numbers |
//! | late guidance | generation, but guided in the second half of the steps alone |
//!
//! f32 draws the same tokens on every processor (see `exactness`), so its scores of the first 600
//! pairs are a fixture: `POCKETMUSE_RECORD=KIND` writes those of a kind again, and each run makes
//! every twentieth of its images to see whether they still hold.
//!
//! Why no gate can tip: it fails when a flavour loses more than the limit with 99.9% confidence.
//! Where it loses no more, 600 other pairs, as another processor makes them, fail in 1 case of
//! 1,000 at most. How little a flavour loses is shown by more pairs: `POCKETMUSE_PAIRS` says how
//! many, or how few where a processor is emulated. There, `POCKETMUSE_PACKAGE` names a package of
//! both flavours that a faster processor exported.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../../bindings/cli/tests/support/openvino.rs"]
mod openvino;

use std::{collections::BTreeMap, env, fs, ops::ControlFlow, path::PathBuf, sync::OnceLock};

use image::RgbImage;
use pocketmuse::{Flavour, GuidanceSchedule, Options, Pipeline, Provider, Request, Source, Stage};
use serde_json::Value;

use crate::{
    judge::{ATTRIBUTES, Judge, prompts, request},
    statistics::Mean,
    support::{fixture, flavoured_package, in_threads, open},
};

/// Pairs that f32's scores are recorded of.
const RECORDED: usize = 600;

/// Of which one in so many is made again.
const CHECKED: usize = 20;

/// The most attributes of those that may differ: a pixel may be off by 1 of 255.
const MOST_CHANGED: usize = 3;

/// How much lower int8 may score, of 1 (docs/quantization.md).
const MAX_LOSS: f64 = 0.005;

/// How much lower int4 may, over the first 200 pairs.
const MAX_LOSS_OF_INT4: f64 = 0.03;

/// How much lower the forms for NPUs may, f16 and qdq.
const MAX_LOSS_OF_FORMS: f64 = 0.01;

/// Pairs of these, which are slow on a CPU: 200 with `POCKETMUSE_PAIRS` (docs/providers.md).
const PAIRS_OF_FORMS: usize = 40;

/// Edits of each of the 100 images that are edited: one follows the other, so that it is encoded
/// once.
const EDITS: usize = 6;

/// Steps of an image to start from and of a part that is repainted: fewer than by default, since
/// there are many.
const STEPS: u32 = 6;

/// The box that is repainted, where the thing is that an image shows: 10 x 10 of 16 x 16 tokens.
const AREA: [u32; 4] = [24, 24, 80, 80];

/// A kind of images.
struct Kind {
    name: &'static str,
    /// What f32 scores at least. Images that heed no prompt score 0.3.
    least: f64,
    /// Makes an image, by its number, and says what it should show.
    make: fn(&Pipeline, usize) -> (RgbImage, &'static Value),
}

const GENERATION: Kind = Kind { name: "generation", least: 0.97, make: generated };
const IMAGE_TO_IMAGE: Kind = Kind { name: "image to image", least: 0.4, make: remade };
const INPAINTING: Kind = Kind { name: "inpainting", least: 0.75, make: repainted };
const LATE: Kind = Kind { name: "late guidance", least: 0.97, make: guided_late };

fn all() -> &'static [Value] {
    prompts()["prompts"].as_array().expect("a list")
}

/// A prompt with its own seed at first, then with others.
fn asked(prompt: usize, round: usize) -> (&'static Value, Request) {
    let asked = &all()[prompt % all().len()];
    let request = request(asked);
    (asked, Request { seed: request.seed + 1000 * round as u64, ..request })
}

fn generated(pipeline: &Pipeline, number: usize) -> (RgbImage, &'static Value) {
    guided(pipeline, number, GuidanceSchedule::Constant)
}

fn guided_late(pipeline: &Pipeline, number: usize) -> (RgbImage, &'static Value) {
    guided(pipeline, number, GuidanceSchedule::Late)
}

fn guided(
    pipeline: &Pipeline,
    number: usize,
    guidance_schedule: GuidanceSchedule,
) -> (RgbImage, &'static Value) {
    let (asked, request) = asked(number, number / all().len());
    let request = Request { guidance_schedule, ..request };
    let output = pipeline.generate(&request, |_| ControlFlow::Continue(()));
    (only(output), &asked["labels"])
}

fn remade(pipeline: &Pipeline, number: usize) -> (RgbImage, &'static Value) {
    let (source, round) = source_of(number);
    let (asked, request) = asked(2 * source + 1 + 7 * round, 1 + round);
    edited(pipeline, &request, Source::new(sources()[source].clone()), asked)
}

fn repainted(pipeline: &Pipeline, number: usize) -> (RgbImage, &'static Value) {
    let (source, round) = source_of(number);
    let (asked, request) = asked(2 * source, 1 + round);
    let request = Request { num_inference_steps: Some(STEPS), ..request };
    let area = Source::new(sources()[source].clone()).with_box(AREA).expect("inside the image");
    edited(pipeline, &request, area, asked)
}

/// Which image an edit starts from, and the how many-th of its edits it is.
fn source_of(number: usize) -> (usize, usize) {
    let count = RECORDED / EDITS;
    let (turn, rest) = (number / RECORDED, number % RECORDED);
    ((rest / EDITS) % count, turn * EDITS + rest % EDITS)
}

fn edited(
    pipeline: &Pipeline,
    request: &Request,
    source: Source,
    asked: &'static Value,
) -> (RgbImage, &'static Value) {
    let output = pipeline.edit(request, &source, |_| ControlFlow::Continue(()));
    (only(output), &asked["labels"])
}

fn only(output: pocketmuse::Result<pocketmuse::Output>) -> RgbImage {
    output.unwrap_or_else(|error| panic!("{error}")).images.remove(0)
}

/// Images to start from: f32, of every other prompt.
fn sources() -> &'static [RgbImage] {
    static SOURCES: OnceLock<Vec<RgbImage>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let numbers: Vec<_> = (0..RECORDED / EDITS).collect();
        in_threads(
            || F32.open(),
            &numbers,
            |pipeline, source| {
                let (_, request) = asked(2 * source, 0);
                let request = Request { num_inference_steps: Some(STEPS), ..request };
                only(pipeline.generate(&request, |_| ControlFlow::Continue(())))
            },
        )
    })
}

/// Who makes images.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Maker {
    flavour: Flavour,
    /// Of all stages.
    provider: Provider,
}

/// Whose scores are recorded.
const F32: Maker = Maker { flavour: Flavour::F32, provider: Provider::Cpu };

impl From<Flavour> for Maker {
    fn from(flavour: Flavour) -> Self {
        Self { flavour, ..F32 }
    }
}

impl Maker {
    fn open(self) -> Pipeline {
        let Self { flavour, provider } = self;
        let mut options = Options { flavour: Some(flavour), ..Options::default() };
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        if provider == Provider::OpenVino {
            options.providers.stages = Stage::ALL.map(|stage| (stage, provider)).into();
            options.providers.libraries = [(provider, openvino::plugin())].into();
        }
        let package = env::var_os("POCKETMUSE_PACKAGE").map(PathBuf::from);
        open(&package.unwrap_or_else(|| flavoured_package(flavour)), options)
    }
}

/// How many attributes each image of these numbers shows as asked.
fn scores(maker: Maker, kind: &Kind, numbers: Vec<usize>) -> Vec<usize> {
    let opened = || (maker.open(), Judge::open(&fixture("judge.onnx")));
    in_threads(opened, &numbers, |(pipeline, judge), number| {
        let (image, labels) = (kind.make)(pipeline, *number);
        judge.score(&image, labels)
    })
}

/// f32's scores of the first `count` images: those recorded, and new ones if more are wanted.
fn scores_of_f32(kind: &Kind, count: usize) -> Vec<usize> {
    let path = fixture("f32_scores.json");
    let read = || fs::read(&path).ok().map(|text| serde_json::from_slice(&text).expect("JSON"));
    let mut known: BTreeMap<String, String> = read().unwrap_or_default();
    if env::var("POCKETMUSE_RECORD").is_ok_and(|recorded| recorded == kind.name) {
        let scores = scores(F32, kind, (0..RECORDED).collect());
        let digits = scores.iter().map(ToString::to_string).collect();
        known.insert(kind.name.to_owned(), digits);
        let text = serde_json::to_string_pretty(&known).expect("JSON") + "\n";
        fs::write(&path, text).expect("written");
    }
    let digits = known.get(kind.name).map(String::as_bytes).unwrap_or_default();
    let mut scores: Vec<_> = digits.iter().map(|digit| usize::from(digit - b'0')).collect();
    assert_eq!(scores.len(), RECORDED, "run with POCKETMUSE_RECORD=\"{}\" first", kind.name);
    scores.truncate(count);
    let checked: Vec<_> = (0..scores.len()).step_by(CHECKED).collect();
    let again = self::scores(F32, kind, checked.clone());
    let changed: usize =
        checked.iter().zip(&again).map(|(number, again)| scores[*number].abs_diff(*again)).sum();
    assert!(
        changed <= MOST_CHANGED,
        "expected f32's scores as recorded, found {changed} of {} others; if its images are meant \
         to have changed, run with POCKETMUSE_RECORD=\"{}\"",
        checked.len() * ATTRIBUTES.len(),
        kind.name
    );
    scores.extend(self::scores(F32, kind, (RECORDED..count).collect()));
    scores
}

/// Asserts that a kind of images of a flavour loses no more than `limit`, of 1, against f32's of
/// the kind `against`, over `count` pairs.
fn loses_no_more(
    (maker, kind): (impl Into<Maker>, &Kind),
    against: &Kind,
    (count, limit): (usize, f64),
) {
    let maker = maker.into();
    let Maker { flavour, provider } = maker;
    let share = |scores: &[usize]| -> Vec<f64> {
        scores.iter().map(|score| *score as f64 / ATTRIBUTES.len() as f64).collect()
    };
    let f32 = share(&scores_of_f32(against, count));
    let found = match maker {
        F32 => scores_of_f32(kind, count),
        _ => scores(maker, kind, (0..count).collect()),
    };
    let found = share(&found);
    let pairs = f32.iter().zip(&found).map(|(f32, found)| found - f32);
    let gain = Mean::of(&pairs.collect::<Vec<_>>());
    let [f32, found] = [f32, found].map(|scores| Mean::of(&scores));
    println!(
        "{}, {count} pairs: f32 {:.1}%, {flavour} by {provider} {:.1}%, by pairs {:+.2} ± {:.2} points; with 95% \
         confidence it loses at most {:.2}",
        kind.name,
        100.0 * f32.value,
        100.0 * found.value,
        100.0 * gain.value,
        100.0 * gain.error,
        -100.0 * gain.likely_least(),
    );
    assert!(f32.value >= kind.least, "{}: expected images as asked, found {f32:?}", kind.name);
    assert!(
        gain.most() >= -limit,
        "{}: expected {flavour} within {limit} of f32, found {gain:?}",
        kind.name
    );
}

/// How many pairs of a kind, where nothing else is asked for.
fn pairs_or(usual: usize) -> usize {
    let asked = env::var("POCKETMUSE_PAIRS").ok();
    asked.map_or(usual, |count| count.parse().expect("a number of pairs"))
}

#[test]
#[ignore = "slow: 630 images, judged"]
fn int8_images_show_what_f32_images_show() {
    loses_no_more((Flavour::Int8, &GENERATION), &GENERATION, (pairs_or(RECORDED), MAX_LOSS));
}

#[test]
#[ignore = "slow: 230 images, judged"]
fn int4_images_show_what_f32_images_show() {
    loses_no_more((Flavour::Int4, &GENERATION), &GENERATION, (all().len(), MAX_LOSS_OF_INT4));
}

#[test]
#[ignore = "slow: 84 images, judged"]
fn images_of_the_forms_for_npus_show_what_f32_images_show() {
    forms_lose_no_more(Provider::Cpu);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[ignore = "slow: brings OpenVINO; 84 images, judged"]
fn images_of_openvino_show_what_f32_images_show() {
    if let Some(why) = openvino::missing() {
        println!("skipped: images of OpenVINO show what f32 images show: {why}");
        return;
    }
    forms_lose_no_more(Provider::OpenVino);
}

fn forms_lose_no_more(provider: Provider) {
    let pairs = pairs_or(PAIRS_OF_FORMS);
    for flavour in [Flavour::F16, Flavour::Qdq] {
        let maker = Maker { flavour, provider };
        loses_no_more((maker, &GENERATION), &GENERATION, (pairs, MAX_LOSS_OF_FORMS));
    }
}

#[test]
#[ignore = "slow: 100 images and 630 edits of them, judged"]
fn int8_remakes_images_as_f32_does() {
    loses_no_more(
        (Flavour::Int8, &IMAGE_TO_IMAGE),
        &IMAGE_TO_IMAGE,
        (pairs_or(RECORDED), MAX_LOSS),
    );
}

#[test]
#[ignore = "slow: 100 images and 630 edits of them, judged"]
fn int8_repaints_images_as_f32_does() {
    loses_no_more((Flavour::Int8, &INPAINTING), &INPAINTING, (pairs_or(RECORDED), MAX_LOSS));
}

#[test]
#[ignore = "slow: 60 images, judged"]
fn images_guided_late_show_what_others_show() {
    loses_no_more((F32, &LATE), &GENERATION, (pairs_or(RECORDED), MAX_LOSS));
}
