//! What measuring needs of a pipeline besides: its package, profiles, and the tokens of a request
//! without an image being made of them.

use std::{ops::ControlFlow, path::Path};

use pocketmuse_package::{Error, ErrorKind, Result};

use super::{Pipeline, watch::Step};
use crate::{
    package::Package,
    request::{Job, Options, Request},
    sampler::{Canvas, Predict, Schedule, guidance, sample},
    stages::{Predictor, Primed, Prompted},
};

/// What the step graph is given for a request, besides tokens.
pub struct Prompt {
    primed: Primed,
    guidance: Vec<f32>,
    /// Guidance by step.
    scales: Vec<f32>,
    grid: [usize; 2],
}

impl Prompt {
    /// The step graph with this prompt: what the sampler asks.
    ///
    /// # Errors
    ///
    /// As for [`Predictor::with`].
    pub fn with<'a>(&'a self, predictor: &'a mut Predictor) -> Result<Prompted<'a>> {
        let prompted = predictor.with(&self.primed, &self.guidance, self.grid)?;
        Ok(prompted.guided(self.scales.clone()))
    }
}

impl Pipeline {
    /// The opened package.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// As [`Self::open_with`]; the stages write profiles into `folder`.
    ///
    /// # Errors
    ///
    /// As for [`Self::open_with`].
    pub fn open_with_profiles(root: &Path, options: &Options, folder: &Path) -> Result<Self> {
        Ok(Self::of(Package::open(root, options)?.with_profiles(folder), options))
    }

    /// Encodes the prompts of each of `requests` and runs the prologue. What is loaded for that is
    /// dropped at the end.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`].
    pub fn prompts(&self, requests: &[Request]) -> Result<Vec<Prompt>> {
        let prompts = requests.iter().map(|request| self.primed(request)).collect();
        self.trim();
        prompts
    }

    /// As [`Self::prompts`], of one request.
    ///
    /// # Errors
    ///
    /// As for [`Self::generate`].
    pub fn prompt(&self, request: &Request) -> Result<Prompt> {
        let prompt = self.primed(request);
        self.trim();
        prompt
    }

    fn primed(&self, request: &Request) -> Result<Prompt> {
        let job = Job::new(request, self.manifest())?;
        let mut nobody = |_: &Step<'_>| ControlFlow::Continue(());
        let chosen = self.chosen(&job, &mut nobody)?;
        let conditions = chosen.pipeline.start(&job, &mut nobody)?.prime()?;
        Ok(Prompt {
            primed: conditions.prompt.primed,
            guidance: conditions.guidance,
            scales: guidance::scales(&job),
            grid: job.grid,
        })
    }

    /// Chooses the tokens of the images that `request` asks for, from all masked, as `model` says.
    /// Returns them image after image, row after row.
    ///
    /// # Errors
    ///
    /// What `model` fails with; `Cancelled` if `on_step` broke.
    pub fn choose<P: Predict<Error = Error>>(
        &self,
        request: &Request,
        model: &mut P,
        mut on_step: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<u32>> {
        let job = Job::new(request, self.manifest())?;
        let mut canvas = Canvas::masked(&job);
        if sample(model, &mut canvas, &Schedule::of(&job), |_, _| on_step())?.is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "", "the sampling was cancelled"));
        }
        Ok(canvas.tokens.into_iter().flatten().collect())
    }
}
