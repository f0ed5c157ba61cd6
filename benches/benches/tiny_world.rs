//! Where the time goes, stage by stage, with the bundled model. Every bench checks its answer.

use std::{
    hint::black_box,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use pocketmuse::{
    Flavour, Manifest, Options, Output, Pipeline, Request, Rng, RngKind,
    internals::{BadLogits, Canvas, Predict, Schedule, Tokenizer, sample},
};
use pocketmuse_package::MaskingSchedule;

const PROMPT: &str = "a red lighthouse by the sea at sunset";

fn export(package: &Path) -> Manifest {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-world");
    let options = pocketmuse_export::Options {
        flavours: vec![Flavour::F32],
        overwrite: true,
        ..Default::default()
    };
    let measure =
        |_: &Path| unreachable!("f32 needs no ranges, and the checkpoint brings its preview");
    let summary = pocketmuse_export::export(&checkpoint, package, &options, measure, |_| {
        ControlFlow::Continue(())
    });
    summary.expect("the bundled model").manifest
}

fn package() -> (tempfile::TempDir, PathBuf, Manifest) {
    let folder = tempfile::tempdir().expect("a folder");
    let package = folder.path().join("package");
    let manifest = export(&package);
    (folder, package, manifest)
}

/// What a user waits for once per model: reading, rearranging, digesting and writing all weights.
fn exporting(c: &mut Criterion) {
    let (_folder, package, manifest) = package();
    let digest = manifest.digest();
    c.bench_function("export/tiny_world", |b| {
        b.iter(|| assert_eq!(export(&package).digest(), digest))
    });
}

/// Done for every prompt; must not be felt.
fn tokenizing(c: &mut Criterion) {
    let (_folder, package, manifest) = package();
    let tokenizer = Tokenizer::load(&package, &manifest).expect("a tokenizer");
    c.bench_function("tokenize/77_tokens", |b| {
        b.iter(|| assert_eq!(tokenizer.encode(black_box(PROMPT)).expect("a prompt").ids.len(), 77));
    });
}

fn generate(pipeline: &Pipeline, steps: u32) -> Output {
    let request = Request {
        prompt: PROMPT.to_owned(),
        seed: 7,
        num_inference_steps: Some(steps),
        ..Request::default()
    };
    pipeline.generate(&request, |_| ControlFlow::Continue(())).expect("an image")
}

/// The stages of one run, as the pipeline measures them: without the time to load them.
fn stages(c: &mut Criterion) {
    let (_folder, package, _) = package();
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let open = || Pipeline::open(&package).expect("a package");
    let image = generate(&open(), 1).images;
    for (name, stage) in [
        ("text/2_prompts", "text_encoder"),
        ("prologue/2_branches", "prologue"),
        ("step/256_tokens", "step"),
        ("decode/128_px", "decoder"),
    ] {
        c.bench_function(name, |b| {
            b.iter_custom(|count| {
                let run = |_| {
                    let output = generate(&open(), 1); // another would know the text of the prompt
                    assert_eq!(output.images, image);
                    let stage = output.report.stages.iter().find(|found| found.name == stage);
                    stage.expect("every stage is measured").run
                };
                (0..count).map(run).sum::<Duration>()
            });
        });
    }
}

/// What a user waits for: everything from the open package to pixels, stages loaded for this
/// image, or still loaded from the one before.
fn end_to_end(c: &mut Criterion) {
    let (_folder, package, _) = package();
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    for (name, staged) in [("end_to_end/12_steps", true), ("end_to_end/12_steps_warm", false)] {
        let options = Options { staged, ..Options::default() };
        let pipeline = Pipeline::open_with(&package, &options).expect("a package");
        let image = generate(&pipeline, 12).images;
        c.bench_function(name, |b| b.iter(|| assert_eq!(generate(&pipeline, 12).images, image)));
    }
}

/// A model whose logits are the same at every position but for one certain code.
struct Peaked {
    logits: Vec<f32>,
    codes: usize,
}

impl Peaked {
    fn new(positions: usize, codes: usize) -> Self {
        let mut logits: Vec<f32> =
            (0..positions * codes).map(|at| (at % 97) as f32 / 97.0).collect();
        logits
            .chunks_exact_mut(codes)
            .enumerate()
            .for_each(|(position, row)| row[position * 5 % codes] = 60.0);
        Self { logits, codes }
    }
}

impl Predict for Peaked {
    type Error = BadLogits;

    fn predict(
        &mut self,
        _: usize,
        _: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32], BadLogits> {
        Ok(&self.logits[..positions.len() * self.codes])
    }
}

/// The first step of a 512 px image, where every position is drawn: to be compared with a
/// full-size step graph.
fn sampling(c: &mut Criterion) {
    const POSITIONS: usize = 1024;
    const CODES: usize = 8192;
    let mut model = Peaked::new(POSITIONS, CODES);
    let schedule = Schedule {
        steps: 2,
        temperature: [2.0, 0.0],
        masking: MaskingSchedule::Cosine,
        starting_mask_ratio: 1.0,
        first_step: 0,
        codebook_size: CODES,
        halton: None,
    };
    c.bench_function("sampler/1024_positions_8192_codes", |b| {
        b.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for seed in 0..count {
                let mut canvas =
                    Canvas::new(vec![None; POSITIONS], 1, Rng::new(RngKind::Own, seed));
                let start = Instant::now();
                let flow =
                    sample(&mut model, &mut canvas, &schedule, |_, _| ControlFlow::Break(()));
                spent += start.elapsed();
                assert!(flow.expect("finite logits").is_break());
                let drawn = canvas
                    .tokens
                    .iter()
                    .enumerate()
                    .filter_map(|(at, token)| Some((at, (*token)?)));
                assert!(drawn.clone().count() > 0);
                drawn.for_each(|(position, code)| assert_eq!(code as usize, position * 5 % CODES));
            }
            spent
        });
    });
}

/// Done after every step where a preview is shown; must cost nothing beside it. 512 x 512 pixels:
/// 64 x 64 tokens here.
fn previewing(c: &mut Criterion) {
    let (_folder, package, _) = package();
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let preview =
        Pipeline::open(package).expect("a package").preview().expect("whole").expect("a table");
    let tokens: Vec<_> = (0..64 * 64).map(|code| Some(code % 2048)).collect();
    c.bench_function("preview/512_px", |b| {
        b.iter(|| {
            let image = preview.draw(black_box(&tokens), 64).expect("whole rows");
            assert_eq!(image.dimensions(), (512, 512));
        });
    });
}

fn few_samples() -> Criterion {
    Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5)).without_plots()
}

criterion_group! {
    name = tiny_world;
    config = few_samples();
    targets = exporting, tokenizing, stages, sampling, previewing, end_to_end
}
criterion_main!(tiny_world);
