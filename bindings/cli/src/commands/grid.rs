//! `pocketmuse grid`: images that differ in one setting or two, on one labelled sheet.

use std::collections::BTreeSet;

use image::RgbImage;
use pocketmuse::{MadeBy, Manifest, Origin, Pipeline, Request, Source, Step, pixels};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::{
    args::{Axis, GridArgs, Setting},
    console::Console,
    events::{Event, paths},
    image_file, label, order,
    outputs::Outputs,
    package::{self, Opened},
    sheet, source, stop, terminal,
};

/// The most images of a grid.
const MAX_IMAGES: usize = 256;

/// What is to be made: the request that all images share, and the settings that differ.
struct Grid {
    base: Request,
    columns: Vec<Option<Setting>>,
    rows: Vec<Option<Setting>>,
}

pub(crate) fn run(args: &GridArgs, offline: bool) -> Result<u8> {
    let console = Console::new(&args.package.run);
    let made = package::with_repair(&args.package, &console, || make(args, offline, &console));
    made.map(|()| 0).inspect_err(|error| console.error(error))
}

fn make(args: &GridArgs, offline: bool, console: &Console) -> Result<()> {
    pixels::check_destination(&args.output)?;
    let mut outputs = Outputs::given(vec![args.output.clone()]);
    outputs.try_first()?;
    let grid = Grid::new(args)?;
    let memory = args.package.run.memory;
    let read = |path| source::read_image(path, memory, console);
    let source = args.image.as_deref().map(read).transpose()?.map(Source::new);
    let found = package::find(&args.package, console)?;
    let requests = grid.requests();
    requests.iter().try_for_each(|request| check(request, source.as_ref(), &found.manifest))?;
    let opened = found.open(&package::options(&args.package), offline)?;
    let Opened { folder, manifest, pipeline } = &opened;
    let warned = |request| [order::warnings(request), order::unusual(request, manifest)].concat();
    let warnings: BTreeSet<_> = requests.iter().flat_map(warned).collect();
    warnings.iter().try_for_each(|warning| console.warning(warning))?;
    console.start((folder, manifest, pipeline), grid.base.seed, &[], None)?;

    let Drawn { images, truncated, unknown_words, made_by } =
        draw(&requests, source.as_ref(), pipeline, console)?;
    console.truncated(&truncated.into_iter().collect::<Vec<_>>())?;
    console.unknown(&unknown_words.into_iter().collect::<Vec<_>>(), manifest)?;
    let [columns, rows] = [&grid.columns, &grid.rows].map(|settings| Labels::of(settings));
    let sheet = sheet::lay(&images, &columns.shown, &rows.shown);
    let told = made_by.as_ref().filter(|_| !args.written.private);
    let told = told.map(|made_by| (&grid.base, made_by));
    outputs.write(0, |path| image_file::write(&sheet, path, told))?;
    let (files, legend) = (outputs.files(), [columns.legend, rows.legend].concat());
    console.legend(&legend);
    console.done(files, &Event::Grid { files: paths(files), request: &grid.base, legend })
}

/// A wrong request fails before anything is fetched.
fn check(request: &Request, source: Option<&Source>, manifest: &Manifest) -> Result<()> {
    let resolved = match source {
        Some(source) => source.resolve(request, manifest),
        None => request.resolve(manifest),
    };
    resolved.map(drop)
}

/// The images of a grid, and what of their prompts the model did not take, each once.
#[derive(Default)]
struct Drawn {
    images: Vec<RgbImage>,
    truncated: BTreeSet<String>,
    unknown_words: BTreeSet<String>,
    /// What made the first.
    made_by: Option<MadeBy>,
}

