//! The command line as it is typed: commands, flags and their help. Knows what
//! a value looks like, not whether it suits a model.

mod grid;
mod preview;
mod video;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pocketmuse::{Budget, Flavour, GuidanceSchedule, MaskingSchedule, Request, RngKind, Sampler, Temperature};
use pocketmuse_package::Dtype;

pub use self::{
    grid::{Axis, FIELDS, GridArgs, Setting},
    preview::Show,
    video::VideoArgs,
};
use crate::synth::Preset;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 the command line or the request is wrong; 130 stopped by Ctrl-C.
Errors are one line on stderr: `error: place: sentence`.

Environment:
  ORT_DYLIB_PATH      the ONNX Runtime library to use
  POCKETMUSE_OFFLINE  1: as --offline
  XDG_CACHE_HOME      where the cache is (packages of the built-in model, what was checked, ONNX Runtime)
  RUST_LOG            what is logged to stderr: error, warn (the default), info, debug";

/// Pictures from text on small machines, offline.
#[derive(Debug, Parser)]
#[command(name = "pocketmuse", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// Never fetch anything: fail if ONNX Runtime is not there
    #[arg(long, global = true)]
    pub offline: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a picture from a prompt
    Generate(Box<GenerateArgs>),
    /// Make a picture from a picture: the whole of it, or what a mask says
    Edit(Box<EditArgs>),
    /// Compare prompts and settings: one labelled sheet of pictures
    Grid(Box<GridArgs>),
    /// Make a moving picture from a prompt
    Video(Box<VideoArgs>),
    /// Go on with a job that was stopped or killed, from the file that --job kept
    Resume(ResumeArgs),
    /// Turn a checkpoint in the hub layout into a package
    Export(ExportArgs),
    /// Show what is in a checkpoint or in a package
    Inspect(InspectArgs),
    /// Run every stage of a package on reference tensors and compare
    Verify(VerifyArgs),
    /// Measure a package on this machine: time, operations, share of the machine's own speed, memory
    Bench(BenchArgs),
    /// Make a full-size checkpoint of random weights, to measure time and memory
    Synth(SynthArgs),
    /// List or remove what the cache knows of packages: which of their files were checked
    Prepared(PreparedArgs),
    /// Bring the pinned ONNX Runtime into the cache, through pip or npm
    Setup(SetupArgs),
}

const GENERATE_HELP: &str = "\
Prints the names of the files it wrote on stdout, everything else on stderr. With --json, stdout has one JSON object
per line instead, each with \"event\": start, warning, step, trace, done, plan or error. Times are milliseconds, sizes bytes.

Without -o the file is named after the prompt, in the current folder, and never replaces another. A file named with -o
is replaced. Several pictures are NAME-0.png, NAME-1.png and so on. With --prompts the line's number is in the name, with
--seeds the seed: NAME-LINE-SEED.png. Empty lines are skipped; a line that fails is reported, the others are made, and the
exit code is then 1.

Weights in a prompt: (word) is 1.1, ((word)) 1.21, [word] 1/1.1, (some words:1.3) the number, 0 to 10; nested ones
multiply. \\( \\) \\[ \\] are brackets in the text. A bracket without its partner is text too.

Examples:
  pocketmuse generate \"a red lighthouse by the sea at sunset\"
  pocketmuse generate \"a robot in the snow\" --seed 7 --num-images-per-prompt 4 -o robot.webp
  pocketmuse generate \"a robot in the snow\" --package amused-512.package --memory 560MB --explain
  pocketmuse generate \"a robot in the snow\" --trace why -o robot.png   # then open why/index.html
  pocketmuse generate --prompts prompts.txt --seeds 1,2,3 -o pictures/scene.png
  pocketmuse generate --from robot.png --guidance-scale 2 -o stronger.png";

