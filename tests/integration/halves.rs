//! The flavour f16 against f32, stage by stage, on ONNX Runtime's CPU provider, the yardstick for
//! any other: the same inputs for both. Each bound is one that other providers are held to, too.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::OnceLock};

use pocketmuse::{
    Flavour, Options, Pipeline, Request, Source, Stage,
    internals::{Decoder, Encoder, Predict, Predictor, TextEncoder},
};
use pocketmuse_export::Measured;
use tempfile::TempDir;

use crate::{
    likeness::{Steps, decoded, images, load, prompts, psnr, relative, request, steps, tokens},
    support::{self, checkpoint, flavoured_package},
};

/// The most that logits may differ, by the length of the difference over their own.
const MOST_OF_LOGITS: f64 = 0.006;
/// The least share of positions with the same most likely token.
const LEAST_CODES: f64 = 0.99;
/// The least share of tokens that an image is encoded to.
const LEAST_TOKENS: f64 = 0.985;
/// How like decoded images are at least, in dB.
const LEAST_PSNR: f64 = 65.0;

/// A package of the checkpoint tiny-256 with both flavours, exported once.
fn both() -> &'static Path {
    static PACKAGE: OnceLock<TempDir> = OnceLock::new();
    let export = || {
        let package = tempfile::tempdir().expect("a folder");
        let options = pocketmuse_export::Options {
            flavours: vec![Flavour::F32, Flavour::F16],
            overwrite: true,
            ..pocketmuse_export::Options::default()
        };
        let nothing = |_: &Path| Ok(Measured::default());
        let go_on = |_: &pocketmuse_export::Progress<'_>| ControlFlow::Continue(());
        let from = checkpoint("tiny-256");
        let made = pocketmuse_export::export(&from, package.path(), &options, nothing, go_on);
        made.unwrap_or_else(|error| panic!("{error}"));
        package
    };
    PACKAGE.get_or_init(export).path()
}

fn open(name: &str, flavour: Flavour) -> Pipeline {
    let options = Options { flavour: Some(flavour), ..Options::default() };
    match name {
        "tiny-256" => support::open(both(), options),
        _ => support::open(&flavoured_package(flavour), options),
    }
}

#[test]
fn text_is_what_f32_says() {
    for name in ["tiny-world", "tiny-256"] {
        let mut encoders: [TextEncoder; 2] =
            [Flavour::F32, Flavour::F16].map(|flavour| load(&open(name, flavour)));
        let prompts = prompts(&open(name, Flavour::F16).manifest().tokenizer);
        let texts = encoders.each_mut().map(|encoder| encoder.encode(&prompts).expect("texts"));
        let [expected, found] = texts;
        for (what, found, expected) in [
            ("hidden", &found.hidden, &expected.hidden),
            ("pooled", &found.pooled, &expected.pooled),
        ] {
            assert_eq!(found.shape(), expected.shape(), "{name}: {what}");
            let [found, expected] = [found, expected].map(|text| text.as_f32().expect("floats"));
            let relative = relative(found, expected);
            println!("{name}: {what} differs by {:.3} %", 100.0 * relative);
            assert!(relative < 0.005, "{name}: {what} differs by {relative}");
        }
    }
}

#[test]
fn the_step_graph_chooses_as_f32_does_at_every_mask_ratio() {
    for name in ["tiny-world", "tiny-256"] {
        let [ours, theirs] = [Flavour::F32, Flavour::F16].map(|flavour| open(name, flavour));
        print!("{name}: ");
        let Steps { worst, codes } = steps(&ours, &theirs, &request(3));
        assert!(worst <= MOST_OF_LOGITS, "{name}: {worst}");
        // Of a model that learned nothing all tokens are nearly as likely.
        assert!(codes >= LEAST_CODES || name != "tiny-world", "{name}: {codes}");
    }
}

#[test]
fn the_prologue_says_what_f32_says() {
    let [ours, theirs] = [Flavour::F32, Flavour::F16].map(|flavour| open("tiny-world", flavour));
    let (image, _) = tokens(&ours, &request(3));
    // Each flavour's own text and prologue, and one step graph: what they make is what counts.
    let prompts = [&ours, &theirs].map(|pipeline| pipeline.prompt(&request(3)).expect("a prompt"));
    let mut predictor: Predictor = load(&ours);
    let (shown, all) = (vec![None; image.len()], (0..image.len()).collect::<Vec<_>>());
    let logits = prompts.map(|prompt| {
        let mut prompted = prompt.with(&mut predictor).expect("a prompt");
        prompted.predict(0, &shown, &all).map(<[f32]>::to_vec)
    });
    let [expected, found] = logits.map(|logits| logits.expect("logits"));
    let relative = relative(&found, &expected);
    println!("logits after another prologue differ by {:.3} %", 100.0 * relative);
    assert!(relative <= MOST_OF_LOGITS, "{relative}");
}

