//! `--preview`: the images in the making after every step, in place in a terminal that can show
//! them, else as files beside the images. Knows not where the colours come from.

mod art;
mod screen;

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
};

use image::{RgbImage, imageops};
use pocketmuse::{Preview, Step};
use pocketmuse_package::{Result, files};

use self::screen::{Art, Screen};
use crate::{args::Show, outputs, png};

/// Shows steps.
pub(crate) struct Previewer {
    preview: Preview,
    place: Place,
}

/// Where previews go.
enum Place {
    /// On stderr, each over the last.
    Terminal(Canvas),
    /// Beside the images' own files.
    Files(Vec<Beside>),
}

/// The previews of one image, beside its own file.
pub(crate) struct Beside {
    /// Which image, from 0.
    pub(crate) image: usize,
    /// The image's own file.
    pub(crate) file: PathBuf,
    /// Whether previews replace files that are there, as the image will.
    pub(crate) replaces: bool,
}

/// The part of a terminal that images are drawn on.
struct Canvas {
    art: Art,
    screen: Screen,
    /// What kitty knows the image by, so that another command's or another job's stays where it
    /// is.
    id: u32,
    /// How many lines the last image has, 0 if there is none yet.
    drawn: u32,
}

impl Previewer {
    /// Shows previews as wanted, and if they become files, beside `files`. In doubt they do if
    /// `is_quiet`.
    pub(crate) fn new(preview: Preview, files: Vec<Beside>, show: Show, is_quiet: bool) -> Self {
        let art = match show {
            Show::Auto if is_quiet => None,
            Show::Auto => screen::art(),
            Show::Kitty => Some(Art::Kitty),
            Show::Iterm => Some(Art::Iterm),
            Show::Sixel => Some(Art::Sixel),
            Show::Blocks => Some(Art::Blocks),
            Show::Files => None,
        };
        let place = match art {
            Some(art) => Place::Terminal(Canvas::new(art)),
            None => Place::Files(files),
        };
        Self { preview, place }
    }

    /// Shows a step, the cursor at the start of a line before and after; returns the files it
    /// wrote.
    ///
    /// # Errors
    ///
    /// `Io` if a file cannot be written.
    pub(crate) fn show(&mut self, step: &Step<'_>) -> Result<Vec<PathBuf>> {
        match &mut self.place {
            Place::Terminal(canvas) => {
                let images = (0..step.images).filter_map(|image| self.preview.image(step, image));
                let images: Vec<_> = images.collect();
                let text = canvas.draw(&side_by_side(&images));
                let mut stderr = io::stderr().lock();
                // A terminal that went away is no failure.
                let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
                Ok(Vec::new())
            }
            Place::Files(files) => files
                .iter()
                .filter_map(|beside| Some((self.preview.image(step, beside.image)?, beside)))
                .map(|(image, beside)| beside.write(step.step + 1, &png::encode(&image)))
                .collect(),
        }
    }
}

impl Canvas {
    fn new(art: Art) -> Self {
        let id = RandomState::new().hash_one(process::id()) as u32 | 1; // any but 0
        Self { art, screen: Screen::now(), id, drawn: 0 }
    }

    /// What draws an image over the last one, and leaves the cursor on the line below it.
    fn draw(&mut self, image: &RgbImage) -> String {
        let lines = self.screen.lines(image.width(), image.height());
        let fitted = || within(image, [u32::MAX, self.screen.pixels(lines)]);
        let (lines, drawing) = match self.art {
            Art::Kitty => (lines, art::kitty(&fitted(), self.id)),
            Art::Iterm => (lines, art::iterm(image, lines)),
            Art::Sixel => (lines, art::sixel(&fitted())),
            Art::Blocks => {
                let image = within(image, self.screen.blocks());
                (image.height().div_ceil(2), art::blocks(&image))
            }
        };
        let up = format!("\x1b[{lines}A");
        // The first makes room, since an image at the end of the screen would move it.
        let start = if self.drawn == 0 { "\n".repeat(lines as usize) + &up } else { up };
        self.drawn = lines;
        match self.art {
            Art::Blocks => start + &drawing,
            // Where an image leaves the cursor differs: it is put back and moved.
            _ => format!("{start}\x1b7{drawing}\x1b8\x1b[{lines}B"),
        }
    }
}

