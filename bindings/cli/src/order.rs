//! What is meant by the flags of a command that makes images. From here on nobody asks which
//! command was typed.

use std::path::PathBuf;

use pocketmuse::Request;

use crate::args::{
    self, EditArgs, GenerateArgs, GridArgs, PackageArgs, RequestArgs, ResumeArgs, Setting,
    SourceArgs, VideoArgs, WatchArgs,
};

/// How other programs' prompts name a file that changes the model.
const NOTATIONS: [&str; 3] = ["<lora:", "<lyco:", "<hypernet:"];

/// What `generate`, `edit` or `resume` is to do.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Where the work begins.
    pub(crate) begin: Begin,
    /// The package and how it is run. A saved job names its own package.
    pub(crate) package: PackageArgs,
    /// What is told and shown meanwhile.
    pub(crate) watch: WatchArgs,
    /// Whether only the plan is wanted.
    pub(crate) explain: bool,
    /// Where the tokens of every step are written.
    pub(crate) save_tokens: Option<PathBuf>,
    /// Where the job is kept after every step.
    pub(crate) job: Option<PathBuf>,
    /// Whether files and their names tell nothing of the request.
    pub(crate) private: bool,
    /// A file with a prompt on each line.
    pub(crate) prompts: Option<PathBuf>,
    /// The seeds that each prompt is made with.
    pub(crate) seeds: Vec<u64>,
    /// Whether images are left as they are that an earlier command made of the same request.
    pub(crate) skip_existing: bool,
}

/// Which line of a file of prompts, from 1, and the last that has a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) last: usize,
}

impl Line {
    /// The number with as many digits as the last has.
    pub(crate) fn padded(self) -> String {
        let digits = self.last.to_string().len();
        format!("{:0digits$}", self.number)
    }
}

/// Where work begins.
#[derive(Clone, Debug)]
pub(crate) enum Begin {
    /// A request, new or read from an image.
    Request(Box<Wish>),
    /// The file of a job that was stopped, and whether its images may replace any file.
    Saved(PathBuf, bool),
}

/// A request that is not known yet: what it is read from, and what changes in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The image whose request is changed; without one it is the default request.
    pub(crate) from: Option<PathBuf>,
    /// The image to edit.
    pub(crate) source: Option<SourceArgs>,
    /// The prompt, if it changes.
    pub(crate) prompt: Option<String>,
    /// What else changes.
    pub(crate) changes: RequestArgs,
    pub(crate) num_images_per_prompt: Option<u32>,
    pub(crate) strength: Option<f64>,
    pub(crate) reference_strength: bool,
    /// The file or folder that is written to.
    pub(crate) output: Option<PathBuf>,
    /// The line of the prompt file, from 1, if files are named after it.
    pub(crate) line: Option<Line>,
    /// Whether files are named after the seed.
    pub(crate) names_seed: bool,
}

impl Order {
    /// What `generate` means.
    pub(crate) fn generate(args: &GenerateArgs) -> Self {
        let wish = Wish {
            from: args.from.clone(),
            prompt: args.prompt.clone(),
            changes: args.request.clone(),
            num_images_per_prompt: args.num_images_per_prompt,
            output: args.output.clone(),
            ..Wish::default()
        };
        Self {
            begin: Begin::Request(Box::new(wish)),
            package: args.package.clone(),
            watch: args.watch.clone(),
            explain: args.explain,
            save_tokens: args.save_tokens.clone(),
            job: args.job.clone(),
            private: args.written.private,
            prompts: args.prompts.clone(),
            seeds: args.seeds.iter().cloned().flatten().collect(),
            skip_existing: args.skip_existing,
        }
    }

    /// What `edit` means.
    pub(crate) fn edit(args: &EditArgs) -> Self {
        let mut order = Self::generate(&args.generate);
        if let Begin::Request(wish) = &mut order.begin {
            wish.source = Some(args.source.clone());
            wish.strength = args.strength;
            wish.reference_strength = args.reference_strength;
        }
        order
    }

    /// What `resume` means.
    pub(crate) fn resume(args: &ResumeArgs) -> Self {
        Self {
            begin: Begin::Saved(args.job.clone(), args.force),
            package: PackageArgs { run: args.run.clone(), ..PackageArgs::default() },
            watch: args.watch.clone(),
            explain: false,
            save_tokens: None,
            job: Some(args.job.clone()),
            private: args.written.private,
            prompts: None,
            seeds: Vec::new(),
            skip_existing: false,
        }
    }

    /// Whether it is several jobs with the model loaded once.
    pub(crate) fn is_batch(&self) -> bool {
        self.prompts.is_some() || !self.seeds.is_empty()
    }

    /// The order for one line of the prompt file, and one seed of several.
    pub(crate) fn one_of(&self, line: Option<(Line, &str)>, seed: Option<u64>) -> Self {
        let mut order = Self { prompts: None, seeds: Vec::new(), ..self.clone() };
        if let Begin::Request(wish) = &mut order.begin {
            if let Some((number, prompt)) = line {
                (wish.line, wish.prompt) = (Some(number), Some(prompt.to_owned()));
            }
            wish.names_seed = seed.is_some();
            wish.changes.seed = seed.or(wish.changes.seed);
        }
        order
    }
}

