//! Who steers a job: it stops wherever it is, halts, changes its threads and lets go of its memory,
//! and the images stay the same bit for bit.

use std::{ops::ControlFlow, sync::mpsc, thread};

use image::{Rgb, RgbImage};
use pocketmuse::{
    Control, Error, ErrorKind, Job, Options, Origin, Phase, Pipeline, Prediction, Progress,
    Request, Source, Stage, Step, Video, Watch,
};

use crate::support::{self, logged, package};

const PROMPT: &str = "a zanzibar lighthouse";

/// Moments at which each kind of job is stopped.
const MOMENTS: usize = 40;

/// The same where each stage is loaded again: other moments of the same steps are stopped above.
const MOMENTS_STAGED: usize = 10;

fn open(options: Options) -> Pipeline {
    support::open(&package("tiny-world"), options)
}

fn request() -> Request {
    Request {
        prompt: PROMPT.to_owned(),
        seed: 3,
        num_inference_steps: Some(3),
        height: Some(64),
        width: Some(64),
        ..Request::default()
    }
}

/// A job of every kind, by its name.
fn jobs(pipeline: &Pipeline) -> Vec<(&'static str, Job)> {
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([(4 * x) as u8, (4 * y) as u8, 90]));
    let mask = Source::new(image.clone()).with_box([10, 20, 40, 36]).expect("inside");
    let whole = Source::new(image.clone());
    let video = Video { frames: 3, motion: [16.0, 0.0], end: Some(image), ..Video::default() };
    let job = |request: Request, origin| pipeline.job(&request, origin);
    let several = Request { num_images_per_prompt: 2, ..request() };
    let varied = Request { variation: Some(0.5), ..several.clone() };
    let strong = Request { strength: Some(0.7), ..request() };
    [
        ("images", job(several, Origin::Nothing)),
        ("variations", job(varied, Origin::Nothing)),
        ("an edit", job(strong, Origin::Image(&whole))),
        ("an edit of a part", job(request(), Origin::Image(&mask))),
        ("a video", pipeline.video_job(&request(), &video)),
    ]
    .map(|(name, job)| (name, job.unwrap_or_else(|error| panic!("{name}: {error}"))))
    .into()
}

/// Sees all that comes of a job, and does something at each event.
struct Seen<F> {
    frames: Vec<RgbImage>,
    events: usize,
    act: F,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Progress(Progress),
    Step(usize),
    Frame(u32),
}

impl<F: FnMut(usize, Event)> Seen<F> {
    fn new(act: F) -> Self {
        Self { frames: Vec::new(), events: 0, act }
    }

    fn event(&mut self, event: Event) {
        (self.act)(self.events, event);
        self.events += 1;
    }
}

impl<F: FnMut(usize, Event)> Watch for Seen<F> {
    fn progress(&mut self, progress: &Progress) {
        self.event(Event::Progress(*progress));
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.event(Event::Step(step.step));
        ControlFlow::Continue(())
    }

    fn frame(&mut self, frame: u32, image: RgbImage) -> ControlFlow<()> {
        self.frames.push(image);
        self.event(Event::Frame(frame));
        ControlFlow::Continue(())
    }
}

/// Runs a job that `control` steers; `act` is told of every event and its number. Returns all
/// images.
fn run(
    pipeline: &Pipeline,
    job: &Job,
    control: &Control,
    act: impl FnMut(usize, Event),
) -> Result<Vec<RgbImage>, Error> {
    let mut seen = Seen::new(act);
    let output = pipeline.with_control(control).run(job, &mut seen)?;
    Ok(seen.frames.into_iter().chain(output.images).collect())
}

/// The images of a job that nobody steers, and how many events there were.
fn made(pipeline: &Pipeline, job: &Job) -> (Vec<RgbImage>, usize) {
    let mut events = 0;
    let images = run(pipeline, job, &Control::new(), |_, _| events += 1);
    (images.unwrap_or_else(|error| panic!("{error}")), events)
}

fn is_cancelled<T>(result: Result<T, Error>) -> bool {
    result.err().is_some_and(|error| error.kind() == ErrorKind::Cancelled)
}

#[test]
fn a_job_stops_at_any_event_and_the_next_is_the_same() {
    stops_at_any_event(Options::default(), MOMENTS);
}

#[test]
#[ignore = "slow: loads every stage again for each of 50 stops"]
fn a_job_stops_at_any_event_with_each_stage_loaded_alone() {
    stops_at_any_event(Options { staged: true, ..Options::default() }, MOMENTS_STAGED);
}

