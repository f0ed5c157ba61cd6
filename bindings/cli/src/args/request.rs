//! The flags that set a field of a request, once for every command that makes images.

use clap::Args;
use pocketmuse::{
    GuidanceSchedule, MaskingSchedule, Request, RngKind, Sampler, Temperature, Tileable,
};

use super::values;

/// What an image is to be, beside its prompt.
#[derive(Clone, Debug, Default, Args)]
#[command(allow_negative_numbers = true)]
pub struct RequestArgs {
    /// What the image is guided away from
    #[arg(short, long, alias = "negative", value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Take brackets in both prompts as text, and not as weights
    #[arg(long)]
    pub no_prompt_weighting: bool,
    /// How strongly the prompt steers [default: the package's]
    ///
    /// Up to 1 guidance is off and a step costs half.
    #[arg(long, aliases = ["cfg-scale", "cfg", "guidance"], value_name = "NUMBER")]
    pub guidance_scale: Option<f32>,
    /// Steps from all masked to all chosen [default: the package's]
    #[arg(long, alias = "steps", value_name = "COUNT")]
    pub num_inference_steps: Option<u32>,
    /// Noise of the choice of tokens [default: the package's]
    ///
    /// Of the first and of the last step, or one number that falls to 0.01.
    #[arg(long, value_name = "FIRST,LAST")]
    pub temperature: Option<Temperature>,
    /// Height in pixels [default: the model's]
    #[arg(short = 'H', long, value_name = "PIXELS")]
    pub height: Option<u32>,
    /// Width in pixels [default: the model's]
    #[arg(short = 'W', long, value_name = "PIXELS")]
    pub width: Option<u32>,
    /// The same seed makes the same image; -1 is random [default: -1]
    ///
    /// A random one is printed.
    #[arg(short, long, value_name = "NUMBER", value_parser = values::seed)]
    pub seed: Option<u64>,
    /// The score that the model is told, about 0 to 10 [default: 6]
    #[arg(alias = "micro-conditioning-aesthetic-score", long, value_name = "NUMBER")]
    pub aesthetic_score: Option<f32>,
    /// The crop that the model is told [default: 0,0]
    ///
    /// The left and top corner, in pixels, that its image was cropped at.
    #[arg(alias = "micro-conditioning-crop-coord", long, value_name = "LEFT,TOP",
          value_parser = values::corner)]
    pub crop_coordinates: Option<[u32; 2]>,
    /// Random numbers: own or torch [default: own]
    ///
    /// own: the same on every machine. torch: as the reference pipeline, slow.
    #[arg(long, value_name = "KIND")]
    pub rng: Option<RngKind>,
    /// Tokens of a step: confidence or halton [default: confidence]
    ///
    /// confidence: the surest, with noise. halton: spread evenly, a fixed order in which each token
    /// is asked for once; --temperature has no effect.
    #[arg(long, value_name = "SAMPLER")]
    pub sampler: Option<Sampler>,
    /// Guidance over the steps: constant, linear, cosine or late
    ///
    /// It is constant by default, grows linearly from none, or as a cosine, faster at first. late:
    /// none in the first half of the steps, which takes half of their time.
    #[arg(long, value_name = "SCHEDULE")]
    pub guidance_schedule: Option<GuidanceSchedule>,
    /// How the number of masked tokens falls
    ///
    /// As the package says by default, linearly with a mask.
    #[arg(long, value_name = "SCHEDULE",
          value_parser = values::one_of(MaskingSchedule::ALL, MaskingSchedule::name))]
    pub masking_schedule: Option<MaskingSchedule>,
    /// Make edges meet: across, down, both or no [default: no]
    ///
    /// Copies of the image can then lie side by side: across is left and right, down is top and
    /// bottom. Takes more time and memory.
    #[arg(long, value_name = "EDGES")]
    pub tileable: Option<Tileable>,
    /// Vary the image that the other flags ask for, 0 to 1
    ///
    /// This share of its steps is run once more with other random numbers for each image; 0 is the
    /// image itself. With --from it is the image in that file.
    #[arg(long, value_name = "SHARE")]
    pub variation: Option<f64>,
}

