//! A job that runs: one verb for each thing that is done, in the order of [`Pipeline::run`]. The plan
//! says when a stage is loaded and dropped.
//!
//! [`Pipeline::run`]: super::Pipeline::run

use std::{mem, ops::ControlFlow};

use image::{RgbImage, imageops};
use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{
    attention,
    edit::{canvas, encoder_pixels, image_digest, paste_known},
    exclusive::Held,
    meter::Meter,
    output::Output,
    prompts::Prompts,
    warm::{Slot, Warm},
    watch::{Prediction, Step, Watch},
};
use crate::{
    memory::{
        measured,
        plan::{Plan, StagePlan},
    },
    package::Package,
    pixels,
    request::{Control, Job, job::Pass},
    sampler::{Canvas, Predict, guidance, margin::Margin, pass},
    stages::{Decoder, Encoder, Predictor, Primed, Prologue, Prompted, Text, TextEncoder},
    text::tokenizer::Tokenizer,
};

/// A job that runs: nothing else of its pipeline does, until this is dropped.
pub(super) struct RunningJob<'a> {
    job: &'a Job,
    control: &'a Control,
    package: &'a Package,
    plan: Plan,
    warm: Held<'a, Warm>,
    /// The step graph with its tapped values, which no other job wants.
    tapped: Slot<Predictor>,
    meter: Meter,
}

/// What all steps are given: the prologue's values, and what the guidance branches weigh.
pub(super) struct Conditions {
    pub(super) primed: Primed,
    pub(super) guidance: Vec<f32>,
    /// What of the prompts did not fit, for people.
    truncated: Vec<String>,
}

impl<'a> RunningJob<'a> {
    /// Drops the stages that are in the way of `plan`.
    pub(super) fn new(
        (job, control): (&'a Job, &'a Control),
        package: &'a Package,
        plan: Plan,
        mut warm: Held<'a, Warm>,
    ) -> Self {
        warm.fit(&plan);
        Self {
            job,
            control,
            package,
            plan,
            warm,
            tapped: Slot::default(),
            meter: Meter::start(package.measures_memory()),
        }
    }

    /// The canvas before the first step that is left: as it was saved, or with the tokens of an
    /// image, or all masked.
    pub(super) fn begin(&mut self) -> Result<Canvas> {
        let job = self.job;
        if let Some(saved) = &job.saved {
            return Ok(Canvas::saved(job, saved));
        }
        if let Some(source) = &job.source {
            return Ok(canvas(job, source, &self.tokens_of(&source.image)?));
        }
        let end = job.video.as_ref().and_then(|video| video.end.as_ref());
        let end = end.map(|end| self.tokens_of(end)).transpose()?;
        Ok(Canvas { end, ..Canvas::masked(job) })
    }

    /// The tokens of an image of the job's size. Those of the last one are kept, since often the
    /// same is edited again.
    fn tokens_of(&mut self, image: &RgbImage) -> Result<Vec<u32>> {
        let digest = image_digest(image);
        if let Some((_, tokens)) = self.warm.tokens.as_ref().filter(|(known, _)| *known == digest) {
            self.meter.skip(Stage::Encoder);
            return Ok(tokens.clone());
        }
        let (pixels, size) = encoder_pixels(image);
        let tokens = self.meter.stage(
            &self.plan.stage(Stage::Encoder),
            &mut Slot::default(),
            |loading| Encoder::load(self.package, loading),
            |encoder| encoder.tokens(&pixels, size),
        )?;
        self.warm.tokens = Some((digest, tokens.clone()));
        Ok(tokens)
    }

    /// What depends on the prompts and the micro-conditioning alone.
    pub(super) fn prime(&mut self) -> Result<Conditions> {
        let tokenizer = Tokenizer::load(self.package.tokenizer_folder()?, self.package.manifest())?;
        let prompts = Prompts::new(self.job, &tokenizer)?;
        drop(tokenizer);
        let text = self.encode(&prompts)?;
        let primed = self.meter.stage(
            &self.plan.stage(Stage::Prologue),
            &mut self.warm.prologue,
            |loading| Prologue::load(self.package, loading),
            |prologue| prologue.prime(&text, self.job.micro_conds()),
        )?;
        Ok(Conditions { primed, guidance: prompts.guidance, truncated: prompts.truncated })
    }

    /// The texts of the prompts. Each prompt is encoded by itself, so that its text does not depend
    /// on others and can be used again.
    fn encode(&mut self, prompts: &Prompts) -> Result<Text> {
        let Warm { texts, text_encoder, .. } = &mut *self.warm;
        let needed = prompts.needed();
        texts.make_room(needed.len());
        let missing: Vec<_> = needed.iter().filter(|ids| !texts.touch(ids)).collect();
        if missing.is_empty() {
            self.meter.skip(Stage::TextEncoder);
            return prompts.text(texts);
        }
        self.meter.stage(
            &self.plan.stage(Stage::TextEncoder),
            text_encoder,
            |loading| TextEncoder::load(self.package, loading),
            |encoder| {
                for ids in missing {
                    if !texts.touch(ids) {
                        texts.keep(ids, encoder.encode(std::slice::from_ref(ids))?);
                    }
                }
                prompts.text(texts)
            },
        )
    }

