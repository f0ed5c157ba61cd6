//! `--preview`: the pictures in the making after every step, in place in a terminal that shows all colours, else as files
//! beside the pictures. Knows not where the colours come from.

use std::{
    env,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use image::{ImageFormat, RgbImage, imageops};
use pocketmuse::{Preview, Step};
use pocketmuse_package::{Error, Result, place};

/// The most columns and twice the most lines of a terminal that are drawn on.
const TERMINAL: [u32; 2] = [80, 48];

/// Shows steps.
pub(crate) struct Previewer {
    preview: Preview,
    place: Place,
}

/// Where previews go.
enum Place {
    /// On stderr, each over the last: how many lines the last one has.
    Terminal(usize),
    /// Beside the pictures' own files: which picture, and its file.
    Files(Vec<(usize, PathBuf)>),
}

impl Previewer {
    /// Shows previews in the terminal if `in_terminal`, else writes them beside `files`.
    pub(crate) fn new(preview: Preview, files: Vec<(usize, PathBuf)>, in_terminal: bool) -> Self {
        Self { preview, place: if in_terminal { Place::Terminal(0) } else { Place::Files(files) } }
    }

    /// Shows a step; returns the files it wrote.
    ///
    /// # Errors
    ///
    /// `Io` if a file cannot be written.
    pub(crate) fn show(&mut self, step: &Step<'_>) -> Result<Vec<PathBuf>> {
        match &mut self.place {
            Place::Terminal(lines) => {
                let images: Vec<_> = (0..step.images).map(|image| self.preview.image(step, image)).collect();
                let (text, height) = blocks(&shrunk(&side_by_side(&images)));
                let up = if *lines > 0 { format!("\x1b[{lines}A") } else { String::new() };
                *lines = height;
                let _ = write!(io::stderr().lock(), "{up}{text}"); // a terminal that went away is no failure
                Ok(Vec::new())
            }
            Place::Files(files) => files
                .iter()
                .map(|(image, file)| {
                    let path = beside(file, step.step + 1);
                    write_png(&self.preview.image(step, *image), &path)?;
                    Ok(path)
                })
                .collect(),
        }
    }
}

/// Whether stderr is a terminal that says it shows all colours.
pub(crate) fn terminal_shows_colours() -> bool {
    let says = env::var("COLORTERM").is_ok_and(|value| value == "truecolor" || value == "24bit");
    says && io::stderr().is_terminal()
}

/// `NAME.step-03.png`.
fn beside(file: &Path, step: usize) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".step-{step:02}.png"));
    file.with_file_name(name)
}

fn write_png(image: &RgbImage, path: &Path) -> Result<()> {
    let mut png = io::Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).expect("a picture in memory always encodes");
    let temporary = place::neighbour(path)?;
    BufWriter::new(temporary.as_file()).write_all(png.get_ref()).map_err(|error| Error::io(path, error))?;
    place::file(temporary, path)
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

/// The picture as large as the terminal allows, not larger than it is.
fn shrunk(image: &RgbImage) -> RgbImage {
    let (width, height) = (image.width().max(1), image.height().max(1));
    let [columns, rows] = TERMINAL;
    let scale = f64::min(f64::from(columns) / f64::from(width), f64::from(rows) / f64::from(height)).min(1.0);
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    imageops::thumbnail(image, side(width), side(height))
}

/// A picture as lines of half blocks, two pixels each, and how many lines.
fn blocks(image: &RgbImage) -> (String, usize) {
    let mut text = String::new();
    let lines = image.height().div_ceil(2);
    for line in 0..lines {
        for x in 0..image.width() {
            let [r, g, b] = image.get_pixel(x, 2 * line).0;
            text.push_str(&format!("\x1b[38;2;{r};{g};{b}m"));
            if let Some([r, g, b]) = image.get_pixel_checked(x, 2 * line + 1).map(|pixel| pixel.0) {
                text.push_str(&format!("\x1b[48;2;{r};{g};{b}m"));
            }
            text.push('\u{2580}');
        }
        text.push_str("\x1b[0m\n");
    }
    (text, lines as usize)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn two_pixels_share_a_block() {
        let image = RgbImage::from_fn(1, 3, |_, y| Rgb([y as u8, 5, 6]));
        let expected = "\x1b[38;2;0;5;6m\x1b[48;2;1;5;6m\u{2580}\x1b[0m\n\x1b[38;2;2;5;6m\u{2580}\x1b[0m\n";
        assert_eq!(blocks(&image), (expected.to_owned(), 2));
    }

    #[test]
    fn pictures_fit_the_terminal_side_by_side() {
        let images = [RgbImage::new(128, 128), RgbImage::new(128, 128), RgbImage::new(128, 128)];
        let all = side_by_side(&images);
        assert_eq!((all.dimensions(), shrunk(&all).dimensions()), ((384, 128), (80, 27)));
        assert_eq!(shrunk(&RgbImage::new(512, 512)).dimensions(), (48, 48));
        assert_eq!(shrunk(&RgbImage::new(16, 16)).dimensions(), (16, 16));
    }

    #[test]
    fn files_lie_beside_the_picture() {
        assert_eq!(beside(Path::new("x/a.webp"), 3), Path::new("x/a.step-03.png"));
    }
}