#[test]
fn the_decoder_and_the_encoder_are_those_of_f32() {
    let [ours, theirs] = [Flavour::F32, Flavour::F16].map(|flavour| open("tiny-world", flavour));
    let decoders: [Decoder; 2] = [&ours, &theirs].map(load);
    let encoders: [Encoder; 2] = [&ours, &theirs].map(load);
    let ([mut f32, mut f16], [mut f32_encoder, mut f16_encoder]) = (decoders, encoders);
    for (tokens, grid) in images(&ours) {
        let [(expected, size), (found, _)] =
            [&mut f32, &mut f16].map(|decoder| decoded(decoder, &tokens, grid));
        let psnr = psnr(&found, &expected);
        let [expected_tokens, found_tokens] = [&mut f32_encoder, &mut f16_encoder]
            .map(|encoder| encoder.tokens(&expected, size).expect("tokens"));
        let pairs = expected_tokens.iter().zip(&found_tokens);
        let share = pairs.filter(|(a, b)| a == b).count() as f64 / found_tokens.len() as f64;
        println!("{size:?}: decoded {psnr:.1} dB, {:.2} % of tokens encoded", 100.0 * share);
        assert!(psnr >= LEAST_PSNR, "{size:?}: {psnr} dB");
        assert!(share >= LEAST_TOKENS, "{size:?}: {share}");
    }
}

/// Images by way of all stages, edits, several prompts at once, tileable ones, and sizes that are
/// neither square nor the trained one.
#[test]
fn whole_jobs_run_in_halves() {
    let pipeline = open("tiny-world", Flavour::F16);
    let short = |seed| Request { num_inference_steps: Some(3), ..request(seed) };
    let mut made = BTreeMap::new();
    let mut make = |name: &'static str, request: &Request, source: Option<&Source>| {
        let go_on = |_: &pocketmuse::Step<'_>| ControlFlow::Continue(());
        let output = match source {
            Some(source) => pipeline.edit(request, source, go_on),
            None => pipeline.generate(request, go_on),
        };
        let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
        made.insert(name, output.images.clone());
        output.images
    };
    let images = make("plain", &short(1), None);
    let source = Source::new(images[0].clone());
    make("edit", &Request { strength: Some(0.6), ..short(2) }, Some(&source));
    make("unguided", &Request { guidance_scale: Some(1.0), ..short(3) }, None);
    let wide = Request { height: Some(48), width: Some(112), ..short(4) };
    assert_eq!(make("wide", &wide, None)[0].dimensions(), (112, 48));
    let tileable = pocketmuse::Tileable::ALL.into_iter().next_back().expect("a way");
    make("tileable", &Request { tileable, ..short(5) }, None);
    make("two", &Request { num_images_per_prompt: 2, ..short(6) }, None);
    let prepared = tempfile::tempdir().expect("a folder");
    for prepared in [None, Some(prepared.path()), Some(prepared.path())] {
        let prepared = prepared.map(ToOwned::to_owned);
        let options = Options { flavour: Some(Flavour::F16), prepared, ..Options::default() };
        let again = support::open(&flavoured_package(Flavour::F16), options)
            .generate(&short(1), |_| ControlFlow::Continue(()))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.images, made["plain"], "the same request, the same image");
    }
    assert!(made.values().flatten().all(|image| image.pixels().any(|pixel| pixel.0 != [0; 3])));
}

#[test]
fn a_package_says_its_format_and_an_older_reader_is_told() {
    let pipeline = open("tiny-256", Flavour::F16);
    assert_eq!(pipeline.manifest().format, 2);
    let subset = pocketmuse::Subset { flavours: vec![Flavour::F32], ..Default::default() };
    assert_eq!(pipeline.manifest().subset(&subset).expect("there").format, 1);
    let plain = support::package("tiny-world");
    assert_eq!(pocketmuse::Manifest::read(&plain).expect("a package").format, 1);
    assert!(pipeline.manifest().flavours[&Flavour::F16].stages.contains_key(&Stage::Encoder));
}
