//! What a job tells of how far it is: a share that never falls and ends at 1, phases in order, and
//! the time left.

use std::ops::ControlFlow;

use image::{Rgb, RgbImage};
use pocketmuse::{
    Control, Job, Options, Origin, Phase, Pipeline, Progress, Request, Source, Stage, Step,
    Tileable, Video, Watch,
};

use crate::support::{self, package};

fn open(options: Options) -> Pipeline {
    support::open(&package("tiny-world"), options)
}

fn request() -> Request {
    Request {
        prompt: "a red robot".to_owned(),
        seed: 3,
        num_inference_steps: Some(4),
        height: Some(64),
        width: Some(64),
        ..Request::default()
    }
}

/// Collects what it is told.
#[derive(Default)]
struct Told {
    told: Vec<Progress>,
    /// How many there were when each step was over.
    steps: Vec<usize>,
    states: Vec<pocketmuse::job::State>,
}

/// Collects what it is told, and keeps the states of an image.
struct Teller<'a>(&'a Pipeline, Told);

impl Watch for Teller<'_> {
    fn progress(&mut self, progress: &Progress) {
        self.1.told.push(*progress);
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.1.steps.push(self.1.told.len());
        self.1.states.push(self.0.state(step));
        ControlFlow::Continue(())
    }
}

fn told(pipeline: &Pipeline, job: &Job, control: &Control) -> Told {
    let mut teller = Teller(pipeline, Told::default());
    let made = pipeline.with_control(control).run(job, &mut teller);
    made.unwrap_or_else(|error| panic!("{error}"));
    teller.1
}

/// Checks what holds for every job.
fn check(name: &str, told: &[Progress]) {
    assert!(told.is_sorted_by(|before, after| before.share <= after.share), "{name}: {told:?}");
    let (end, before) = told.split_last().expect("it is told");
    assert_eq!(end.share, 1.0, "{name}");
    assert!(end.time_left.is_some_and(|time| time.is_zero()), "{name}");
    assert!(before.iter().all(|progress| (0.0..1.0).contains(&progress.share)), "{name}");
    for progress in told {
        let is_inside = match progress.phase {
            Phase::Checking { bytes, of } => bytes <= of,
            Phase::Step { step, of } => step < of,
            Phase::Decoding { image, of } => image < of,
            Phase::Frame { frame, of } => frame < of,
            _ => true,
        };
        assert!(is_inside, "{name}: {progress:?}");
    }
}

/// A job of every kind, by its name.
fn jobs(pipeline: &Pipeline) -> Vec<(&'static str, Job)> {
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([(4 * x) as u8, (4 * y) as u8, 90]));
    let source = Source::new(image.clone());
    let mask = Source::new(image.clone()).with_box([10, 20, 40, 36]).expect("inside");
    let moving = Video { frames: 4, motion: [16.0, 0.0], end: Some(image), ..Video::default() };
    let still = Video { frames: 3, motion: [0.0; 2], remask: 0.0, ..Video::default() };
    let job = |request: Request| pipeline.job(&request, Origin::Nothing);
    let edit = |source: &Source, strength| {
        let request = Request { strength: Some(strength), ..request() };
        pipeline.job(&request, Origin::Image(source))
    };
    [
        ("an image", job(request())),
        ("images", job(Request { num_images_per_prompt: 3, ..request() })),
        ("without guidance", job(Request { guidance_scale: Some(0.0), ..request() })),
        ("weighted words", job(Request { prompt: "a (red:1.4) robot".to_owned(), ..request() })),
        ("variations", {
            job(Request { variation: Some(0.5), num_images_per_prompt: 2, ..request() })
        }),
        ("no variation", job(Request { variation: Some(0.0), ..request() })),
        ("a tile", job(Request { tileable: Tileable::Both, ..request() })),
        ("an edit", edit(&source, 0.6)),
        ("an edit of nothing", edit(&source, 0.0)),
        ("an edit of a part", edit(&mask, 1.0)),
        ("a video", pipeline.video_job(&request(), &moving)),
        ("a video that stands still", pipeline.video_job(&request(), &still)),
    ]
    .map(|(name, job)| (name, job.unwrap_or_else(|error| panic!("{name}: {error}"))))
    .into()
}