fn stops_at_any_event(options: Options, moments: usize) {
    let pipeline = open(options);
    for (name, job) in jobs(&pipeline) {
        let (images, _) = made(&pipeline, &job);
        let (again, events) = made(&pipeline, &job); // with all that is warm
        assert_eq!(again, images, "{name}");
        for moment in 0..moments {
            // The last event is the end: nothing is left to be stopped.
            let at = moment * (events - 2) / (moments - 1);
            let control = Control::new();
            let mut last = 0;
            let stopped = run(&pipeline, &job, &control, |event, _| {
                last = event;
                if event == at {
                    control.cancel();
                }
            });
            assert!(is_cancelled(stopped), "{name}, event {at} of {events}");
            assert!(last <= at + 2, "{name}: {last} events, stopped at {at}");
            if moment % 5 == 0 {
                assert_eq!(made(&pipeline, &job).0, images, "{name} after event {at}");
            }
        }
        assert_eq!(made(&pipeline, &job).0, images, "{name}");
    }
}

/// The stage that runs a graph next, if this is told right before.
fn begun(event: Event) -> Option<&'static str> {
    match event {
        Event::Progress(Progress { phase: Phase::Running { stage }, .. }) => Some(stage.name()),
        Event::Progress(Progress { phase: Phase::Step { .. }, .. }) => Some("step"),
        Event::Progress(Progress { phase: Phase::Decoding { .. }, .. }) => Some("decoder"),
        _ => None,
    }
}

/// Stops a job from another thread, at about the time that the graph of `stage` begins to run.
/// Returns how it ended, and whether the graph did not come to its end.
fn stopped_in(pipeline: &Pipeline, job: &Job, stage: &str) -> (Result<Vec<RgbImage>, Error>, bool) {
    let control = Control::new();
    let (tell, told) = mpsc::channel();
    let mut after = None; // events since then
    let result = thread::scope(|scope| {
        let canceller = control.canceller();
        scope.spawn(move || told.recv().map(|()| canceller.cancel()));
        let tell = tell; // hung up when the job is over
        run(pipeline, job, &control, |_, event| {
            if let Some(after) = &mut after {
                *after += 1;
            } else if begun(event) == Some(stage) {
                after = Some(0);
                tell.send(()).expect("somebody listens");
            }
        })
    });
    (result, after == Some(0))
}