    /// Runs the steps of a pass. The step graph stays loaded for the next one, until images are
    /// decoded.
    ///
    /// # Errors
    ///
    /// `Cancelled` if `watch` breaks; `EngineFailed` if the graph fails.
    pub(super) fn sample(
        &mut self,
        conditions: &Conditions,
        pass: &Pass,
        canvas: &mut Canvas,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let (job, control, package) = (self.job, self.control, self.package);
        let is_tapped = watch.wants_predictions();
        let plan = StagePlan { warm: true, ..self.plan.stage(Stage::Step) };
        let slot = if is_tapped { &mut self.tapped } else { &mut self.warm.step };
        let load = |loading| match is_tapped {
            true => Predictor::load_tapped(package, loading, attention::WANTED),
            false => Predictor::load(package, loading),
        };
        self.meter.stage(&plan, slot, load, |predictor| {
            let model = predictor.with(&conditions.primed, &conditions.guidance, job.grid)?;
            let model = model.guided(guidance::scales(job)).within(Margin::of(job));
            let multiple = (package.manifest().model.grid_multiple as usize).max(1);
            let attending = job.outer_grid().map(|side| side / multiple).iter().product();
            let mut model = Watched { model, watch, is_tapped, attending };
            let flow = pass::run(&mut model, (job, pass), canvas, |model, progress| {
                model.watch.step(&Step::new(job, progress))?;
                if control.next(0).is_ok() {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            go_on(flow)
        })
    }

    /// Hands over a frame of a video.
    ///
    /// # Errors
    ///
    /// As for [`Self::sample`].
    pub(super) fn show(
        &mut self,
        frame: u32,
        canvas: &Canvas,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let image = self.decode(canvas)?.pop().expect("a video makes one image at once");
        go_on(watch.frame(frame, image))
    }

    /// What came of the job: the images, or of a video the rest.
    pub(super) fn finish(mut self, conditions: Conditions, canvas: &Canvas) -> Result<Output> {
        let Conditions { primed, truncated, .. } = conditions;
        drop(primed); // its memory is the decoder's
        let images = if self.job.video.is_some() { Vec::new() } else { self.decode(canvas)? };
        let report = mem::replace(&mut self.meter, Meter::start(false)).finish();
        Ok(Output { images, report, truncated, request: self.job.request.clone() })
    }

    fn decode(&mut self, canvas: &Canvas) -> Result<Vec<RgbImage>> {
        self.drop_unplanned();
        let (job, package) = (self.job, self.package);
        self.meter.stage(
            &self.plan.stage(Stage::Decoder),
            &mut self.warm.decoder,
            |loading| Decoder::load(package, loading),
            |decoder| {
                let images = canvas.tokens.chunks(job.tokens_per_image());
                images.map(|tokens| Ok(paste_known(job, decode(decoder, tokens, job)?))).collect()
            },
        )
    }

    /// Drops what was loaded for this job alone.
    fn drop_unplanned(&mut self) {
        self.tapped = Slot::default();
        self.warm.fit(&self.plan);
    }

    /// Drops all that would stay for the next job.
    #[cfg(feature = "measure")]
    pub(super) fn drop_all(&mut self) {
        *self.warm = Warm::default();
    }
}

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        self.drop_unplanned();
        measured::give_back();
    }
}

/// The step graph of a job that is watched.
struct Watched<'a, 'w> {
    model: Prompted<'a>,
    watch: &'w mut dyn Watch,
    is_tapped: bool,
    /// Positions that attend to the prompt.
    attending: usize,
}

impl Predict for Watched<'_, '_> {
    type Error = Error;

    fn begin(&mut self, step: usize) {
        self.model.begin(step);
    }

    fn predict(
        &mut self,
        image: usize,
        tokens: &[Option<u32>],
        positions: &[usize],
    ) -> Result<&[f32]> {
        if !self.is_tapped {
            return self.model.predict(image, tokens, positions);
        }
        self.model.predict(image, tokens, positions)?;
        let attention = attention::mean(self.model.taps(), self.attending)?;
        let (logits, attention) = (self.model.logits()?, attention.as_ref());
        self.watch.prediction(&Prediction { image, positions, logits, attention });
        Ok(logits)
    }
}

fn go_on(flow: ControlFlow<()>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            Err(Error::new(ErrorKind::Cancelled, "", "the request was cancelled"))
        }
    }
}

fn decode(decoder: &mut Decoder, tokens: &[Option<u32>], job: &Job) -> Result<RgbImage> {
    let tokens: Option<Vec<i64>> = tokens.iter().map(|token| token.map(i64::from)).collect();
    let tokens = tokens.expect("the last step leaves no token masked");
    let margin = Margin::of(job);
    let decoded = decoder.decode(&margin.wrap(&tokens), margin.outer())?;
    let [height, width] = decoded.size();
    let image = pixels::to_image(decoded.values()?, height, width)?;
    if margin.is_none() {
        return Ok(image);
    }
    let [left, top, width, height] = margin.inner_area([image.width(), image.height()]);
    Ok(imageops::crop_imm(&image, left, top, width, height).to_image())
}