/// The flags of `generate`.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = GENERATE_HELP, allow_negative_numbers = true)]
pub struct GenerateArgs {
    /// What the picture shows, in English; (word:1.3) weighs more, [word] less. What does not fit the model's 77 tokens is cut off
    #[arg(value_name = "PROMPT", required_unless_present_any = ["from", "prompts"])]
    pub prompt: Option<String>,
    /// Make a picture for each line of this text file, the model loaded once
    #[arg(long, value_name = "FILE.txt", conflicts_with_all = ["prompt", "job", "save_tokens", "trace", "explain"])]
    pub prompts: Option<PathBuf>,
    /// The package to use [default: the built-in model, exported once into the cache]
    #[arg(long, value_name = "DIR")]
    pub package: Option<PathBuf>,
    /// What the picture is guided away from
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Take brackets in both prompts as text, and not as weights
    #[arg(long)]
    pub no_prompt_weighting: bool,
    /// How strongly the prompt steers; up to 1 guidance is off and a step costs half [default: the package's]
    #[arg(long, value_name = "NUMBER")]
    pub guidance_scale: Option<f32>,
    /// Steps from all tokens masked to all chosen [default: the package's]
    #[arg(long, value_name = "COUNT")]
    pub num_inference_steps: Option<u32>,
    /// Noise of the choice of tokens: FIRST,LAST step, or one number that falls to 0.01 [default: the package's]
    #[arg(long, value_name = "FIRST,LAST")]
    pub temperature: Option<Temperature>,
    /// Height in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u32>,
    /// Width in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u32>,
    /// Pictures to make [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub num_images_per_prompt: Option<u32>,
    /// The same seed makes the same picture [default: a random one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Make a picture for each of these seeds, the model loaded once
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',',
          conflicts_with_all = ["seed", "job", "save_tokens", "trace", "explain"])]
    pub seeds: Vec<u64>,
    /// The aesthetic score that the model is told its picture has, about 0 to 10 [default: 6]
    #[arg(alias = "micro-conditioning-aesthetic-score", long, value_name = "NUMBER")]
    pub aesthetic_score: Option<f32>,
    /// The corner that the model is told its picture was cropped at [default: 0,0]
    #[arg(alias = "micro-conditioning-crop-coord", long, value_name = "LEFT,TOP", value_parser = parse_corner)]
    pub crop_coordinates: Option<[u32; 2]>,
    /// Random numbers: own (the same on every machine) or torch (as the reference pipeline, slow) [default: own]
    #[arg(long, value_name = "KIND")]
    pub rng: Option<RngKind>,
    /// Which tokens a step chooses: confidence (the surest, with noise), or halton (spread evenly, a fixed order in which
    /// each token is asked for once; --temperature has no effect) [default: confidence]
    #[arg(long, value_name = "SAMPLER")]
    pub sampler: Option<Sampler>,
    /// How guidance grows over the steps: constant, linear from none, or cosine, faster at first [default: constant]
    #[arg(long, value_name = "SCHEDULE")]
    pub guidance_schedule: Option<GuidanceSchedule>,
    /// How the number of masked tokens falls: cosine or linear [default: the package's; linear with a mask]
    #[arg(long, value_name = "SCHEDULE")]
    pub masking_schedule: Option<MaskingSchedule>,
    /// The graphs of the package to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR")]
    pub flavour: Option<Flavour>,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// The most memory to hold, such as 512MB or 1.5GiB; auto is three quarters of what the system has left [default: auto]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Budget>,
    /// Print how each stage would be loaded and the memory that would take, and make nothing
    #[arg(long)]
    pub explain: bool,
    /// Where to write: a file ending in .png, .jpg or .webp, or a folder; only a PNG holds its request
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Repeat the request that made this PNG; other flags change it
    #[arg(long, value_name = "PICTURE.png")]
    pub from: Option<PathBuf>,
    /// Print time and peak memory of each stage
    #[arg(long)]
    pub verbose: bool,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
    /// Keep the job in this file after every step, so that `pocketmuse resume FILE.json` can go on after a kill
    #[arg(long, value_name = "FILE.json")]
    pub job: Option<PathBuf>,
    /// Write the token ids after every step to this file
    #[arg(long, value_name = "FILE.json")]
    pub save_tokens: Option<PathBuf>,
    /// Show the picture in the making after every step, without the decoder: in place in a terminal that can show it, else as
    /// files NAME.step-01.png and so on beside the picture, named in the step events of --json
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub preview: Option<Show>,
    /// Look inside: write which tokens each step fixed, how sure the model was and where it looked for each word of the
    /// prompt to this new folder, as index.html (a page that explains them), labelled PNGs and trace.json
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// The line of the prompt file, from 1, that this is for.
    #[arg(skip)]
    pub line: Option<usize>,
    /// The seed, if files are named after it.
    #[arg(skip)]
    pub named_seed: Option<u64>,
}

