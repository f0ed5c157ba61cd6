//! A job that runs: one verb for each thing that is done, in the order of [`Pipeline::run`]. The plan
//! says when a stage is loaded and dropped.
//!
//! [`Pipeline::run`]: super::Pipeline::run

use std::{ops::ControlFlow, slice, time::Instant};

use image::{RgbImage, imageops};
use pocketmuse_package::{Result, Stage};

use super::{
    edit::{canvas, encoder_pixels, image_digest, paste_known},
    effort::runs_of,
    kept::KeptPrompt,
    made_by::MadeBy,
    output::Output,
    progress::Phase,
    prompts::Prompts,
    steered::Steered,
    steps::{Conditions, Steps},
    warm::{Slot, Warm},
};
use crate::{
    memory::metrics::Report,
    pixels,
    request::{Job, cancel::cancelled, job::Pass},
    sampler::{Canvas, margin::Margin, pass},
    stages::{Decoder, Network, Text, TextEncoder},
    text::tokenizer::Tokenizer,
};

/// A job that runs: nothing else of its pipeline does, until this is dropped.
pub(super) struct RunningJob<'a> {
    steered: Steered<'a>,
    /// Runs of the step graph in the passes that are over, and images that were decoded.
    made: Made,
}

#[derive(Default)]
struct Made {
    step_runs: usize,
    images: usize,
}

impl<'a> RunningJob<'a> {
    pub(super) fn new(steered: Steered<'a>) -> Self {
        Self { steered, made: Made::default() }
    }

    /// Proves the providers: see [`Steered::prove`].
    pub(super) fn prove(&mut self) -> Result<()> {
        self.steered.prove()
    }

    /// The canvas before the first step that is left: as it was saved, or with the tokens of an
    /// image, or all masked.
    pub(super) fn begin(&mut self) -> Result<Canvas> {
        let job = self.steered.job;
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
        let (digest, steered) = (image_digest(image), &mut self.steered);
        let known = steered.warm().tokens.as_ref().filter(|(known, _)| *known == digest);
        if let Some(tokens) = known.map(|(_, tokens)| tokens.clone()) {
            steered.skip(Stage::Encoder);
            return Ok(tokens);
        }
        let (pixels, size) = encoder_pixels(image);
        let tokens = steered.stage(
            |warm| &mut warm.encoder,
            |steered, using| steered.run(using, 1, |encoder| encoder.tokens(&pixels, size)),
        )?;
        steered.warm().tokens = Some((digest, tokens.clone()));
        Ok(tokens)
    }

    /// Loads the stages that stay for the next job, in the order in which they run.
    pub(super) fn warm(mut self) -> Result<Report> {
        self.steered.only_load();
        self.load(|warm| &mut warm.encoder)?;
        self.load(|warm| &mut warm.text_encoder)?;
        self.load(|warm| &mut warm.prologue)?;
        self.load(|warm| &mut warm.step)?;
        self.load(|warm| &mut warm.decoder)?;
        self.steered.finish()
    }

    fn load<S: Network>(&mut self, slot: fn(&mut Warm) -> &mut Slot<S>) -> Result<()> {
        if !self.steered.keeps(S::STAGE) {
            return Ok(());
        }
        self.steered.stage(slot, |steered, using| steered.ready(using).map(drop))
    }

    /// What depends on the prompts and the micro-conditioning alone.
    pub(super) fn prime(&mut self) -> Result<Conditions> {
        let (job, package) = (self.steered.job, self.steered.package);
        let tokenizer = Tokenizer::load(package.tokenizer_folder()?, package.manifest())?;
        let prompts = Prompts::new(job, &tokenizer, &package.manifest().knows)?;
        drop(tokenizer);
        let prompt = self.prompt(&prompts)?;
        let Prompts { guidance, truncated, unknown_words, .. } = prompts;
        Ok(Conditions { prompt, guidance, truncated, unknown_words })
    }

    /// What the prologue makes of the prompts. That of the last ones is kept, since often the same
    /// become another image.
    fn prompt(&mut self, prompts: &Prompts) -> Result<KeptPrompt> {
        let (job, steered) = (self.steered.job, &mut self.steered);
        let about = prompts.about(job);
        if let Some(kept) = steered.warm().prompt.take().filter(|kept| kept.about == about) {
            steered.skip(Stage::TextEncoder);
            steered.skip(Stage::Prologue);
            return Ok(kept);
        }
        let text = self.encode(prompts)?;
        let primed = self.steered.stage(
            |warm| &mut warm.prologue,
            |steered, using| {
                steered.run(using, 1, |prologue| prologue.prime(&text, job.micro_conds()))
            },
        )?;
        Ok(KeptPrompt { about, primed, first: None })
    }