impl RequestArgs {
    /// `base` with `prompt` and everything the flags say changed; what none says stays `base`'s.
    pub fn request(&self, prompt: Option<&str>, base: Request) -> Request {
        // A new prompt is read as prompts are read now, whatever `base` did.
        let weighting = base.prompt_weighting || prompt.is_some();
        Request {
            prompt: prompt.map_or(base.prompt, str::to_owned),
            negative_prompt: self.negative_prompt.clone().unwrap_or(base.negative_prompt),
            prompt_weighting: weighting && !self.no_prompt_weighting,
            guidance_scale: self.guidance_scale.or(base.guidance_scale),
            num_inference_steps: self.num_inference_steps.or(base.num_inference_steps),
            temperature: self.temperature.or(base.temperature),
            height: self.height.or(base.height),
            width: self.width.or(base.width),
            seed: self.seed.unwrap_or(base.seed),
            rng: self.rng.unwrap_or(base.rng),
            aesthetic_score: self.aesthetic_score.unwrap_or(base.aesthetic_score),
            crop_coordinates: self.crop_coordinates.unwrap_or(base.crop_coordinates),
            sampler: self.sampler.unwrap_or(base.sampler),
            guidance_schedule: self.guidance_schedule.unwrap_or(base.guidance_schedule),
            masking_schedule: self.masking_schedule.or(base.masking_schedule),
            tileable: self.tileable.unwrap_or(base.tileable),
            variation: self.variation.or(base.variation),
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        request: RequestArgs,
    }

    fn parse(words: &[&str]) -> Result<RequestArgs, clap::Error> {
        Line::try_parse_from(["test"].iter().chain(words)).map(|line| line.request)
    }

    #[test]
    fn every_flag_reaches_the_request() {
        type Changed = fn(&mut Request);
        let cases: [(&[&str], Changed); 17] = [
            (&["--tileable", "across"], |r| r.tileable = Tileable::Across),
            (&["--variation", "0.3"], |r| r.variation = Some(0.3)),
            (&["--no-prompt-weighting"], |r| r.prompt_weighting = false),
            (&["--negative-prompt", "fog"], |r| r.negative_prompt = "fog".to_owned()),
            (&["--guidance-scale", "2.5"], |r| r.guidance_scale = Some(2.5)),
            (&["--guidance-scale", "-1"], |r| r.guidance_scale = Some(-1.0)), // refused later
            (&["--num-inference-steps=4"], |r| r.num_inference_steps = Some(4)),
            (&["--temperature", "2,0"], |r| r.temperature = Some(Temperature::Range([2.0, 0.0]))),
            (&["--temperature", "1.5"], |r| r.temperature = Some(Temperature::Decaying(1.5))),
            (&["--height", "128", "--width", "64"], |r| {
                (r.height, r.width) = (Some(128), Some(64))
            }),
            (&["--seed", "18446744073709551615"], |r| r.seed = u64::MAX),
            (&["--aesthetic-score", "7"], |r| r.aesthetic_score = 7.0),
            (&["--crop-coordinates", "8, 16"], |r| r.crop_coordinates = [8, 16]),
            (&["--rng", "torch"], |r| r.rng = RngKind::Torch),
            (&["--sampler", "halton"], |r| r.sampler = Sampler::Halton),
            (&["--guidance-schedule", "cosine"], |r| {
                r.guidance_schedule = GuidanceSchedule::Cosine
            }),
            (&["--masking-schedule", "linear"], |r| {
                r.masking_schedule = Some(MaskingSchedule::Linear)
            }),
        ];
        for (words, change) in cases {
            let mut expected =
                Request { prompt: "a tree".to_owned(), seed: 5, ..Request::default() };
            let base = Request { prompt: "another".to_owned(), seed: 5, ..Request::default() };
            let found = parse(words).expect("valid").request(Some("a tree"), base);
            change(&mut expected);
            assert_eq!(found, expected, "{words:?}");
        }
    }

    #[test]
    fn without_flags_the_base_stays() {
        let base = Request {
            prompt: "a tree".to_owned(),
            seed: 9,
            height: Some(64),
            prompt_weighting: false,
            variation: Some(0.5),
            ..Request::default()
        };
        let args = parse(&[]).expect("valid");
        assert_eq!(args.request(None, base.clone()), base);
        assert!(args.request(Some("a tree"), base).prompt_weighting, "a prompt is read as now");
    }

    #[test]
    fn wrong_values_are_refused_as_usage() {
        let cases: [&[&str]; 6] = [
            &["--temperature", "1,2,3"],
            &["--crop-coordinates", "0"],
            &["--crop-coordinates", "-1,0"],
            &["--seed", "x"],
            &["--seed", "-2"],
            &["--rng", "numpy"],
        ];
        for words in cases {
            assert_eq!(parse(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }
}
