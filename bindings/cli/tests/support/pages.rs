//! What the pages in `docs` show: their images are made again, by the commands that they name.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use image::{AnimationDecoder, RgbImage, codecs::gif::GifDecoder};

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
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    names.filter(|name| is_image(name)).collect()
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
