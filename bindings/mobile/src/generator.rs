//! A package that is open, and the jobs that run with it.

use std::sync::{Arc, Mutex};

use pocketmuse::Pipeline;

use crate::{
    capabilities::Capabilities,
    error::{PocketMuseError, guard},
    job::{self, Job, Running},
    listener::{Listener, Previews},
    logging,
    options::Options,
    telemetry,
    threads::lock,
    work::Work,
};

/// A package, ready to make images: what `Generator` of both languages is made of.
#[derive(uniffi::Object)]
pub struct NativeGenerator {
    /// `None` once it is closed.
    open: Mutex<Option<Open>>,
}

struct Open {
    pipeline: Arc<Pipeline>,
    /// Those that may still run.
    jobs: Vec<Arc<Running>>,
}

#[uniffi::export]
impl NativeGenerator {
    /// Opens a package folder and starts ONNX Runtime. Cheap: loads no graph.
    ///
    /// ONNX Runtime's usage reports are switched off first, with the environment variable
    /// `ORT_DISABLE_TELEMETRY`. An app that sets it to `0` before, lets it report.
    #[uniffi::constructor]
    pub fn open(package: String, options: Options) -> Result<Arc<Self>, PocketMuseError> {
        guard(|| {
            logging::start();
            telemetry::switch_off();
            let pipeline = Arc::new(Pipeline::open_with(package, &options.try_into()?)?);
            let open = Open { pipeline, jobs: Vec::new() };
            Ok(Arc::new(Self { open: Mutex::new(Some(open)) }))
        })
    }

    /// What the package can do. Loads nothing.
    pub fn capabilities(&self) -> Result<Capabilities, PocketMuseError> {
        guard(|| self.pipeline()?.capabilities().try_into())
    }

    /// The most memory that the process would hold while it does this, in bytes: resident, or on
    /// Apple's systems anonymous, which is what counts there. Loads nothing.
    pub fn plan(&self, work: Work) -> Result<u64, PocketMuseError> {
        guard(|| {
            let pipeline = self.pipeline()?;
            Ok(pipeline.plan_job(&work.job(&pipeline)?)?.peak_bytes())
        })
    }

    /// Drops what stays loaded for the next job: at once if no job runs, else as soon as the running
    /// job has finished its step or image; the rest of that job loads every network alone. Returns
    /// the bytes that were held. The next job loads what it needs again.
    pub fn trim(&self) -> Result<u64, PocketMuseError> {
        guard(|| Ok(self.pipeline()?.trim()))
    }

    /// Starts a job on a thread of its own. Jobs of a generator take turns.
    pub fn start(
        &self,
        work: Work,
        previews: Previews,
        listener: Arc<dyn Listener>,
    ) -> Result<Arc<Job>, PocketMuseError> {
        guard(|| {
            let mut open = lock(&self.open);
            let open = open.as_mut().ok_or(PocketMuseError::Closed)?;
            let pipeline = Arc::clone(&open.pipeline);
            let (job, running) = job::start(pipeline, work, previews, listener)?;
            open.jobs.retain(|job| !job.has_ended());
            open.jobs.push(running);
            Ok(job)
        })
    }

    /// Stops all jobs, waits for them, and frees everything. Any call after it is `Closed`, another
    /// `shut` does nothing. In a callback of a job it does not wait for that job.
    pub fn shut(&self) -> Result<(), PocketMuseError> {
        guard(|| {
            let Some(Open { pipeline, jobs }) = lock(&self.open).take() else { return Ok(()) };
            jobs.iter().for_each(|job| job.close());
            jobs.iter().for_each(|job| job.wait());
            drop(pipeline);
            Ok(())
        })
    }
}

impl NativeGenerator {
    fn pipeline(&self) -> Result<Arc<Pipeline>, PocketMuseError> {
        let open = lock(&self.open);
        open.as_ref().map(|open| Arc::clone(&open.pipeline)).ok_or(PocketMuseError::Closed)
    }
}

/// A generator that nobody has any more stops its jobs; it does not wait for them, since this may
/// be the thread that collects garbage.
impl Drop for NativeGenerator {
    fn drop(&mut self) {
        if let Some(open) = lock(&self.open).take() {
            open.jobs.iter().for_each(|job| job.close());
        }
    }
}