#[test]
fn a_graph_that_runs_is_stopped_in_every_stage_without_a_word() {
    let pipeline = open(Options::default());
    let (side, steps) = (Some(256), Some(1)); // long runs, and few of them
    let large = Request { height: side, width: side, num_inference_steps: steps, ..request() };
    let source = Source::new(RgbImage::from_fn(256, 256, |x, y| Rgb([x as u8, y as u8, 90])));
    let edit = Request { strength: Some(1.0), ..large.clone() };
    let image = pipeline.job(&large, Origin::Nothing).expect("it fits");
    let edit = pipeline.job(&edit, Origin::Image(&source)).expect("it fits");
    // Which thread is faster is chance: where a run is long, it is tried until the graph was running.
    for (stage, job, is_long) in [
        ("text_encoder", &image, false),
        ("prologue", &image, false),
        ("step", &image, true),
        ("decoder", &image, true),
        ("encoder", &edit, true),
    ] {
        let (expected, _) = made(&pipeline, job);
        let mut is_stopped = false;
        for _ in 0..if is_long { 100 } else { 3 } {
            pipeline.trim(); // forgets prompts and images, whose stages would be passed over
            let mut result = Ok(Vec::new());
            let text = logged(|| (result, is_stopped) = stopped_in(&pipeline, job, stage));
            match result {
                Ok(images) => assert_eq!(images, expected, "{stage}: it was too late"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{stage}: {error}"),
            }
            let is_silent = !text.contains("erminat") && !text.contains("onnxruntime");
            assert!(is_silent, "{stage}: {text}");
            assert!(!text.contains("zanzibar"), "{stage}: {text}");
            if is_stopped {
                break;
            }
        }
        assert!(is_stopped || !is_long, "{stage}: never while its graph ran");
        assert_eq!(made(&pipeline, job).0, expected, "{stage}");
    }
}

#[test]
fn nothing_is_done_when_it_is_cancelled_before_and_nothing_changes_after() {
    let pipeline = open(Options::default());
    let (_, job) = jobs(&pipeline).swap_remove(0);
    let control = Control::new();
    let images = run(&pipeline, &job, &control, |_, _| ()).expect("made");
    control.cancel(); // after the job
    let mut events = 0;
    assert!(is_cancelled(run(&pipeline, &job, &control, |_, _| events += 1)));
    assert_eq!(events, 0);
    assert_eq!(made(&pipeline, &job).0, images);
}

#[test]
fn who_waits_can_be_cancelled_and_is_told_that_it_waits() {
    let pipeline = open(Options::default());
    let (_, job) = jobs(&pipeline).swap_remove(0);
    let (expected, _) = made(&pipeline, &job);
    let control = Control::new();
    let (waits, told) = mpsc::channel();
    thread::scope(|scope| {
        let mut waiting = None;
        let images = run(&pipeline, &job, &Control::new(), |_, event| {
            if event != Event::Step(0) {
                return;
            }
            let (pipeline, job, control, waits) = (&pipeline, &job, &control, waits.clone());
            let other = scope.spawn(move || {
                run(pipeline, job, control, |number, event| {
                    let Event::Progress(progress) = event else { return };
                    let is_first = progress.phase == Phase::Waiting && progress.share == 0.0;
                    assert!(number == 0 && is_first && progress.time_left.is_none());
                    waits.send(()).expect("somebody listens");
                })
            });
            told.recv().expect("it waits");
            control.cancel();
            waiting = Some(other.join().expect("no panic")); // while this one has its turn
        });
        assert_eq!(images.expect("it goes on"), expected);
        assert!(is_cancelled(waiting.expect("it waited")));
    });
}

#[test]
fn files_are_checked_in_pieces_that_can_be_stopped() {
    for stop in [true, false] {
        let pipeline = open(Options::default()); // which has checked nothing
        let (_, job) = jobs(&pipeline).swap_remove(0);
        let control = Control::new();
        let mut found = Vec::new();
        let result = run(&pipeline, &job, &control, |_, event| {
            if let Event::Progress(Progress { phase: Phase::Checking { bytes, of }, .. }) = event {
                found.push((bytes, of));
                if stop && bytes > 0 {
                    control.cancel();
                }
            }
        });
        let of = found[0].1;
        let entry = &pipeline.manifest().flavours[&pocketmuse::Flavour::F32].stages;
        let used = entry.iter().filter(|(stage, _)| **stage != pocketmuse::Stage::Encoder);
        let files = used.flat_map(|(_, entry)| std::iter::once(&entry.graph).chain(&entry.weights));
        assert_eq!(of, files.map(|file| file.bytes).sum::<u64>());
        assert!(found.iter().all(|(_, all)| *all == of) && found.is_sorted());
        assert_eq!(is_cancelled(result), stop);
        assert_eq!(found.last() == Some(&(of, of)), !stop, "{found:?}");
        let (_, events) = made(&pipeline, &job);
        assert!(events > 0, "it goes on where it was stopped");
    }
}

#[test]
fn a_job_that_halts_and_changes_threads_at_every_step_is_the_same() {
    let pipeline = open(Options::default());
    for (name, job) in jobs(&pipeline) {
        let (expected, _) = made(&pipeline, &job);
        let control = Control::new();
        let (halts, told) = mpsc::channel();
        let mut changes = 0;
        let images = thread::scope(|scope| {
            scope.spawn(|| {
                for () in told {
                    assert!(control.is_paused());
                    control.go_on();
                }
            });
            let halts = halts; // hung up when the job is over
            run(&pipeline, &job, &control, |_, event| {
                if !matches!(event, Event::Progress(_)) {
                    changes += 1;
                    control.set_threads(1 + changes % 2);
                    control.pause();
                    halts.send(()).expect("somebody listens");
                }
            })
        });
        assert_eq!(images.expect(name), expected, "{name}");
        assert!(changes > 1, "{name}");
        assert_eq!(made(&pipeline, &job).0, expected, "{name}, with its own threads again");
    }
}

#[test]
fn who_halts_is_woken_by_a_cancel() {
    let pipeline = open(Options::default());
    for (name, job) in jobs(&pipeline) {
        let control = Control::new();
        let (halts, told) = mpsc::channel();
        let result = thread::scope(|scope| {
            let canceller = control.canceller();
            scope.spawn(move || told.recv().map(|()| canceller.cancel()));
            run(&pipeline, &job, &control, |_, event| {
                if event == Event::Step(1) || event == Event::Step(2) {
                    control.pause();
                    let _ = halts.send(()); // once is enough
                }
            })
        });
        assert!(is_cancelled(result), "{name}");
    }
}

#[test]
fn what_is_warm_can_be_dropped_between_jobs_and_at_every_step() {
    let pipeline = open(Options::default());
    for (name, job) in jobs(&pipeline) {
        let (expected, _) = made(&pipeline, &job);
        let warm = pipeline.trim();
        assert!(warm > 8 << 20, "{name}: {warm} bytes");
        assert_eq!(pipeline.trim(), 0, "{name}: all is gone");
        for through_control in [true, false] {
            let control = Control::new();
            let mut held = Vec::new();
            let images = run(&pipeline, &job, &control, |_, event| {
                if matches!(event, Event::Progress(_)) {
                    return;
                }
                if through_control {
                    control.trim();
                } else {
                    held.push(pipeline.trim()); // from within the job
                }
            });
            assert_eq!(images.expect(name), expected, "{name}");
            assert!(held.first().is_none_or(|bytes| *bytes > 8 << 20), "{name}: {held:?}");
            assert_eq!(pipeline.trim(), 0, "{name}: nothing stays after a job that was trimmed");
        }
        assert_eq!(made(&pipeline, &job).0, expected, "{name}");
    }
}

#[test]
fn a_job_that_halts_lets_go_of_all_its_stages() {
    let pipeline = open(Options::default());
    let (name, job) = jobs(&pipeline).swap_remove(0);
    let (expected, _) = made(&pipeline, &job);
    let control = Control::new();
    let (halts, told) = mpsc::channel();
    let images = thread::scope(|scope| {
        let (pipeline, control) = (&pipeline, &control);
        scope.spawn(move || {
            told.recv().expect("it halts now or soon");
            let before = pipeline.trim();
            while pipeline.trim() > before / 10 {
                thread::yield_now(); // until it has heard of it
            }
            control.go_on();
        });
        run(pipeline, &job, control, |_, event| {
            if event == Event::Step(1) {
                control.pause();
                halts.send(()).expect("somebody listens");
            }
        })
    });
    assert_eq!(images.expect(name), expected);
}

#[test]
fn what_is_warm_is_not_loaded_again() {
    let pipeline = open(Options::default());
    for (name, job) in jobs(&pipeline) {
        let (expected, _) = made(&pipeline, &job);
        pipeline.trim();
        let mut told = Vec::new();
        let mut seen = Seen::new(|_, event| told.push(event));
        pipeline.warm(&job, &mut seen).expect(name);
        let loads = |told: &[Event]| told.iter().filter(|event| is_load(event)).count();
        assert!(loads(&told) >= 4, "{name}: {told:?}");
        let share = |event: &Event| match event {
            Event::Progress(progress) => Some(progress.share),
            _ => None,
        };
        let shares: Vec<_> = told.iter().filter_map(share).collect();
        assert!(shares.is_sorted() && shares.last() == Some(&1.0), "{name}: {told:?}");
        let mut after = Vec::new();
        let images = run(&pipeline, &job, &Control::new(), |_, event| after.push(event));
        assert_eq!(images.expect(name), expected, "{name}");
        // The encoder, which edits alone need, stays for none.
        let encodes = usize::from(after.iter().any(|event| is_load_of(event, Stage::Encoder)));
        assert_eq!(loads(&after), encodes, "{name}: {after:?}");
    }
    let stopped = Control::new();
    stopped.cancel();
    let job = pipeline.job(&request(), Origin::Nothing).expect("a job");
    let mut watch = |_: &Step<'_>| ControlFlow::Continue(());
    let error = pipeline.with_control(stopped).warm(&job, &mut watch).expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

fn is_load(event: &Event) -> bool {
    Stage::ALL.into_iter().any(|stage| is_load_of(event, stage))
}

fn is_load_of(event: &Event, stage: Stage) -> bool {
    matches!(event, Event::Progress(progress) if progress.phase == Phase::Loading { stage })
}

/// Panics at one of its methods, with the prompt.
struct Panics(&'static str);

impl Panics {
    fn at(&self, method: &str) {
        assert_ne!(self.0, method, "{PROMPT}");
    }
}

impl Watch for Panics {
    fn progress(&mut self, _: &Progress) {
        self.at("progress");
    }

    fn wants_predictions(&self) -> bool {
        self.at("wants_predictions");
        self.0 == "prediction"
    }

    fn prediction(&mut self, _: &Prediction<'_>) {
        self.at("prediction");
    }

    fn step(&mut self, _: &Step<'_>) -> ControlFlow<()> {
        self.at("step");
        ControlFlow::Continue(())
    }

    fn frame(&mut self, _: u32, _: RgbImage) -> ControlFlow<()> {
        self.at("frame");
        ControlFlow::Continue(())
    }
}

#[test]
fn a_panic_is_an_error_and_the_pipeline_works_on() {
    let pipeline = open(Options::default());
    let mut jobs = jobs(&pipeline);
    let (_, video) = jobs.pop().expect("the last");
    let (_, image) = jobs.swap_remove(0);
    let expected = made(&pipeline, &image).0;
    for method in ["progress", "wants_predictions", "prediction", "step", "frame"] {
        let job = if method == "frame" { &video } else { &image };
        let error = pipeline.run(job, &mut Panics(method)).map(|_| ()).expect_err(method);
        assert_eq!(error.kind(), ErrorKind::Internal, "{method}: {error}");
        assert!(!format!("{error:?}").contains("zanzibar"), "{method}: {error:?}");
        assert_eq!(made(&pipeline, &image).0, expected, "after a panic in {method}");
    }
}
