//! Frames become an animation, each written as it comes: a GIF, an animated WebP, or a PNG for
//! each. Knows no model.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use image::{
    Delay, DynamicImage, Frame, ImageError, RgbImage,
    codecs::{
        gif::{GifEncoder, Repeat},
        png::PngEncoder,
    },
};
use pocketmuse_package::{
    Error, Result,
    files::{NewFile, WholeFile, check_writable},
};

use super::{
    container::Webp,
    ending::{ending, other_ending},
};

/// GIF's search for the colours of a frame: 1 is the best and slowest, 30 the fastest.
const GIF_SPEED: i32 = 10;
/// Digits of a frame's number in a file's name.
const DIGITS: usize = 4;

/// An animation in the making. Dropped before [`finish`](Self::finish), it leaves nothing.
pub struct Animation {
    path: PathBuf,
    delay: Duration,
    frames: usize,
    kind: Kind,
}

enum Kind {
    Gif(Box<GifEncoder<Shared>>, Shared),
    Webp(Webp<NewFile>),
    Png(Vec<(WholeFile, PathBuf)>),
}

/// A writer that is still at hand when the encoder that writes to it is gone, so that no failure is
/// lost.
#[derive(Clone)]
struct Shared(Arc<Mutex<NewFile>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

impl Animation {
    /// Begins an animation of the kind that the path's ending asks for: `.gif`, `.webp`, or `.png`
    /// for files `NAME-0000.png`, `NAME-0001.png` and so on. A frame is shown for `delay`; a PNG
    /// has none.
    ///
    /// # Errors
    ///
    /// `BadRequest` for another ending; `Io` if the folder is missing or cannot be written to.
    pub fn create(path: &Path, delay: Duration) -> Result<Self> {
        let ending = ending(path);
        let kind = match ending.as_str() {
            "gif" => {
                let shared = Shared(Arc::new(Mutex::new(NewFile::create(path)?)));
                let mut encoder = GifEncoder::new_with_speed(shared.clone(), GIF_SPEED);
                encoder.set_repeat(Repeat::Infinite).map_err(|error| failed(path, error))?;
                Kind::Gif(Box::new(encoder), shared)
            }
            "webp" => Kind::Webp(Webp::new(NewFile::create(path)?, delay)),
            "png" => {
                check_writable(path)?;
                Kind::Png(Vec::new())
            }
            _ => return Err(other_ending(path, &ending, ".gif, .webp or .png")),
        };
        Ok(Self { path: path.to_owned(), delay, frames: 0, kind })
    }

    /// The files that an animation of so many frames becomes.
    pub fn files(path: &Path, frames: u32) -> Vec<PathBuf> {
        if ending(path) == "png" {
            return (0..frames).map(|frame| numbered(path, frame as usize)).collect();
        }
        vec![path.to_owned()]
    }

    /// Writes a frame. All have the size of the first.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be written, also for an animation larger than its format can say.
    pub fn add(&mut self, image: &RgbImage) -> Result<()> {
        match &mut self.kind {
            Kind::Gif(encoder, _) => {
                let rgba = DynamicImage::ImageRgb8(image.clone()).into_rgba8();
                let frame =
                    Frame::from_parts(rgba, 0, 0, Delay::from_saturating_duration(self.delay));
                encoder.encode_frame(frame).map_err(|error| failed(&self.path, error))?;
            }
            Kind::Webp(webp) => webp.add(image).map_err(|error| Error::io(&self.path, error))?,
            Kind::Png(files) => {
                let path = numbered(&self.path, self.frames);
                let mut file = NewFile::create(&path)?;
                image
                    .write_with_encoder(PngEncoder::new(&mut file))
                    .map_err(|error| failed(&path, error))?;
                files.push((file.close()?, path));
            }
        }
        self.frames += 1;
        Ok(())
    }

    /// Gives the animation its name, in place of what had it. Returns its files.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be written; of PNG files, some may have got their names.
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        match self.kind {
            Kind::Gif(encoder, shared) => {
                drop(encoder); // writes the end
                let shared = Arc::into_inner(shared.0).expect("the encoder is gone");
                shared.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
            }
            Kind::Webp(webp) => {
                webp.finish().map_err(|error| Error::io(&self.path, error))?.finish()?;
            }
            Kind::Png(files) => {
                return files
                    .into_iter()
                    .map(|(file, path)| {
                        file.finish()?;
                        Ok(path)
                    })
                    .collect();
            }
        }
        Ok(vec![self.path])
    }
}

fn numbered(path: &Path, frame: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{frame:0DIGITS$}.png"));
    path.with_file_name(name)
}