    /// The texts of the prompts. Each prompt is encoded by itself, so that its text does not depend
    /// on others and can be used again.
    fn encode(&mut self, prompts: &Prompts) -> Result<Text> {
        let texts = &mut self.steered.warm().texts;
        let needed = prompts.needed();
        texts.make_room(needed.len());
        let missing: Vec<_> = needed.iter().filter(|ids| !texts.touch(ids)).collect();
        if missing.is_empty() {
            let text = prompts.text(texts);
            self.steered.skip(Stage::TextEncoder);
            return text;
        }
        self.steered.stage(
            |warm| &mut warm.text_encoder,
            |steered, using| {
                for (index, ids) in missing.into_iter().enumerate() {
                    if !steered.warm().texts.touch(ids) {
                        let encode =
                            |encoder: &mut TextEncoder| encoder.encode(slice::from_ref(ids));
                        let text = steered.run(using, index + 1, encode)?;
                        steered.warm().texts.keep(ids, text);
                    }
                }
                steered.passed(Stage::TextEncoder, usize::MAX);
                prompts.text(&steered.warm().texts)
            },
        )
    }

    /// Runs the steps of a pass. The step graph stays loaded for the next one, until images are
    /// decoded.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the job is to stop; `EngineFailed` if the graph fails.
    pub(super) fn sample(
        &mut self,
        conditions: &mut Conditions,
        pass: &Pass,
        canvas: &mut Canvas,
    ) -> Result<()> {
        let (job, runs) = (self.steered.job, self.made.step_runs);
        if let (Some(frame), Some(video)) = (pass.frame(), &job.video) {
            self.steered.begin(Phase::Frame { frame, of: video.frames });
        }
        let is_tapped = self.steered.watch.wants_predictions();
        self.steered.stage(
            if is_tapped { |warm| &mut warm.tapped } else { |warm| &mut warm.step },
            |steered, using| {
                let mut model = Steps::new((steered, using), conditions, pass, runs)?;
                go_on(pass::run(&mut model, (job, pass), canvas, Steps::step)?)
            },
        )?;
        self.made.step_runs += runs_of(job, pass);
        self.steered.passed(Stage::Step, self.made.step_runs);
        Ok(())
    }

    /// Hands over a frame of a video.
    ///
    /// # Errors
    ///
    /// As for [`Self::sample`].
    pub(super) fn show(&mut self, frame: u32, canvas: &Canvas) -> Result<()> {
        let image = self.decode(canvas)?.pop().expect("a video makes one image at once");
        go_on(self.steered.watch.frame(frame, image))
    }

    /// What came of the job: the images, or of a video the rest.
    pub(super) fn finish(mut self, conditions: Conditions, canvas: &Canvas) -> Result<Output> {
        let Conditions { prompt, truncated, unknown_words, .. } = conditions;
        let kept = Some(prompt).filter(|_| self.steered.keeps_prompt()); // else the decoder has its memory
        self.steered.warm().prompt = kept;
        let job = self.steered.job;
        let images = if job.video.is_some() { Vec::new() } else { self.decode(canvas)? };
        let report = self.steered.finish()?;
        let (request, made_by) = (job.request.clone(), MadeBy::of(self.steered.package, &report));
        Ok(Output { images, report, truncated, unknown_words, request, made_by })
    }

    fn decode(&mut self, canvas: &Canvas) -> Result<Vec<RgbImage>> {
        self.steered.drop_unplanned();
        let (job, made) = (self.steered.job, self.made.images);
        let images = self.steered.stage(
            |warm| &mut warm.decoder,
            |steered, using| {
                let image = |(image, tokens): (usize, &[Option<u32>])| {
                    let decoder = steered.ready(using)?;
                    steered.begin(Phase::Decoding { image, of: canvas.images });
                    let started = Instant::now();
                    let decoded = paste_known(job, decode(decoder, tokens, job)?);
                    steered.ran(Stage::Decoder, made + image + 1, started);
                    Ok(decoded)
                };
                canvas.tokens.chunks(job.tokens_per_image()).enumerate().map(image).collect()
            },
        );
        self.made.images += canvas.images;
        images
    }
}

fn go_on(flow: ControlFlow<()>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(cancelled()),
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
