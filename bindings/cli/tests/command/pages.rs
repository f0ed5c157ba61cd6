//! What the pages in `docs` show: their images are made again, by the commands that they name.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use image::{AnimationDecoder, RgbImage, codecs::gif::GifDecoder};

use crate::support;

/// The most that a value of a pixel of an f32 image differs by between processors, of 255: twice
/// what was found between one with AVX2 and one with AMX.
const MOST: u8 = 2;
/// The most that an animation's values differ by in the mean: GIF's choice of colours, which a value
/// that differs by 1 may change. Found 0.004.
const MOST_IN_THE_MEAN: f64 = 0.1;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_image(name: &str) -> bool {
    [".png", ".gif"].iter().any(|ending| name.ends_with(ending))
}

fn names(folder: &Path) -> BTreeSet<String> {
    support::names(folder).into_iter().filter(|name| is_image(name)).collect()
}

/// The images of a file, of which an animation has several.
fn images(path: &Path) -> Vec<RgbImage> {
    if path.extension().is_some_and(|ending| ending == "gif") {
        let file = BufReader::new(File::open(path).expect("there"));
        let frames = GifDecoder::new(file).expect("a GIF").into_frames();
        let image = |frame: image::Frame| image::DynamicImage::from(frame.into_buffer());
        return frames.map(|frame| image(frame.expect("whole")).into_rgb8()).collect();
    }
    vec![image::open(path).expect("an image").into_rgb8()]
}

fn check_image(name: &str, made: &Path) {
    let [found, shown] = [made, &workspace().join("docs")].map(|folder| images(&folder.join(name)));
    let sizes = |images: &[RgbImage]| images.iter().map(RgbImage::dimensions).collect::<Vec<_>>();
    assert_eq!(sizes(&found), sizes(&shown), "{name}");
    let pairs = found
        .iter()
        .flat_map(|image| image.iter())
        .zip(shown.iter().flat_map(|image| image.iter()));
    let differences: Vec<_> = pairs.map(|(found, shown)| found.abs_diff(*shown)).collect();
    let most = differences.iter().copied().max().expect("pixels");
    let sum: f64 = differences.iter().map(|difference| f64::from(*difference)).sum();
    let mean = sum / differences.len() as f64;
    let is_same = if name.ends_with(".gif") { mean <= MOST_IN_THE_MEAN } else { most <= MOST };
    assert!(
        is_same,
        "{name}: differs by {most} at most, {mean} in the mean: docs/images.sh makes it"
    );
}

/// Makes images of the pages, or all, and compares them; returns which.
fn made_again(wanted: &[&str]) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("bash");
    command.arg(workspace().join("docs/images.sh")).arg(folder.path()).args(wanted);
    let output = command.env("POCKETMUSE", env!("CARGO_BIN_EXE_pocketmuse")).output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = names(folder.path());
    made.iter().for_each(|name| check_image(name, folder.path()));
    made
}

#[test]
fn quick_images_of_the_pages_are_made_again() {
    let made = made_again(&["house.png", "edit-box.png"]);
    assert_eq!(made.into_iter().collect::<Vec<_>>(), ["edit-box.png", "house.png"]);
}

#[test]
#[ignore = "slow: about 140 images"]
fn every_image_of_the_pages_is_made_again() {
    assert_eq!(made_again(&[]), names(&workspace().join("docs")));
}

