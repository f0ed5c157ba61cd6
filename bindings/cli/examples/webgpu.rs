//! The provider `webgpu` on whatever Vulkan there is, for `.ci/webgpu`: `webgpu bring` has pip bring
//! the plug-in and exports packages, `webgpu check` then needs nothing but them, and the judge and
//! its prompts beside it.

use std::{error::Error, ops::ControlFlow};

use image::RgbImage;
use pocketmuse::{
    ErrorKind, Flavour, Options, Output, Pipeline, Provider, Providers, Request, Source, Stage,
    Step,
};

#[path = "../../../tests/integration/likeness.rs"]
mod alike;
#[path = "../../../tests/integration/folders.rs"]
#[allow(dead_code, reason = "tests change folders, too")]
mod folders;
#[path = "../../../tests/integration/judge.rs"]
mod judge;
#[path = "../tests/support/left.rs"]
mod left;
#[path = "../tests/support/likeness.rs"]
mod likeness;
#[path = "../tests/support/profile.rs"]
mod profile;
#[path = "../tests/support/wheel.rs"]
mod wheel;

use folders::flavoured_package;
use judge::Judge;
use likeness::psnr;
use wheel::Wheel;

const WEBGPU: Wheel = Wheel {
    release: "onnxruntime-ep-webgpu==0.4.0",
    sha256: "5d8c961eda91a88961cad1fb7621f389f006b18497d6ea9ecf96f729f066cbfb",
    platform: &["--platform=manylinux_2_28_x86_64"],
    plugin: "onnxruntime_ep_webgpu/libonnxruntime_providers_webgpu.so",
    plugin_sha256: "9f76e3dc4459421958ad086a9da03bf7e5de9289e9a3a56e28bbb459773dec81",
};

/// What ONNX Runtime calls it.
const WEBGPU_NAME: &str = "WebGpuExecutionProvider";