impl GenerateArgs {
    /// `base` with everything the flags say changed; a seed stays `base`'s if none is given.
    pub fn request(&self, base: Request) -> Request {
        Request {
            prompt: self.prompt.clone().unwrap_or(base.prompt),
            negative_prompt: self.negative_prompt.clone().unwrap_or(base.negative_prompt),
            prompt_weighting: if self.no_prompt_weighting {
                false
            } else {
                base.prompt_weighting || self.prompt.is_some() // a new prompt is read as prompts are read now
            },
            guidance_scale: self.guidance_scale.or(base.guidance_scale),
            num_inference_steps: self.num_inference_steps.or(base.num_inference_steps),
            temperature: self.temperature.or(base.temperature),
            height: self.height.or(base.height),
            width: self.width.or(base.width),
            num_images_per_prompt: self.num_images_per_prompt.unwrap_or(base.num_images_per_prompt),
            seed: self.seed.unwrap_or(base.seed),
            rng: self.rng.unwrap_or(base.rng),
            aesthetic_score: self.aesthetic_score.unwrap_or(base.aesthetic_score),
            crop_coordinates: self.crop_coordinates.unwrap_or(base.crop_coordinates),
            sampler: self.sampler.unwrap_or(base.sampler),
            guidance_schedule: self.guidance_schedule.unwrap_or(base.guidance_schedule),
            masking_schedule: self.masking_schedule.or(base.masking_schedule),
            ..base
        }
    }
}

const EDIT_HELP: &str = "\
The picture may be PNG, JPEG, WebP, GIF (its first frame), BMP, PNM or TIFF of up to 256 MiB of pixels; it is turned as
its EXIF orientation says, and what is transparent is laid on white.

Size: --width and --height where given; one alone brings the other by the picture's proportions. Else the picture's own
size; if it has more pixels than the model's own pictures, as many as those. Sides are rounded down to whole tokens, and
what then stands over is cropped evenly from both sides.

Without a mask the whole picture is remade (image to image): --strength 0.3 changes little, 1 starts from scratch. With
--mask, --alpha or --box only that part is (inpainting): a token is repainted if at least half of it is white, and outside
the mask the picture's own pixels are put back, with an edge one token wide. A mask of another size is stretched.

Examples:
  pocketmuse edit house.png \"a blue house in the snow\" --strength 0.6
  pocketmuse edit photo.jpg \"a red robot\" --mask mask.png -o robot.png
  pocketmuse edit photo.jpg \"a balloon\" --box 40,0,64,64 --seed 3
  pocketmuse edit house.png \"a red house in a meadow\" --extend left=64,right=64";