fn failed(path: &Path, error: ImageError) -> Error {
    match error {
        ImageError::IoError(error) => Error::io(path, error),
        error => Error::io(path, io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use image::{AnimationDecoder, Rgb, codecs::gif::GifDecoder, codecs::webp::WebPDecoder};

    use pocketmuse_package::ErrorKind;

    use super::*;

    const FRAMES: u32 = 5;

    /// A square that moves over a ground of few colours, so that a GIF can hold them all.
    fn frame(index: u32) -> RgbImage {
        let inside =
            |x: u32, y: u32| (4 * index..4 * index + 6).contains(&x) && (3..9).contains(&y);
        RgbImage::from_fn(31, 17, |x, y| {
            Rgb(if inside(x, y) { [250, 30, 20] } else { [10, 80 + (y / 6) as u8, 160] })
        })
    }

    fn write(path: &Path) -> Result<Vec<PathBuf>> {
        let mut animation = Animation::create(path, Duration::from_millis(120))?;
        (0..FRAMES).try_for_each(|index| animation.add(&frame(index)))?;
        animation.finish()
    }

    #[test]
    fn frames_come_back_in_their_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.gif"), "replaced").expect("written");
        let read = |name: &str| io::BufReader::new(File::open(path(name)).expect("written"));
        for name in ["a.gif", "b.webp"] {
            assert_eq!(write(&path(name)).expect(name), [path(name)]);
            assert_eq!(Animation::files(&path(name), FRAMES), [path(name)]);
            let frames = match name {
                "a.gif" => {
                    GifDecoder::new(read(name)).expect("a GIF").into_frames().collect_frames()
                }
                _ => WebPDecoder::new(read(name)).expect("a WebP").into_frames().collect_frames(),
            };
            let frames = frames.expect(name);
            assert_eq!(frames.len() as u32, FRAMES, "{name}");
            for (index, found) in (0..).zip(frames) {
                assert_eq!(found.delay().numer_denom_ms(), (120, 1), "{name}");
                let pixels = DynamicImage::ImageRgba8(found.into_buffer()).into_rgb8();
                let worst =
                    pixels.iter().zip(frame(index).iter()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(
                    worst <= Some(if name == "a.gif" { 8 } else { 0 }),
                    "{name}, frame {index}: {worst:?}"
                );
            }
        }
        let files = write(&path("c.png")).expect("written");
        assert_eq!(files[3], path("c-0003.png"));
        assert_eq!(Animation::files(&path("c.png"), FRAMES), files);
        assert_eq!(image::open(&files[3]).expect("a PNG").into_rgb8(), frame(3));
        assert_eq!(
            fs::read_dir(folder.path()).expect("readable").count(),
            2 + FRAMES as usize,
            "nothing else is left"
        );
    }

    #[test]
    fn frames_are_on_the_disk_before_the_last_comes() {
        let noise = RgbImage::from_fn(256, 256, |x, y| {
            Rgb([0, 8, 16]
                .map(|shift| ((x * 7919 + y * 104_729).wrapping_mul(2_654_435_761) >> shift) as u8))
        });
        for name in ["a.gif", "a.webp", "a.png"] {
            let folder = tempfile::tempdir().expect("a folder");
            let size = || -> u64 {
                let files = fs::read_dir(folder.path()).expect("readable");
                files.map(|file| file.expect("a file").metadata().expect("there").len()).sum()
            };
            let mut animation =
                Animation::create(&folder.path().join(name), Duration::ZERO).expect(name);
            animation.add(&noise).expect(name);
            let one = size();
            (0..3).for_each(|_| animation.add(&noise).expect(name));
            assert!(one > 20_000 && size() > 3 * one, "{name}: {one} bytes, then {}", size());
            drop(animation);
            assert_eq!(
                fs::read_dir(folder.path()).expect("readable").count(),
                0,
                "{name}: a half leaves nothing"
            );
        }
    }

    #[test]
    fn says_why_there_is_no_animation() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, kind, expected) in [
            (
                "a.mp4",
                ErrorKind::BadRequest,
                "expected a file ending in .gif, .webp or .png, found .mp4",
            ),
            (
                "a",
                ErrorKind::BadRequest,
                "expected a file ending in .gif, .webp or .png, found none",
            ),
            ("none/a.gif", ErrorKind::NotFound, "expected a folder, found none"),
            ("none/a.png", ErrorKind::NotFound, "expected a folder, found none"),
        ] {
            let error = write(&folder.path().join(name)).expect_err(name);
            assert_eq!((error.kind(), error.detail()), (kind, expected), "{name}");
        }
    }
}
