//! What prompts became is kept for the next image of them: it begins with its second step, and is the
//! same bit for bit.

use image::RgbImage;
use pocketmuse::{
    Budget, Flavour, Job, Options, Origin, Phase, Pipeline, Progress, Request, Source, Stage,
    Video, Watch,
};

use crate::support::{self, flavoured_package};

const STEPS: usize = 3;

fn open(flavour: Flavour, options: Options) -> Pipeline {
    support::open(&flavoured_package(flavour), Options { flavour: Some(flavour), ..options })
}

fn request(seed: u64) -> Request {
    Request {
        seed,
        num_inference_steps: Some(STEPS as u32),
        guidance_scale: Some(3.0),
        height: Some(64),
        width: Some(64),
        ..Request::new("a red (lighthouse:1.2) by the sea")
    }
}

/// What of a job was run: the stages before the steps, and how often each step told of itself: for
/// each image when it begins, and when the graph has run.
#[derive(Default)]
struct Ran {
    before: Vec<Stage>,
    steps: [usize; STEPS],
    frames: Vec<RgbImage>,
}

impl Watch for Ran {
    fn progress(&mut self, progress: &Progress) {
        match progress.phase {
            Phase::Running { stage } if !self.before.contains(&stage) => self.before.push(stage),
            Phase::Step { step, .. } => self.steps[step] += 1,
            _ => {}
        }
    }

    fn frame(&mut self, _: u32, image: RgbImage) -> std::ops::ControlFlow<()> {
        self.frames.push(image);
        std::ops::ControlFlow::Continue(())
    }
}

/// Runs a job: its images, the prompt's stages that ran for them, and whether the first step did.
fn made(pipeline: &Pipeline, job: &Job) -> (Vec<RgbImage>, Vec<Stage>, bool) {
    let mut ran = Ran::default();
    let output = pipeline.run(job, &mut ran).unwrap_or_else(|error| panic!("{error}"));
    let before: Vec<_> = ran.before.into_iter().filter(|stage| *stage != Stage::Encoder).collect();
    let images: Vec<_> = ran.frames.into_iter().chain(output.images).collect();
    let is_first_run = ran.steps[0] > images.len();
    (images, before, is_first_run)
}

fn job(pipeline: &Pipeline, request: &Request) -> Job {
    pipeline.job(request, Origin::Nothing).unwrap_or_else(|error| panic!("{error}"))
}

/// Its images of `request` are those of a pipeline that made none before.
fn assert_as_alone(pipeline: &Pipeline, flavour: Flavour, request: &Request) -> (Vec<Stage>, bool) {
    let (found, before, is_first_run) = made(pipeline, &job(pipeline, request));
    let alone = open(flavour, Options::default());
    assert!(found == made(&alone, &job(&alone, request)).0, "{flavour} {request:?}");
    (before, is_first_run)
}

const BOTH: [Stage; 2] = [Stage::TextEncoder, Stage::Prologue];

/// int8 cannot tip here: what is compared was computed by the same graphs on the same processor.
#[test]
fn the_next_image_of_the_same_prompts_begins_with_its_second_step() {
    for flavour in [Flavour::F32, Flavour::Int8] {
        let pipeline = open(flavour, Options::default());
        let ran = |request: &Request| assert_as_alone(&pipeline, flavour, request);
        assert_eq!(ran(&request(1)), (BOTH.to_vec(), true));
        assert_eq!(ran(&request(2)), (vec![], false), "another seed");
        let several = Request { num_images_per_prompt: 2, ..request(3) };
        assert_eq!(ran(&several), (vec![], false), "several images");
        // What the first step is asked is another thing, what it is given is not.
        let stronger = Request { guidance_scale: Some(4.0), ..request(1) };
        assert_eq!(ran(&stronger), (vec![], true), "another guidance");
        assert_eq!(ran(&stronger), (vec![], false));
        let score = Request { aesthetic_score: 5.0, ..request(1) };
        assert_eq!(ran(&score), (vec![Stage::Prologue], true), "another score");
        let weight =
            Request { prompt: "a red (lighthouse:1.4) by the sea".to_owned(), ..request(1) };
        assert_eq!(ran(&weight), (vec![Stage::Prologue], true), "another weight");
        let wide = Request { width: Some(128), height: Some(32), ..request(1) };
        assert_eq!(ran(&wide), (vec![Stage::Prologue], true), "as many tokens, other sides");
        let unguided = Request { guidance_scale: Some(1.0), ..request(1) };
        assert_eq!(ran(&unguided), (vec![Stage::Prologue], true), "one branch");
        let other = Request { prompt: "a blue house".to_owned(), ..request(1) };
        assert_eq!(ran(&other), (BOTH.to_vec(), true), "another prompt");
        assert!(pipeline.trim() > 0);
        assert_eq!(ran(&other), (BOTH.to_vec(), true), "trimmed");
    }
}

#[test]
fn edits_and_videos_of_the_same_prompts_take_what_is_kept() {
    let pipeline = open(Flavour::F32, Options::default());
    let image = made(&pipeline, &job(&pipeline, &request(1))).0.remove(0);
    let alone = || open(Flavour::F32, Options::default());
    let edit = |pipeline: &Pipeline| {
        let strong = Request { strength: Some(0.7), ..request(2) };
        let job = pipeline.job(&strong, Origin::Image(&Source::new(image.clone())));
        made(pipeline, &job.expect("an edit"))
    };
    let (found, before, _) = edit(&pipeline);
    assert!(found == edit(&alone()).0 && before.is_empty(), "{before:?}");
    let film = |pipeline: &Pipeline| {
        let video = Video { frames: 2, ..Video::default() };
        made(pipeline, &pipeline.video_job(&request(2), &video).expect("a video"))
    };
    let (found, before, _) = film(&pipeline);
    assert!(found == film(&alone()).0 && before.is_empty(), "{before:?}");
    // Whoever looks inside sees every step.
    let trace = |pipeline: &Pipeline| {
        let watch = |_: &pocketmuse::Step<'_>| std::ops::ControlFlow::Continue(());
        pipeline.trace(&request(3), None, watch).unwrap_or_else(|error| panic!("{error}"))
    };
    let [(output, found), (expected, same)] = [trace(&pipeline), trace(&alone())];
    assert!(output.images == expected.images && found == same);
}

/// In the smallest budget that does, nothing is kept.
#[test]
fn a_small_budget_keeps_no_prompts() {
    let pipeline = open(Flavour::F32, Options { staged: true, ..Options::default() });
    let plan = pipeline.plan(&request(1)).expect("a plan");
    assert_eq!(plan.prompt_bytes, 0, "every stage is dropped");
    let bytes = plan.stages.iter().map(|stage| stage.peak_rss_bytes).max().expect("stages");
    let large = open(Flavour::F32, Options::default()).plan(&request(1)).expect("a plan");
    assert!(large.prompt_bytes > 0, "{large}");
    let told = large.to_string();
    assert!(told.lines().next().expect("a line").ends_with(" MB of the last prompts"), "{told}");
    let small = Options { memory: Budget::Bytes(bytes), ..Options::default() };
    let pipeline = open(Flavour::F32, small);
    for _ in 0..2 {
        let plan = pipeline.plan(&request(1)).expect("a plan");
        let kept = plan.prompt_bytes > 0;
        let (_, before, _) = made(&pipeline, &job(&pipeline, &request(1)));
        assert!(kept || before.contains(&Stage::Prologue), "{plan}\n{before:?}");
    }
}