/// The flags of `edit`: those of `generate`, and what it starts from.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = EDIT_HELP, allow_negative_numbers = true)]
pub struct EditArgs {
    /// The picture to start from
    #[arg(value_name = "PICTURE")]
    pub picture: PathBuf,
    /// How much changes, 0 to 1: the part of the steps that is run [default: 0.5, with a mask 1]
    #[arg(long, value_name = "NUMBER")]
    pub strength: Option<f64>,
    /// Repaint what is white in this picture and keep the rest
    #[arg(long, value_name = "MASK", group = "where")]
    pub mask: Option<PathBuf>,
    /// Repaint what is transparent in the picture
    #[arg(long, group = "where")]
    pub alpha: bool,
    /// Repaint a box, in pixels of the picture
    #[arg(long = "box", value_name = "LEFT,TOP,WIDTH,HEIGHT", value_parser = parse_box, group = "where", allow_hyphen_values = true)]
    pub area: Option<[u32; 4]>,
    /// Add pixels at the sides and repaint them; the picture itself stays
    #[arg(long, value_name = "left=PIXELS,top=..,right=..,bottom=..", value_parser = parse_sides)]
    pub extend: Option<[u32; 4]>,
    /// With a mask: do not put the picture's own pixels back outside it
    #[arg(long)]
    pub no_paste: bool,
    /// Let strength 1 without a mask keep everything, as the reference pipeline does
    #[arg(long)]
    pub reference_strength: bool,
    /// All flags of generate
    #[command(flatten)]
    pub generate: GenerateArgs,
}

impl EditArgs {
    /// `base` with everything the flags say changed.
    pub fn request(&self, base: Request) -> Request {
        let request = self.generate.request(base);
        Request {
            strength: self.strength.or(request.strength),
            reference_strength: self.reference_strength || request.reference_strength,
            ..request
        }
    }
}

const RESUME_HELP: &str = "\
The pictures are those of a job that was never stopped, byte for byte, and go where the job was to put them. A picture to
edit and its mask must still be there, unchanged. The file stays until you remove it; with nothing left to do its pictures
are decoded once more. A file that was changed by hand is refused, and so is one of another package.

Example:
  pocketmuse generate \"a big purple robot in the snow\" --job robot.json -o robot.png
  pocketmuse resume robot.json";

/// The flags of `resume`.
#[derive(Debug, Args)]
#[command(after_help = RESUME_HELP)]
pub struct ResumeArgs {
    /// The job's file
    #[arg(value_name = "FILE.json")]
    pub job: PathBuf,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// The most memory to hold, such as 512MB or 1.5GiB [default: auto]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Budget>,
    /// Print time and peak memory of each stage
    #[arg(long)]
    pub verbose: bool,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
}

/// The flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The checkpoint's folder: model_index.json, text_encoder, tokenizer, transformer, vqvae, scheduler
    pub checkpoint: PathBuf,
    /// The package's folder, which must not exist
    #[arg(short, long, value_name = "PACKAGE")]
    pub output: PathBuf,
    /// A kind of graphs to write; may be given several times [default: int8]
    #[arg(long = "flavour", value_name = "FLAVOUR")]
    pub flavours: Vec<Flavour>,
    /// The model's name in the package [default: the checkpoint's folder]
    #[arg(long)]
    pub name: Option<String>,
    /// Replace a package that is there
    #[arg(long)]
    pub force: bool,
}

/// The flags of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A checkpoint's or a package's folder
    pub path: PathBuf,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// The flags of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Prints one line for each tensor. The exit code is 0 only if all hold.")]
pub struct VerifyArgs {
    /// The package's folder
    pub package: PathBuf,
    /// Reference tensors: inputs and outputs of every stage
    #[arg(long, value_name = "FILE.safetensors")]
    pub golden: PathBuf,
    /// The graphs of the package to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR")]
    pub flavour: Option<Flavour>,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
}

const BENCH_HELP: &str = "\
Makes one picture from files that the system does not hold in memory (where it can be asked to forget them), then as
many as --runs says, whose medians are printed, and one more to count operations. Operations are two for each multiply-add of a matrix product or
convolution. The machine's own speed is that of single linear layers of the shapes that the step graph has, int8
(DynamicQuantizeLinear and MatMulInteger, fused) and f32 (MatMul), through the same ONNX Runtime, each as often as the
step graph runs it. With --json, stdout has one JSON object; times are milliseconds, sizes bytes.

Example:
  pocketmuse bench --package amused-512.package --threads 2 --json";