/// Makes the images, in the order of their requests.
fn draw(
    requests: &[Request],
    source: Option<&Source>,
    pipeline: &Pipeline,
    console: &Console,
) -> Result<Drawn> {
    let bar = terminal::step_bar("drawing", console.hides_bars());
    bar.set_length(requests.len() as u64);
    let mut drawn = Drawn::default();
    for request in requests {
        let job = pipeline.job(request, Origin::image(source))?;
        let output = pipeline.run(&job, &mut |_: &Step<'_>| stop::flow())?;
        drawn.made_by.get_or_insert(output.made_by);
        drawn.images.extend(output.images);
        drawn.truncated.extend(output.truncated);
        drawn.unknown_words.extend(output.unknown_words);
        bar.inc(1);
        let (picture, pictures) = (drawn.images.len(), requests.len());
        console.event(&Event::Picture { picture, pictures })?;
    }
    bar.finish_and_clear();
    stop::check()?;
    Ok(drawn)
}

impl Grid {
    fn new(args: &GridArgs) -> Result<Self> {
        let base = order::grid_request(args);
        let axis = |axis: &Option<Axis>| {
            axis.as_ref()
                .map(|axis| axis.0.iter().cloned().map(Some).collect::<Vec<Option<Setting>>>())
        };
        let prompts = args.prompts.iter().map(|prompt| Some(Setting::prompt(prompt))).collect();
        let prompts = Some(prompts).filter(|_| args.prompts.len() > 1);
        let one = || vec![None];
        let (columns, rows) = match (axis(&args.columns), axis(&args.rows), prompts) {
            (Some(_), Some(_), Some(_)) => {
                let detail =
                    "expected one prompt where both columns and rows are settings, found several";
                return Err(bad("prompt", detail.to_owned()));
            }
            (None, Some(rows), prompts) => (prompts.unwrap_or_else(one), rows),
            (columns, rows, prompts) => {
                (columns.unwrap_or_else(one), rows.or(prompts).unwrap_or_else(one))
            }
        };
        let count = columns.len() * rows.len();
        if count > MAX_IMAGES {
            let detail = format!("expected at most {MAX_IMAGES} images, found {count}");
            return Err(bad("grid", detail));
        }
        Ok(Self { base, columns, rows })
    }

    /// Row after row.
    fn requests(&self) -> Vec<Request> {
        let with = |base: Request, setting: &Option<Setting>| match setting {
            Some(setting) => setting.request(base),
            None => base,
        };
        let row =
            |row| self.columns.iter().map(move |column| with(with(self.base.clone(), row), column));
        self.rows.iter().flat_map(row).collect()
    }
}

/// What stands beside the rows or above the columns.
#[derive(Debug, Default)]
struct Labels {
    shown: Vec<String>,
    /// What the sheet's font cannot show, behind the number that stands there instead.
    legend: Vec<String>,
}

impl Labels {
    /// A prompt by itself, else the setting's name and its value.
    fn of(settings: &[Option<Setting>]) -> Self {
        let mut labels = Self::default();
        for (number, setting) in (1..).zip(settings) {
            let Some(Setting { field, value, .. }) = setting else {
                labels.shown.push(String::new());
                continue;
            };
            let text = match *field {
                "prompt" => value.clone(),
                field => format!("{field} {value}"),
            };
            labels.shown.push(if label::can_show(&text) {
                text
            } else {
                labels.legend.push(format!("{field} {number}: {value}"));
                format!("{field} {number}")
            });
        }
        labels
    }
}

fn bad(at: &str, detail: String) -> Error {
    Error::new(ErrorKind::BadRequest, at, detail)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        grid: GridArgs,
    }

    fn grid(words: &[&str]) -> Result<Grid> {
        let line = ["test", "-o", "a.png", "--seed", "3"];
        Grid::new(&Line::try_parse_from(line.iter().chain(words)).expect("valid").grid)
    }

    #[test]
    fn columns_and_rows_are_settings_or_prompts() {
        let labels = |settings: &[_]| Labels::of(settings).shown;
        let shape =
            |words: &[&str]| grid(words).map(|grid| (labels(&grid.columns), labels(&grid.rows)));
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (words, columns, rows) in [
            (&["a"][..], &[""][..], &[""][..]),
            (&["a", "b"], &[""], &["a", "b"]),
            (&["a", "b", "--columns", "seed=1,2"], &["seed 1", "seed 2"], &["a", "b"]),
            (&["a", "b", "--rows", "seed=1,2"], &["a", "b"], &["seed 1", "seed 2"]),
            (&["a", "--columns", "prompt=c;d", "--rows", "seed=7"], &["c", "d"], &["seed 7"]),
        ] {
            assert_eq!(shape(words).expect("valid"), (names(columns), names(rows)), "{words:?}");
        }
        let error =
            shape(&["a", "b", "--columns", "seed=1", "--rows", "seed=1"]).expect_err("three axes");
        assert!(error.to_string().starts_with("prompt: expected one prompt where both"), "{error}");
        let many =
            format!("seed={}", (0..17).map(|seed| seed.to_string()).collect::<Vec<_>>().join(","));
        let error = shape(&["a", "--columns", &many, "--rows", &many]).expect_err("too many");
        assert_eq!(error.to_string(), "grid: expected at most 256 images, found 289");
    }

    #[test]
    fn what_the_font_lacks_has_a_number_and_a_legend() {
        let prompts = ["a house", "赤い家", "بيت أحمر", "a \u{1f680}", "cafe\u{301}", "café Ω"];
        let labels = Labels::of(&grid(&prompts).expect("valid").rows);
        let shown = ["a house", "prompt 2", "prompt 3", "prompt 4", "prompt 5", "café Ω"];
        assert_eq!(labels.shown, shown);
        let legend: Vec<_> =
            [2, 3, 4, 5].map(|number| format!("prompt {number}: {}", prompts[number - 1])).into();
        assert_eq!(labels.legend, legend);
        let words = ["a", "--columns", "negative-prompt=fog;霧"];
        let labels = Labels::of(&grid(&words).expect("valid").columns);
        assert_eq!(labels.shown, ["negative-prompt fog", "negative-prompt 2"]);
        assert_eq!(labels.legend, ["negative-prompt 2: 霧"]);
    }

    #[test]
    fn an_image_has_the_settings_of_its_column_its_row_and_all() {
        for all in [&["--with", "num-inference-steps=5"][..], &["--num-inference-steps", "5"]] {
            let words = [&["a", "b", "--columns", "guidance-scale=1,2,3"], all].concat();
            let requests = grid(&words).expect("valid").requests();
            let found: Vec<_> = requests
                .iter()
                .map(|request| (request.prompt.as_str(), request.guidance_scale.unwrap_or(0.0)))
                .collect();
            let expected = [("a", 1.0), ("a", 2.0), ("a", 3.0), ("b", 1.0), ("b", 2.0), ("b", 3.0)];
            assert_eq!(found, expected);
            assert!(
                requests
                    .iter()
                    .all(|request| request.num_inference_steps == Some(5) && request.seed == 3)
            );
        }
    }
}