#[test]
fn the_share_never_falls_and_ends_at_one_for_every_kind_of_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let prepared = Some(folder.path().join("prepared"));
    for (staged, prepared) in [(false, None), (true, prepared)] {
        let options = Options { staged, prepared, ..Options::default() };
        // A hundred jobs, most of which load all stages: those of the smallest model.
        let pipeline = support::open(&package("tiny-256"), options);
        for (name, job) in jobs(&pipeline) {
            for turn in ["first", "second", "halted, trimmed, with other threads"] {
                let control = Control::new();
                if turn.starts_with("halted") {
                    control.set_threads(2);
                    control.trim();
                }
                let found = told(&pipeline, &job, &control);
                check(&format!("{name}, {turn}, staged {staged}"), &found.told);
            }
        }
    }
}

#[test]
fn a_job_that_goes_on_counts_what_is_left() {
    let pipeline = open(Options::default());
    let varied = Request { variation: Some(0.5), num_images_per_prompt: 2, ..request() };
    for request in [request(), varied] {
        let job = pipeline.job(&request, Origin::Nothing).expect("it fits");
        for state in told(&pipeline, &job, &Control::new()).states {
            let job = pipeline.job(&request, Origin::Saved(&state, None)).expect("it was saved");
            let found = told(&pipeline, &job, &Control::new());
            check(&format!("after step {}", state.next_step), &found.told);
            assert_eq!(found.steps.len(), job.steps() - state.next_step);
        }
    }
}

#[test]
fn phases_come_in_the_order_of_the_work() {
    let pipeline = open(Options::default());
    let job = pipeline.job(&request(), Origin::Nothing).expect("it fits");
    let phases = |job: &Job| {
        let found = told(&pipeline, job, &Control::new()).told;
        let mut phases: Vec<_> = found.iter().map(|progress| progress.phase).collect();
        phases.retain(|phase| !matches!(phase, Phase::Checking { .. })); // by the size of files
        phases.dedup();
        phases
    };
    let loading = |stage| Phase::Loading { stage };
    let running = |stage| Phase::Running { stage };
    let mut cold = vec![
        loading(Stage::TextEncoder),
        running(Stage::TextEncoder),
        loading(Stage::Prologue),
        running(Stage::Prologue),
        loading(Stage::Step),
    ];
    cold.extend((0..4).map(|step| Phase::Step { step, of: 4 }));
    cold.extend([loading(Stage::Decoder), Phase::Decoding { image: 0, of: 1 }]);
    assert_eq!(phases(&job), cold);
    cold.retain(|phase| !matches!(phase, Phase::Loading { .. }));
    cold.drain(..2); // what the prompt becomes is known
    assert_eq!(phases(&job), cold);
    let video = Video { frames: 2, motion: [16.0, 0.0], ..Video::default() };
    let video = pipeline.video_job(&request(), &video).expect("it fits");
    let frames = phases(&video);
    let at = |phase| frames.iter().position(|found| *found == phase).expect("it comes");
    assert!(at(Phase::Frame { frame: 0, of: 2 }) < at(Phase::Decoding { image: 0, of: 1 }));
    assert!(at(Phase::Decoding { image: 0, of: 1 }) < at(Phase::Frame { frame: 1, of: 2 }));
}

#[test]
fn the_time_left_is_known_from_the_start_once_a_job_of_its_kind_was_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || Options { prepared: Some(folder.path().join("p")), ..Options::default() };
    let job = |pipeline: &Pipeline, request: &Request| {
        pipeline.job(request, Origin::Nothing).expect("it fits")
    };
    let first = open(options());
    let found = told(&first, &job(&first, &request()), &Control::new()).told;
    assert_eq!(found[0].time_left, None, "nothing ran on this machine yet");
    assert!(found.iter().filter(|progress| progress.time_left.is_some()).count() > 4);
    let again = open(options()); // as in another process
    let found = told(&again, &job(&again, &request()), &Control::new()).told;
    assert!(found.iter().all(|progress| progress.time_left.is_some()), "{found:?}");
    let other = Request { width: Some(96), ..request() };
    assert_eq!(told(&again, &job(&again, &other), &Control::new()).told[0].time_left, None);
}