/// The flags of `bench`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_HELP)]
pub struct BenchArgs {
    /// The package to use [default: the built-in model, exported once into the cache]
    #[arg(long, value_name = "DIR")]
    pub package: Option<PathBuf>,
    /// The graphs of the package to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR")]
    pub flavour: Option<Flavour>,
    /// Steps from all tokens masked to all chosen [default: the package's]
    #[arg(long, alias = "num-inference-steps", value_name = "COUNT")]
    pub steps: Option<u32>,
    /// Height and width in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// Pictures whose median is printed
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// The flags of `synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Whose sizes it has
    #[arg(long)]
    pub preset: Preset,
    /// The checkpoint's folder, which must not exist
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// The same seed makes the same bytes
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// The type of the weights
    #[arg(long, value_enum, default_value = "f16")]
    pub dtype: FloatType,
    /// Replace a folder that is there
    #[arg(long)]
    pub force: bool,
}

/// The flags of `prepared`.
#[derive(Debug, Args)]
pub struct PreparedArgs {
    /// Remove all of it: packages are checked again when they are used
    #[arg(long)]
    pub clean: bool,
}

/// The flags of `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Bring it even if it is there
    #[arg(long)]
    pub force: bool,
}

/// The types that weights can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FloatType {
    /// 16-bit float
    F16,
    /// 16-bit float with the exponent of an f32
    Bf16,
    /// 32-bit float
    F32,
}

impl From<FloatType> for Dtype {
    fn from(float: FloatType) -> Self {
        match float {
            FloatType::F16 => Self::F16,
            FloatType::Bf16 => Self::Bf16,
            FloatType::F32 => Self::F32,
        }
    }
}

/// Reads `0,0`.
fn parse_corner(text: &str) -> Result<[u32; 2], String> {
    parse_numbers(text).ok_or_else(|| format!("expected two whole numbers with a comma between, found {text:?}"))
}

/// Reads `40,0,64,64`.
fn parse_box(text: &str) -> Result<[u32; 4], String> {
    parse_numbers(text).ok_or_else(|| format!("expected four whole numbers with commas between, found {text:?}"))
}

/// Reads `left=64,top=32` as left, top, right and bottom.
fn parse_sides(text: &str) -> Result<[u32; 4], String> {
    let wrong = || format!("expected sides such as left=64,top=32, found {text:?}");
    let mut sides = [0; 4];
    for part in text.split(',') {
        let (name, pixels) = part.split_once('=').ok_or_else(wrong)?;
        let side = ["left", "top", "right", "bottom"].iter().position(|side| *side == name.trim()).ok_or_else(wrong)?;
        sides[side] = pixels.trim().parse().map_err(|_| wrong())?;
    }
    Ok(sides)
}

