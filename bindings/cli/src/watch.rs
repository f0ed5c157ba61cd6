//! What goes on while a task's images are made: the job is kept, progress is shown and told,
//! previews are drawn, tokens logged and traces collected.

use std::ops::ControlFlow;

use indicatif::ProgressBar;
use pocketmuse::{Job, Pipeline, Prediction, Step, Trace, Tracer, Watch};
use pocketmuse_package::Result;

use crate::{
    console::Console,
    events::{self, Event},
    job_keeper::JobKeeper,
    package::Opened,
    preview::{Beside, Previewer},
    stop,
    task::Task,
    terminal,
    tokens::TokenLog,
};

/// Watches one task.
pub(crate) struct Watcher<'a> {
    console: &'a Console,
    pipeline: &'a Pipeline,
    mask_token_id: u32,
    bar: ProgressBar,
    keeper: Option<JobKeeper>,
    previewer: Option<Previewer>,
    tokens: Option<TokenLog>,
    tracer: Option<Tracer>,
    failed: Result<()>,
}

/// What was seen of a task, as far as it is wanted.
pub(crate) struct Seen {
    pub(crate) tokens: Option<TokenLog>,
    pub(crate) trace: Option<Trace>,
}

impl<'a> Watcher<'a> {
    /// Begins to watch `task`, whose job it keeps from now on.
    ///
    /// # Errors
    ///
    /// As for [`Console::warning`], and those of opening previews.
    pub(crate) fn new(task: &mut Task, opened: &'a Opened, console: &'a Console) -> Result<Self> {
        Ok(Self {
            console,
            pipeline: &opened.pipeline,
            mask_token_id: opened.manifest.model.mask_token_id,
            previewer: previewer(task, &opened.pipeline, console)?,
            bar: terminal::step_bar("drawing", console.hides_bars()),
            keeper: task.keeper.take(),
            tokens: task.save_tokens.as_ref().map(|_| TokenLog::default()),
            tracer: None,
            failed: Ok(()),
        })
    }

    /// Looks inside `job`, if the task wants a trace.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::tracer`].
    pub(crate) fn look_inside(&mut self, task: &Task, job: &Job) -> Result<()> {
        if task.watch.trace.is_some() {
            self.tracer = Some(self.pipeline.tracer(job)?);
        }
        Ok(())
    }

    fn note(&mut self, step: &Step<'_>) -> Result<()> {
        if let Some(keeper) = &mut self.keeper {
            keeper.save_state(self.pipeline.state(step))?;
        }
        let bar = &self.bar;
        let previews = match &mut self.previewer {
            Some(previewer) => bar.suspend(|| previewer.show(step))?,
            None => Vec::new(),
        };
        bar.set_length(step.num_inference_steps as u64);
        bar.set_position(step.step as u64 + 1);
        if let Some(tokens) = &mut self.tokens {
            tokens.add(step, self.mask_token_id);
        }
        self.console.event(&Event::Step {
            step: step.step + 1,
            num_inference_steps: step.num_inference_steps,
            preview: (!previews.is_empty()).then(|| events::paths(&previews)),
        })
    }

    /// Ends watching, however making the images ended; gives the task its job back.
    ///
    /// # Errors
    ///
    /// What made it stop.
    pub(crate) fn end(self, task: &mut Task) -> Result<Seen> {
        self.bar.finish_and_clear();
        task.keeper = self.keeper;
        let trace = self.tracer.map(Tracer::finish);
        self.failed.map(|()| Seen { tokens: self.tokens, trace })
    }
}

impl Watch for Watcher<'_> {
    fn wants_predictions(&self) -> bool {
        self.tracer.is_some()
    }

    fn prediction(&mut self, prediction: &Prediction<'_>) {
        if let Some(tracer) = &mut self.tracer {
            tracer.prediction(prediction);
        }
    }

    /// Takes note of a step. Stops where something could not be written, or the user wants it.
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        if let Some(tracer) = &mut self.tracer {
            tracer.step(step)?;
        }
        self.failed = self.note(step);
        if self.failed.is_err() { ControlFlow::Break(()) } else { stop::flow() }
    }
}

/// What shows previews, if they are wanted and the package has any.
fn previewer(task: &Task, pipeline: &Pipeline, console: &Console) -> Result<Option<Previewer>> {
    let Some(show) = task.watch.preview else { return Ok(None) };
    let Some(preview) = pipeline.preview()? else {
        console.warning("this package has no previews: export it again to have them")?;
        return Ok(None);
    };
    let replaces = task.replaces();
    let files =
        task.places().map(|(image, file)| Beside { image, file: file.to_owned(), replaces });
    Ok(Some(Previewer::new(preview, files.collect(), show, console.json)))
}
