//! A job on a thread of its own: what steers it, and who is told. Knows no language.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::Instant,
};

use image::RgbImage;
use pocketmuse::{Control, Output, Pipeline, Preview, Step, Watch, job::State};

use crate::{
    bytes::Bytes,
    error::{PocketMuseError, guard},
    image::GeneratedImage,
    listener::{Listener, Outcome, Previews},
    pixels::Pixels,
    threads::{self, lock},
    work::Work,
};

/// A job that runs, or ran. Dropping it changes nothing; the job goes on.
#[derive(uniffi::Object)]
pub struct Job {
    running: Arc<Running>,
}

#[uniffi::export]
impl Job {
    /// Stops the job: while it waits for its turn, while a network runs, at any time. It ends with
    /// `Cancelled`, unless it has ended already. Returns at once.
    pub fn cancel(&self) {
        self.running.control.cancel();
    }

    /// Halts the job before its next step, image or frame. It computes nothing then and keeps its
    /// turn and its memory.
    pub fn pause(&self) {
        self.running.control.pause();
    }

    /// Lets a job that was halted go on.
    pub fn go_on(&self) {
        self.running.control.go_on();
    }

    /// Computes with so many threads, 1 to 1,024, from the next step, image or frame on. The images
    /// stay the same. It counts for this job alone.
    pub fn set_threads(&self, threads: u32) {
        self.running.control.set_threads(threads as usize);
    }

    /// Drops what the job keeps loaded, as soon as it has finished its step or image, and at once
    /// if it halts. The rest of the job loads every network alone: less memory, more time, the same
    /// images.
    pub fn trim(&self) {
        self.running.control.trim();
    }

    /// What is needed to go on after the last step that was finished, in another process, too:
    /// `null` before the first. A few thousand bytes, and of an edit 3 or 4 for each pixel besides.
    /// They hold the prompt and the image.
    pub fn state(&self) -> Result<Option<Bytes>, PocketMuseError> {
        guard(|| {
            let state = lock(&self.running.state).clone();
            Ok(state.map(|state| state.to_bytes().into()))
        })
    }
}

/// A job on its way, as its thread, its [`Job`] and its generator see it.
pub(crate) struct Running {
    control: Control,
    closed: AtomicBool,
    /// After the last step that was finished.
    state: Mutex<Option<State>>,
    /// The thread that it runs on.
    thread: Mutex<Option<ThreadId>>,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Running {
    /// Stops it because its generator is closed.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.control.cancel();
    }

    /// Waits until the job's thread is done with everything. Its own thread does not wait for
    /// itself.
    pub(crate) fn wait(&self) {
        if *lock(&self.thread) == Some(thread::current().id()) {
            return;
        }
        let ended = lock(&self.ended);
        drop(self.changed.wait_while(ended, |ended| !*ended));
    }

    /// Whether its thread is done.
    pub(crate) fn has_ended(&self) -> bool {
        *lock(&self.ended)
    }

    fn end(&self) {
        *lock(&self.ended) = true;
        self.changed.notify_all();
    }
}

/// Starts a job on a thread of its own.
pub(crate) fn start(
    pipeline: Arc<Pipeline>,
    work: Work,
    previews: Previews,
    listener: Arc<dyn Listener>,
) -> Result<(Arc<Job>, Arc<Running>), PocketMuseError> {
    let running = Arc::new(Running {
        control: Control::new(),
        closed: AtomicBool::new(false),
        state: Mutex::new(None),
        thread: Mutex::new(None),
        ended: Mutex::new(false),
        changed: Condvar::new(),
    });
    let on_thread = Arc::clone(&running);
    let body = move || {
        *lock(&on_thread.thread) = Some(thread::current().id());
        run(pipeline, work, previews, &on_thread, &*listener);
        drop(listener);
        on_thread.end();
    };
    threads::spawn(body)?;
    Ok((Arc::new(Job { running: Arc::clone(&running) }), running))
}