impl Wish {
    /// `base` with everything changed that is to change.
    pub(crate) fn request(&self, base: Request) -> Request {
        let request = self.changes.request(self.prompt.as_deref(), base);
        Request {
            num_images_per_prompt: self
                .num_images_per_prompt
                .unwrap_or(request.num_images_per_prompt),
            strength: self.strength.or(request.strength),
            reference_strength: self.reference_strength || request.reference_strength,
            ..request
        }
    }
}

/// What all images of a grid are to be, before its columns and rows say more.
pub(crate) fn grid_request(args: &GridArgs) -> Request {
    let first = args.prompts.first().map(String::as_str);
    let base = args.request.request(first, new_request());
    args.settings.iter().fold(base, |base, setting: &Setting| setting.request(base))
}

/// What the frames of a video are to be.
pub(crate) fn video_request(args: &VideoArgs) -> Request {
    args.request.request(Some(&args.prompt), new_request())
}

/// The request that flags change where no image brings one: a random seed, else the defaults.
pub(crate) fn new_request() -> Request {
    Request { seed: args::random_seed(), ..Request::default() }
}

/// What people should know of a request: what looks like more than text in its prompts and is none.
pub(crate) fn warnings(request: &Request) -> Vec<String> {
    let prompts = [("prompt", &request.prompt), ("negative_prompt", &request.negative_prompt)];
    let found = prompts.into_iter().flat_map(|(field, prompt)| {
        let lower = prompt.to_lowercase();
        let used = NOTATIONS.into_iter().filter(move |notation| lower.contains(notation));
        let used = used.map(move |notation| {
            format!("{field}: {notation}...> is text: a prompt does not change the model")
        });
        let numbers = no_weights(prompt).filter(|_| request.prompt_weighting);
        let numbers = numbers.map(move |number| {
            format!("{field}: {number} in brackets is text, since weights are 0 to 10")
        });
        used.chain(numbers)
    });
    found.collect()
}

/// Numbers at the end of brackets that would be weights if they were 0 to 10.
fn no_weights(prompt: &str) -> impl Iterator<Item = &str> {
    let ends = prompt.split_inclusive(')').filter_map(|part| part.strip_suffix(')'));
    ends.filter_map(|part| {
        let (words, number) = part.rsplit_once(':')?;
        let value: f32 = number.trim().parse().ok().filter(|value: &f32| value.is_finite())?;
        let is_weight = (0.0..=10.0).contains(&value);
        let is_time = words.ends_with(|letter: char| letter.is_ascii_digit());
        (!is_weight && !is_time && words.contains('(')).then_some(number.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_means_what_generate_does_and_its_own() {
        let args = EditArgs {
            strength: Some(0.6),
            reference_strength: true,
            generate: GenerateArgs {
                prompt: Some("a tree".to_owned()),
                num_images_per_prompt: Some(3),
                request: RequestArgs { seed: Some(3), ..RequestArgs::default() },
                ..GenerateArgs::default()
            },
            ..EditArgs::default()
        };
        let Begin::Request(wish) = Order::edit(&args).begin else { panic!("a request") };
        let expected = Request {
            prompt: "a tree".to_owned(),
            seed: 3,
            num_images_per_prompt: 3,
            strength: Some(0.6),
            reference_strength: true,
            ..Request::default()
        };
        assert_eq!(wish.request(Request::default()), expected);
        assert!(wish.source.is_some());
        let base = Request { strength: Some(0.3), ..Request::default() };
        assert_eq!(Wish::default().request(base.clone()), base);
    }

    #[test]
    fn what_only_looks_like_more_than_text_is_told() {
        let warnings = |prompt: &str, negative_prompt: &str| {
            warnings(&Request {
                prompt: prompt.to_owned(),
                negative_prompt: negative_prompt.to_owned(),
                ..Request::default()
            })
        };
        let more = ["(at 12:30) (red:10) (a:inf)", r"\(red:15\)", "red:15) (a: )", "(a:b:c)"];
        for text in ["a lora: a tree", "a < lora:b>", "a <b:1>", ""].into_iter().chain(more) {
            assert_eq!(warnings(text, text), [""; 0], "{text}");
        }
        let found = warnings("a (red: 15) tree", "((fog:-1))");
        assert_eq!(
            found,
            [
                "prompt: 15 in brackets is text, since weights are 0 to 10",
                "negative_prompt: -1 in brackets is text, since weights are 0 to 10",
            ]
        );
        let found = warnings("a tree <LoRA:oil:0.8>, <lora:b:1>", "<hypernet:x:1> <lora:y:1>");
        assert_eq!(
            found,
            [
                "prompt: <lora:...> is text: a prompt does not change the model",
                "negative_prompt: <lora:...> is text: a prompt does not change the model",
                "negative_prompt: <hypernet:...> is text: a prompt does not change the model",
            ]
        );
    }

    #[test]
    fn one_of_several_has_its_line_and_its_seed() {
        let args = GenerateArgs {
            prompts: Some("a.txt".into()),
            seeds: vec![4..=4, 9..=9],
            ..GenerateArgs::default()
        };
        let order = Order::generate(&args);
        assert!(order.is_batch());
        let line = Line { number: 7, last: 9 };
        let one = order.one_of(Some((line, "a tree")), Some(9));
        assert!(!one.is_batch());
        let Begin::Request(wish) = one.begin else { panic!("a request") };
        assert_eq!((wish.line, wish.names_seed), (Some(line), true));
        let request = wish.request(Request::default());
        assert_eq!((request.prompt.as_str(), request.seed), ("a tree", 9));
    }
}
