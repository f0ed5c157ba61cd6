//! Making pictures with somebody looking inside.

use std::ops::ControlFlow;

use pocketmuse_package::{Error, ErrorKind, Result};

use super::{Output, Pipeline, Step};
use crate::{
    pipeline::state::State,
    pipeline::trace::{Trace, Tracer},
    request::source::{Source, Start},
    request::{Request, Resolved},
    text::tokenizer::Tokenizer,
};

impl Pipeline {
    /// As [`Self::generate`] or, with a source, [`Self::edit`], and tells what went on inside. The
    /// pictures are the same; the step graph is loaded for this request alone and, in a full-size
    /// model, takes 75 MiB more.
    ///
    /// # Errors
    ///
    /// As for [`Self::edit`].
    pub fn trace(
        &self,
        request: &Request,
        source: Option<&Source>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Output, Trace)> {
        let (job, start) = match source {
            Some(source) => self.started(request, source).map(|(job, start)| (job, Some(start)))?,
            None => {
                request.check_starts_from_nothing()?;
                (request.resolve(self.manifest())?, None)
            }
        };
        self.traced(&job, start.as_ref(), None, 0, on_step)
    }

    /// As [`Self::resume`], and tells what went on inside in the steps that were left:
    /// [`Trace::unseen_steps`] says how many were made before, which nobody can look into any more.
    ///
    /// # Errors
    ///
    /// As for [`Self::resume`].
    pub fn trace_resumed(
        &self,
        state: &State,
        source: Option<&Source>,
        on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Output, Trace)> {
        let (job, start, unseen_steps) = self.resumed(state, source)?;
        self.traced(&job, start.as_ref(), Some(state), unseen_steps, on_step)
    }

    fn traced(
        &self,
        job: &Resolved,
        start: Option<&Start>,
        saved: Option<&State>,
        unseen_steps: usize,
        mut on_step: impl FnMut(&Step<'_>) -> ControlFlow<()>,
    ) -> Result<(Output, Trace)> {
        let refused = |at, detail| Err(Error::new(ErrorKind::BadRequest, at, detail));
        if job.redone_from.is_some() {
            return refused(
                "variation",
                "expected none where a trace is wanted, found one: trace the picture that it varies",
            );
        }
        if job.margin != [0; 2] {
            return refused(
                "tileable",
                "expected no where a trace is wanted, found a picture whose edges meet",
            );
        }
        let tokenizer = Tokenizer::load(self.package.tokenizer_folder()?, self.manifest())?;
        let prompt = job.request.weighted("prompt", &job.request.prompt)?;
        let mut tracer =
            Tracer::new(tokenizer.words(&prompt.text)?, job, &self.manifest().model, unseen_steps);
        let mut tokens = Vec::new();
        let output = self.run(job, start, saved, Some(&mut tracer), |step| {
            tokens.push(step.tokens.to_vec());
            on_step(step)
        })?;
        Ok((output, tracer.finish(&tokens)))
    }
}
