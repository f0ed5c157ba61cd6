//! `pocketmuse grid`: pictures that differ in one setting or two, on one labelled sheet.

use std::path::PathBuf;

use image::RgbImage;
use pocketmuse::{Request, Source, pixels};
use pocketmuse_package::{Error, ErrorKind, Result, place};
use serde_json::json;

use super::{
    edit,
    generate::Console,
    job,
    package::{self, Opened},
};
use crate::{
    args::{Axis, GridArgs, Setting},
    sheet, stop, terminal,
};

/// The most pictures of a grid.
const MAX_PICTURES: usize = 256;

/// What is to be made: the request that all pictures share, and the settings that differ.
struct Grid {
    base: Request,
    columns: Vec<Option<Setting>>,
    rows: Vec<Option<Setting>>,
}

pub(crate) fn run(args: &GridArgs, offline: bool) -> Result<u8> {
    let console = Console { json: args.package.run.json };
    let made = package::mended(&args.package, &console, || make(args, offline, &console));
    made.map(|()| 0).inspect_err(|error| console.event(|| terminal::error_event(error)))
}

fn make(args: &GridArgs, offline: bool, console: &Console) -> Result<()> {
    pixels::check_destination(&args.output)?;
    place::neighbour(&args.output)?; // removed again at once: now is the time to know
    let grid = Grid::new(args)?;
    let source = args
        .picture
        .as_deref()
        .map(|path| edit::read_image(path, args.package.run.memory, console))
        .transpose()?
        .map(Source::new);
    let found = package::find(&args.package, console)?;
    let requests = grid.requests();
    for request in &requests {
        match &source {
            Some(source) => source.resolve(request, &found.manifest)?,
            None => request.resolve(&found.manifest)?,
        }; // a wrong request fails before anything is fetched
    }
    let Opened { folder, manifest, pipeline } =
        found.open(&package::options(&args.package), offline)?;
    console.started(&folder, &manifest, grid.base.seed);

    let bar = terminal::step_bar("drawing", console.json);
    bar.set_length(requests.len() as u64);
    let mut pictures: Vec<RgbImage> = Vec::new();
    for request in &requests {
        let output = match &source {
            Some(source) => pipeline.edit(request, source, |_| stop::flow())?,
            None => pipeline.generate(request, |_| stop::flow())?,
        };
        pictures.extend(output.images);
        bar.inc(1);
        console.event(
            || json!({"event": "picture", "picture": pictures.len(), "pictures": requests.len()}),
        );
    }
    bar.finish_and_clear();
    stop::check()?;
    let sheet = sheet::lay(&pictures, &labels(&grid.columns), &labels(&grid.rows));
    pixels::write(&sheet, &args.output, &grid.base, &[])?;
    let files: [&PathBuf; 1] = [&args.output];
    console.event(
        || json!({"event": "done", "files": files, "request": terminal::plain_json(&grid.base)}),
    );
    if !console.json {
        terminal::print(args.output.display().to_string());
    }
    Ok(())
}

impl Grid {
    fn new(args: &GridArgs) -> Result<Self> {
        let seed = args.seed.unwrap_or_else(job::random_seed);
        let first = args.prompts.first().cloned().unwrap_or_default();
        let base = Request { prompt: first, seed, ..Request::default() };
        let base = args.settings.iter().fold(base, |base, setting| setting.request(base));
        let axis = |axis: &Option<Axis>| {
            axis.as_ref()
                .map(|axis| axis.0.iter().cloned().map(Some).collect::<Vec<Option<Setting>>>())
        };
        let prompt =
            |value: &String| Some(Setting { field: "prompt".to_owned(), value: value.clone() });
        let prompts =
            Some(args.prompts.iter().map(prompt).collect()).filter(|_| args.prompts.len() > 1);
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
        if count > MAX_PICTURES {
            return Err(bad(
                "grid",
                format!("expected at most {MAX_PICTURES} pictures, found {count}"),
            ));
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

/// What stands beside a row or above a column: a prompt by itself, else the setting's name and its
/// value.
fn labels(settings: &[Option<Setting>]) -> Vec<String> {
    let label = |setting: &Setting| match setting.field.as_str() {
        "prompt" => setting.value.clone(),
        field => format!("{field} {}", setting.value),
    };
    settings.iter().map(|setting| setting.as_ref().map(label).unwrap_or_default()).collect()
}

fn bad(at: &str, detail: String) -> Error {
    Error::new(ErrorKind::BadRequest, at, detail)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn grid(words: &[&str]) -> Result<Grid> {
        let line = ["pocketmuse", "grid", "-o", "a.png", "--seed", "3"];
        match Cli::try_parse_from(line.iter().chain(words)).expect("valid").command {
            Command::Grid(args) => Grid::new(&args),
            other => panic!("expected grid, found {other:?}"),
        }
    }

    #[test]
    fn columns_and_rows_are_settings_or_prompts() {
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
        assert_eq!(error.to_string(), "grid: expected at most 256 pictures, found 289");
    }

    #[test]
    fn a_picture_has_the_settings_of_its_column_its_row_and_all() {
        let words =
            ["a", "b", "--columns", "guidance-scale=1,2,3", "--with", "num-inference-steps=5"];
        let requests = grid(&words).expect("valid").requests();
        let found: Vec<_> =
            requests.iter().map(|r| (r.prompt.as_str(), r.guidance_scale.unwrap_or(0.0))).collect();
        assert_eq!(found, [("a", 1.0), ("a", 2.0), ("a", 3.0), ("b", 1.0), ("b", 2.0), ("b", 3.0)]);
        assert!(
            requests
                .iter()
                .all(|request| request.num_inference_steps == Some(5) && request.seed == 3)
        );
    }
}