impl Beside {
    /// Writes the preview of a step, counted from 1, to `NAME.step-03.png`, or if that replaces
    /// nothing, to the first of `NAME.step-03.png`, `NAME.step-03-2.png`... that nobody has.
    fn write(&self, step: usize, png: &[u8]) -> Result<PathBuf> {
        let write = |path: &Path| files::write(path, |out| out.write_all(png));
        if self.replaces {
            let path = self.path(step, 1);
            write(&path)?;
            return Ok(path);
        }
        outputs::write_new((1..).map(|number| self.path(step, number)), write)
    }

    fn path(&self, step: usize, number: u32) -> PathBuf {
        let mut name = self.file.file_stem().unwrap_or_default().to_os_string();
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        name.push(format!(".step-{step:02}{number}.png"));
        self.file.with_file_name(name)
    }
}

fn side_by_side(images: &[RgbImage]) -> RgbImage {
    let height = images.iter().map(RgbImage::height).max().unwrap_or(0);
    let mut all = RgbImage::new(images.iter().map(RgbImage::width).sum(), height);
    let mut left = 0;
    for image in images {
        imageops::replace(&mut all, image, left, 0);
        left += i64::from(image.width());
    }
    all
}

/// The image as large as the limits allow, not larger than it is.
fn within(image: &RgbImage, [columns, rows]: [u32; 2]) -> RgbImage {
    let (width, height) = (image.width().max(1), image.height().max(1));
    let scale =
        f64::min(f64::from(columns) / f64::from(width), f64::from(rows) / f64::from(height))
            .min(1.0);
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    imageops::thumbnail(image, side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_fit_side_by_side() {
        let images = [RgbImage::new(128, 128), RgbImage::new(128, 128), RgbImage::new(128, 128)];
        let all = side_by_side(&images);
        assert_eq!((all.dimensions(), within(&all, [80, 48]).dimensions()), ((384, 128), (80, 27)));
        assert_eq!(within(&RgbImage::new(512, 512), [80, 48]).dimensions(), (48, 48));
        assert_eq!(within(&RgbImage::new(16, 16), [80, 48]).dimensions(), (16, 16));
    }

    #[test]
    fn every_image_is_drawn_over_the_last() {
        let image = RgbImage::new(8, 30);
        for art in [Art::Kitty, Art::Iterm, Art::Sixel, Art::Blocks] {
            let mut canvas = Canvas::new(art);
            let first = canvas.draw(&image);
            let drawn = canvas.drawn;
            let room = "\n".repeat(drawn as usize);
            assert!(drawn > 0 && first.starts_with(&format!("{room}\x1b[{drawn}A")), "{art:?}");
            // Without the room that was made, the second is the first.
            assert_eq!(canvas.draw(&image), first[room.len()..], "{art:?}");
            if art != Art::Blocks {
                assert!(first.ends_with(&format!("\x1b8\x1b[{drawn}B")), "{art:?}");
            }
        }
    }

    #[test]
    fn kitty_tells_the_images_of_two_jobs_apart() {
        let ids: std::collections::HashSet<_> =
            (0..8).map(|_| Canvas::new(Art::Kitty).id).collect();
        assert!(ids.len() > 1 && !ids.contains(&0), "{ids:?}");
    }

    #[test]
    fn files_lie_beside_the_image() {
        let beside = |replaces| Beside { image: 0, file: "x/a.webp".into(), replaces };
        assert_eq!(beside(true).path(3, 1), Path::new("x/a.step-03.png"));
        let folder = tempfile::tempdir().expect("a folder");
        let write = |replaces, text: &str| {
            let file = folder.path().join("a.png");
            let path = Beside { image: 0, file, replaces }.write(3, text.as_bytes());
            path.expect("written").file_name().expect("a name").to_owned()
        };
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("there");
        assert_eq!(write(false, "one"), "a.step-03.png");
        assert_eq!(write(false, "two"), "a.step-03-2.png");
        assert_eq!(write(false, "three"), "a.step-03-3.png");
        assert_eq!(write(true, "four"), "a.step-03.png");
        assert_eq!(["a.step-03.png", "a.step-03-2.png"].map(read), ["four", "two"]);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 3);
    }
}