/// The words of every page, one space between.
fn pages() -> String {
    let docs = fs::read_dir(workspace().join("docs")).expect("a folder");
    let docs = docs.map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let pages = pages.chain([workspace().join("README.md")]);
    let text: String = pages.map(|path| fs::read_to_string(path).expect("UTF-8")).collect();
    text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_image_of_a_page_is_shown_with_the_command_that_makes_it() {
    let script = fs::read_to_string(workspace().join("docs/images.sh")).expect("UTF-8");
    let script = script.replace("\\\n", " ");
    let pages = pages();
    let mut commands = 0;
    for line in script.lines().filter(|line| line.starts_with("image ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let command = words[2..].join(" ");
        assert!(pages.contains(&command), "no page says: {command}");
        assert!(pages.contains(&format!("]({})", words[1])) || words[1] == "lighthouse.png");
        commands += 1;
    }
    assert!(commands > 10, "{commands}");
    let shown = |name: &String| pages.contains(&format!("{name})"));
    let unseen: Vec<_> =
        names(&workspace().join("docs")).into_iter().filter(|name| !shown(name)).collect();
    assert_eq!(unseen, [""; 0], "no page shows them");
}

/// The sources whose names the commands of figures go by.
fn names_of_tests() -> String {
    let mut sources = String::new();
    for folder in ["tests/integration", "bindings/cli/tests", "bindings/cli/tests/command"] {
        for entry in fs::read_dir(workspace().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "rs") {
                sources += &format!("{}\n", path.file_stem().expect("a name").to_string_lossy());
                sources += &fs::read_to_string(path).expect("UTF-8");
            }
        }
    }
    sources
}

/// `docs/measure.sh` writes each block: the command, the day and the processor, what it printed.
#[test]
fn every_figure_stands_once_below_the_command_that_prints_it() {
    let page = fs::read_to_string(workspace().join("docs/measured.md")).expect("UTF-8");
    let tests = names_of_tests();
    let mut commands = BTreeSet::new();
    for block in page.split("<!-- measured -->\n").skip(1) {
        let (block, _) = block.split_once("\n<!-- end -->\n").expect("an end");
        let [command, place, figures] = block.splitn(3, "\n\n").collect::<Vec<_>>()[..] else {
            panic!("expected a command, a place and figures, found {block}");
        };
        let command = command.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let command = command.unwrap_or_else(|| panic!("expected a command, found {block}"));
        assert!(commands.insert(command), "twice: {command}");
        let bench = command.split_once("--bench ").map(|(_, rest)| rest);
        let bench = bench.and_then(|rest| rest.split(' ').next());
        if let Some(bench) = bench {
            let is_there = ["benches", "bindings/cli"]
                .iter()
                .any(|of| workspace().join(of).join(format!("benches/{bench}.rs")).exists());
            assert!(is_there, "{command}");
        } else if command.starts_with(".ci/") {
            assert!(workspace().join(command).exists(), "{command}");
        } else {
            let (first, rest) = command.split_once(' ').expect("words");
            let chosen = match first.split_once('=') {
                Some((variable, _)) => {
                    assert!(tests.contains(variable), "nobody reads {variable}: {command}");
                    rest
                }
                None => command,
            };
            let chosen = chosen.strip_prefix("cargo test --release --workspace --test ");
            let chosen = chosen.unwrap_or_else(|| panic!("{command}"));
            let chosen =
                chosen.split(" -- ").next().and_then(|chosen| chosen.split(' ').next_back());
            assert!(chosen.is_some_and(|chosen| tests.contains(chosen)), "{command}");
        }
        let [day, rest] = place.splitn(2, " 20").collect::<Vec<_>>()[..] else {
            panic!("expected a day, found {place}");
        };
        assert!(day.starts_with(|first: char| first.is_ascii_digit()), "{place}");
        assert!(rest.contains(", ONNX Runtime 1.") && rest.contains(" threads, "), "{place}");
        assert!(figures.contains(|letter: char| letter.is_ascii_digit()), "{command}");
    }
    assert!(commands.len() > 8, "{commands:?}");
    // A page with such a command has figures of its own.
    for entry in fs::read_dir(workspace().join("docs")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_other = path.extension().is_some_and(|ending| ending == "md")
            && path.file_stem().is_some_and(|stem| stem != "measured");
        if is_other {
            let page = fs::read_to_string(&path).expect("UTF-8");
            for command in ["--nocapture", "cargo bench"] {
                assert!(!page.contains(command), "{}: {command}", path.display());
            }
        }
    }
}

#[test]
fn figures_of_the_first_page_are_those_of_the_measured_page() {
    let [readme, page] = ["README.md", "docs/measured.md"]
        .map(|path| fs::read_to_string(workspace().join(path)).expect("UTF-8"));
    let rows = |page: &str| -> Vec<[String; 2]> {
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let cells = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
        cells.map(|cells| [cells[0].clone(), cells[cells.len() - 1].clone()]).collect()
    };
    let (_, own) = readme.split_once("## Measured").expect("a chapter");
    let place = own.lines().find(|line| line.contains(", ONNX Runtime 1.")).expect("a place");
    let (_, block) = page.split_once("`cargo bench --workspace --bench full_size`").expect("there");
    let (block, _) = block.split_once("<!-- end -->").expect("an end");
    assert!(block.contains(place), "{place}");
    let (own, measured) = (rows(own), rows(block));
    let other: Vec<_> = own.iter().filter(|row| !measured.contains(row)).collect();
    assert!(own.len() > 8 && other.is_empty(), "{other:?}");
}