type Checked = Result<(), Box<dyn Error>>;
type Case = (&'static str, fn() -> Checked);

/// What is said of an image that must be like another.
const LEAST_PSNR: f64 = 30.0;

/// What the judge's files are found by.
mod support {
    use std::path::PathBuf;

    pub(crate) fn fixture(name: &str) -> PathBuf {
        let program = std::env::current_exe().expect("this program");
        program.with_file_name(name)
    }
}

fn main() -> Checked {
    match std::env::args().nth(1).as_deref() {
        Some("bring") => {
            println!("{}", WEBGPU.plugin().display());
            for flavour in [Flavour::F16, Flavour::F32, Flavour::Int4, Flavour::Qdq] {
                println!("{}", flavoured_package(flavour).display());
            }
            Ok(())
        }
        Some("check") => check(),
        _ => Err("expected bring or check".into()),
    }
}

fn check() -> Checked {
    let cases: [Case; 5] = [
        ("every_stage_of_f16_is_whole_and_near_the_cpus", every_stage_of_f16),
        ("what_it_makes_is_as_near_to_f32_as_it_must_be", as_near_as_it_must_be),
        ("the_judge_finds_in_whole_images_of_f16_what_was_asked_for", whole_images),
        ("the_step_of_int4_is_near_the_cpus_if_the_cpu_computes_shapes", step_of_int4),
        ("what_is_not_taken_whole_is_refused", what_is_not_taken_whole),
    ];
    let mut failed = 0;
    for (name, case) in cases {
        match case() {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                failed += 1;
                println!("test {name} ... FAILED\n{error}");
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {failed} failed; 0 ignored",
        cases.len() - failed
    );
    if failed == 0 { Ok(()) } else { Err("some failed".into()) }
}

fn open(flavour: Flavour, stages: &[Stage]) -> pocketmuse::Result<Pipeline> {
    pocketmuse_cli::runtime::start(false)?;
    Pipeline::open_with(flavoured_package(flavour), &options(flavour, stages))
}

fn options(flavour: Flavour, stages: &[Stage]) -> Options {
    let providers = Providers {
        stages: stages.iter().map(|stage| (*stage, Provider::WebGpu)).collect(),
        libraries: [(Provider::WebGpu, WEBGPU.plugin())].into(),
        ..Providers::default()
    };
    Options { providers, flavour: Some(flavour), ..Options::default() }
}

fn request(seed: u64, side: u32, steps: u32) -> Request {
    Request {
        num_inference_steps: Some(steps),
        seed,
        width: Some(side),
        height: Some(side),
        ..Request::new("a red lighthouse by the sea at sunset")
    }
}

fn go_on(_: &Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn image(output: Output) -> Result<RgbImage, Box<dyn Error>> {
    Ok(output.images.into_iter().next().ok_or("expected an image, found none")?)
}

/// Whether an image is like another.
fn like(what: &str, found: &RgbImage, expected: &RgbImage) -> Checked {
    let [size, wanted] = [found, expected].map(RgbImage::dimensions);
    if size != wanted {
        return Err(format!("{what}: expected {wanted:?}, found {size:?}").into());
    }
    let psnr = psnr(found, expected);
    println!("{what}: {psnr:.1} dB from the CPU's");
    if psnr >= LEAST_PSNR { Ok(()) } else { Err(format!("{what}: {psnr} dB").into()) }
}

/// An edit needs all five.
fn every_stage_of_f16() -> Checked {
    let (cpu, profiles) = (open(Flavour::F16, &[])?, tempfile::tempdir()?);
    let options = options(Flavour::F16, &Stage::ALL);
    let package = flavoured_package(Flavour::F16);
    let gpu = Pipeline::open_with_profiles(&package, &options, profiles.path())?;
    let first = request(1, 128, 6);
    let by_cpu = image(cpu.generate(&first, go_on)?)?;
    let source = Source::new(by_cpu.clone());
    let request = Request { strength: Some(0.5), ..request(2, 128, 4) };
    let [found, expected] =
        [gpu.edit(&request, &source, go_on)?, cpu.edit(&request, &source, go_on)?];
    let by: Vec<_> = found.report.stages.iter().map(|stage| stage.provider).collect();
    if by != [Provider::WebGpu; 5] {
        return Err(format!("expected webgpu for five stages, found {by:?}").into());
    }
    let report = found.report.clone();
    like("an edit", &image(found)?, &image(expected)?)?;
    if image(cpu.generate(&first, go_on)?)? != by_cpu {
        return Err("the plug-in is there, and the CPU's image is another".into());
    }
    drop(gpu);
    for stage in &report.stages {
        let nodes = stage.nodes.as_ref().ok_or("expected nodes, found none")?;
        let all = profile::of_stage(profiles.path(), stage.name);
        let by_gpu: Vec<_> = all.iter().filter_map(|ran| ran.get(WEBGPU_NAME)).collect();
        let by_others = all.iter().filter(|ran| ran.contains_key(WEBGPU_NAME) && ran.len() > 1);
        println!("{}: {nodes}; {by_gpu:?}", stage.name);
        if by_gpu.len() != 2 || by_others.count() > 0 || nodes.taken != nodes.all {
            return Err(format!("{}: expected all nodes in two sessions", stage.name).into());
        }
        // Of other stages ONNX Runtime joins some nodes once they are given away.
        let ran: usize = by_gpu[0].values().sum();
        if ran > nodes.taken || (stage.name == "step" && ran != nodes.taken) {
            return Err(format!("{}: expected {nodes}, found {ran}", stage.name).into());
        }
    }
    Ok(())
}

/// What the stages make of the tokens of an image, against f32 on the CPU.
fn as_near_as_it_must_be() -> Checked {
    let [gpu, f32] = [open(Flavour::F16, &Stage::ALL)?, open(Flavour::F32, &[])?];
    let of = |scale| Request { guidance_scale: Some(scale), ..request(3, 128, 6) };
    let (plain, guided) = (of(1.0), of(1.5));
    let alike::Steps { worst, codes } = alike::steps(&f32, &gpu, &plain);
    // Guidance makes more of what the branches differ by, of errors, too: 0.70 % of the logits.
    let guided_codes = alike::steps(&f32, &gpu, &guided).codes;
    let psnr = alike::decoders(&f32, &gpu, &plain);
    let share = alike::encoders(&f32, &gpu, &plain);
    let is_near = worst <= 0.006 && codes.min(guided_codes) >= 0.99;
    if is_near && psnr >= 52.0 && share >= 0.985 {
        return Ok(());
    }
    Err("expected 0.6 % without guidance, 99 %, 52 dB and 98.5 %".into())
}

/// Four prompts ask for twenty attributes. Of f32's images the judge finds 98.5 % in them.
fn whole_images() -> Checked {
    let gpu = open(Flavour::F16, &Stage::ALL)?;
    let mut judge = Judge::open(&support::fixture("judge.onnx"));
    let prompts = judge::prompts()["prompts"].as_array().ok_or("expected prompts")?;
    let mut shown = 0;
    for prompt in &prompts[..4] {
        let found =
            judge.score(&image(gpu.generate(&judge::request(prompt), go_on)?)?, &prompt["labels"]);
        println!("{}: {found} of {}", prompt["prompt"], judge::ATTRIBUTES.len());
        shown += found;
    }
    if shown >= 18 { Ok(()) } else { Err(format!("expected 18 of 20, found {shown}").into()) }
}

fn step_of_int4() -> Checked {
    let cpu = open(Flavour::Int4, &[])?;
    let mut options = options(Flavour::Int4, &[Stage::Step]);
    options.providers.allow_fallback = true;
    let gpu = Pipeline::open_with(flavoured_package(Flavour::Int4), &options)?;
    let request = request(6, 128, 6);
    let [found, expected] = [gpu.generate(&request, go_on)?, cpu.generate(&request, go_on)?];
    let step = found.report.stages.iter().find(|stage| stage.name == "step");
    let nodes = step.and_then(|step| step.nodes.clone()).ok_or("expected nodes, found none")?;
    println!("step: {nodes}");
    if 10 * nodes.taken < 9 * nodes.all {
        return Err(format!("expected nine nodes in ten, found {nodes}").into());
    }
    like("an image of int4", &image(found)?, &image(expected)?)
}

/// It has no kernel that makes integers of floats, and none for a step of f32's resampling.
fn what_is_not_taken_whole() -> Checked {
    for flavour in [Flavour::Qdq, Flavour::F32] {
        let pipeline = open(flavour, &[Stage::Step])?;
        let step = |_: &Step<'_>| ControlFlow::Break(());
        let error = match pipeline.generate(&request(1, 64, 1), step) {
            Ok(_) => return Err(format!("{flavour}: expected a refusal, found an image").into()),
            Err(error) => error,
        };
        println!("{flavour}: {error}");
        let expected = "step: webgpu does not take the whole graph";
        if error.kind() != ErrorKind::ProviderFailed || !error.to_string().starts_with(expected) {
            return Err(format!("{flavour}: expected {expected:?}, found {error}").into());
        }
    }
    // What is left is what the rules of the exporter say.
    let mut options = options(Flavour::F32, &Stage::ALL);
    options.providers.allow_fallback = true;
    let pipeline = Pipeline::open_with(flavoured_package(Flavour::F32), &options)?;
    let request = Request { strength: Some(0.5), ..request(1, 64, 2) };
    let made = pipeline.edit(&request, &Source::new(RgbImage::new(64, 64)), go_on)?;
    Ok(left::check(Provider::WebGpu, &made.report.stages)?)
}