fn parse_numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn generate(words: &[&str]) -> Result<GenerateArgs, clap::Error> {
        let cli = Cli::try_parse_from(["pocketmuse", "generate"].iter().chain(words))?;
        match cli.command {
            Command::Generate(args) => Ok(*args),
            other => panic!("expected generate, found {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_the_request() {
        type Changed = fn(&mut Request);
        let cases: [(&[&str], Changed); 16] = [
            (&["--no-prompt-weighting"], |r| r.prompt_weighting = false),
            (&["--negative-prompt", "fog"], |r| r.negative_prompt = "fog".to_owned()),
            (&["--guidance-scale", "2.5"], |r| r.guidance_scale = Some(2.5)),
            (&["--guidance-scale", "-1"], |r| r.guidance_scale = Some(-1.0)), // refused later, with its range
            (&["--num-inference-steps=4"], |r| r.num_inference_steps = Some(4)),
            (&["--temperature", "2,0"], |r| r.temperature = Some(Temperature::Range([2.0, 0.0]))),
            (&["--temperature", "1.5"], |r| r.temperature = Some(Temperature::Decaying(1.5))),
            (&["--height", "128", "--width", "64"], |r| (r.height, r.width) = (Some(128), Some(64))),
            (&["--num-images-per-prompt", "3"], |r| r.num_images_per_prompt = 3),
            (&["--seed", "18446744073709551615"], |r| r.seed = u64::MAX),
            (&["--aesthetic-score", "7"], |r| r.aesthetic_score = 7.0),
            (&["--crop-coordinates", "8, 16"], |r| r.crop_coordinates = [8, 16]),
            (&["--rng", "torch"], |r| r.rng = RngKind::Torch),
            (&["--sampler", "halton"], |r| r.sampler = Sampler::Halton),
            (&["--guidance-schedule", "cosine"], |r| r.guidance_schedule = GuidanceSchedule::Cosine),
            (&["--masking-schedule", "linear"], |r| r.masking_schedule = Some(MaskingSchedule::Linear)),
        ];
        for (words, change) in cases {
            let mut expected = Request { prompt: "a tree".to_owned(), seed: 5, ..Request::default() };
            let args = generate(&[&["a tree"], words].concat()).expect("valid");
            let found = args.request(Request { prompt: "another".to_owned(), seed: 5, ..Request::default() });
            change(&mut expected);
            assert_eq!(found, expected, "{words:?}");
        }
    }

    fn edit(words: &[&str]) -> Result<EditArgs, clap::Error> {
        match Cli::try_parse_from(["pocketmuse", "edit", "a.png"].iter().chain(words))?.command {
            Command::Edit(args) => Ok(*args),
            other => panic!("expected edit, found {other:?}"),
        }
    }

    #[test]
    fn an_edit_takes_a_picture_and_then_what_generate_takes() {
        let args = edit(&["a tree", "--strength", "0.6", "--seed", "3", "--reference-strength"]).expect("valid");
        let expected = Request {
            prompt: "a tree".to_owned(),
            seed: 3,
            strength: Some(0.6),
            reference_strength: true,
            ..Request::default()
        };
        assert_eq!((args.picture.clone(), args.request(Request::default())), (PathBuf::from("a.png"), expected));
        let base = Request { strength: Some(0.3), ..Request::default() };
        let args = edit(&["a", "--extend", "right=8, top=16"]).expect("valid");
        assert_eq!(args.extend, Some([0, 16, 8, 0]));
        let args = edit(&["a", "--box", "1, 2,3,4", "--no-paste"]).expect("valid");
        assert_eq!((args.area, args.no_paste, args.request(base).strength), (Some([1, 2, 3, 4]), true, Some(0.3)));
        let wrong: [&[&str]; 6] = [
            &["a", "--extend", "up=3"],
            &["a", "--extend", "left=-1"],
            &[],
            &["a", "--box", "1,2,3"],
            &["a", "--alpha", "--mask", "m.png"],
            &["a", "--strength", "x"],
        ];
        for words in wrong {
            assert_eq!(edit(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn a_picture_can_stand_for_the_prompt() {
        let base = Request { prompt: "a tree".to_owned(), seed: 9, height: Some(64), ..Request::default() };
        assert_eq!(generate(&["--from", "a.png"]).expect("valid").request(base.clone()), base);
    }

    #[test]
    fn wrong_lines_are_refused_as_usage() {
        let cases: [&[&str]; 8] = [
            &[],
            &["a", "b"],
            &["a", "--temperature", "1,2,3"],
            &["a", "--crop-coordinates", "0"],
            &["a", "--crop-coordinates", "-1,0"],
            &["a", "--seed", "x"],
            &["a", "--rng", "numpy"],
            &["a", "--flavour", "int3"],
        ];
        for words in cases {
            assert_eq!(generate(words).expect_err("wrong").exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn offline_can_stand_anywhere() {
        for words in [["pocketmuse", "--offline", "setup"], ["pocketmuse", "setup", "--offline"]] {
            assert!(Cli::try_parse_from(words).expect("valid").offline);
        }
    }

    #[test]
    fn the_test_preset_is_hidden_and_works() {
        let words = ["pocketmuse", "synth", "--preset", "tiny", "-o", "x"];
        assert!(Cli::try_parse_from(words).is_ok());
        let mut synth = Cli::command().find_subcommand("synth").expect("a command").clone();
        assert!(!synth.render_help().to_string().contains("tiny"));
    }
}