/// Runs a job to its end, and tells of it.
fn run(
    pipeline: Arc<Pipeline>,
    work: Work,
    previews: Previews,
    running: &Running,
    listener: &dyn Listener,
) {
    let outcome = guard(|| execute(&pipeline, work, previews, running, listener));
    drop(pipeline);
    let outcome = outcome.unwrap_or_else(|error| Outcome::Failed {
        error: match error {
            PocketMuseError::Cancelled if running.closed.load(Ordering::SeqCst) => {
                PocketMuseError::Closed
            }
            error => error,
        },
    });
    threads::call_last("job", || listener.ended(outcome));
}

fn execute(
    pipeline: &Pipeline,
    work: Work,
    previews: Previews,
    running: &Running,
    listener: &dyn Listener,
) -> Result<Outcome, PocketMuseError> {
    if running.control.canceller().is_cancelled() {
        return Err(PocketMuseError::Cancelled);
    }
    let is_warm = matches!(work, Work::Warm { .. });
    let job = work.job(pipeline)?;
    let preview = if previews == Previews::No { None } else { pipeline.preview()? };
    let request = job.request().clone();
    let is_small = previews == Previews::Small;
    let mut teller =
        Teller { pipeline, running, listener, preview, is_small, request, failure: None };
    let steered = pipeline.with_control(&running.control);
    let output = if is_warm {
        steered.warm(&job, &mut teller).map(|_| None)
    } else {
        steered.run(&job, &mut teller).map(Some)
    };
    if let Some(failure) = teller.failure {
        return Err(failure);
    }
    let Some(output) = output? else {
        let request = job.request().clone().into();
        return Ok(Outcome::Finished { images: Vec::new(), request, truncated: Vec::new() });
    };
    let Output { images, request, truncated, made_by, .. } = output;
    let image = |(at, image)| GeneratedImage::new(image, &request, Some(made_by.of_image(at)));
    let images = images.into_iter().enumerate().map(image).collect();
    Ok(Outcome::Finished { images, request: request.into(), truncated })
}

/// Tells a listener of everything, and keeps what it throws.
struct Teller<'a> {
    pipeline: &'a Pipeline,
    running: &'a Running,
    listener: &'a dyn Listener,
    preview: Option<Preview>,
    is_small: bool,
    request: pocketmuse::Request,
    failure: Option<PocketMuseError>,
}

impl Teller<'_> {
    /// Calls the listener. What it throws stops the job at once.
    fn tell(
        &mut self,
        call: impl FnOnce(&dyn Listener) -> Result<(), PocketMuseError>,
    ) -> ControlFlow<()> {
        if self.failure.is_some() {
            return ControlFlow::Break(());
        }
        match guard(|| threads::call(|| call(self.listener))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failure = Some(failure);
                self.running.control.cancel();
                ControlFlow::Break(())
            }
        }
    }
}

impl Watch for Teller<'_> {
    fn progress(&mut self, progress: &pocketmuse::Progress) {
        // Whether to go on is asked after every step; what is thrown here stops it before.
        let _ = self.tell(|listener| listener.progress(progress.into()));
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        *lock(&self.running.state) = Some(self.pipeline.state(step));
        let Some(preview) = &self.preview else { return ControlFlow::Continue(()) };
        let begin = Instant::now();
        let image = if self.is_small { preview.thumbnail(step, 0) } else { preview.image(step, 0) };
        let Some(image) = image else { return ControlFlow::Continue(()) };
        let drawn = begin.elapsed();
        let flow = self.tell(|listener| listener.preview(Pixels::of(&image)?));
        let taken = begin.elapsed().saturating_sub(drawn);
        let [drawn, taken] = [drawn, taken].map(|time| time.as_micros());
        log::trace!("a preview was drawn in {drawn} us and taken in {taken} us");
        flow
    }

    fn frame(&mut self, frame: u32, image: RgbImage) -> ControlFlow<()> {
        let image = GeneratedImage::new(image, &self.request, None);
        self.tell(|listener| listener.frame(frame, image))
    }
}
