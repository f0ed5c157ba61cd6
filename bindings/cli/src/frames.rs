//! The frames of a video whose job is kept: files in a folder beside the job's, which going on in
//! another process puts into the animation again. Knows no job.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use image::RgbImage;
use pocketmuse::pixels;
use pocketmuse_package::{Digest, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::image_file;

/// Frames that were made, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Made {
    /// How many.
    pub(crate) frames: u32,
    /// What stands for all of them.
    digest: Digest,
}

impl Default for Made {
    fn default() -> Self {
        Self { frames: 0, digest: Digest::of(b"") }
    }
}

impl Made {
    /// These and one more.
    fn and(&self, image: &RgbImage) -> Self {
        let (width, height) = image.dimensions();
        let text = format!("{} {width} {height} {}", self.digest, Digest::of(image.as_raw()));
        Self { frames: self.frames + 1, digest: Digest::of(text.as_bytes()) }
    }
}

/// Where the frames of a job are.
#[derive(Debug)]
pub(crate) struct Frames {
    folder: PathBuf,
    made: Made,
}

impl Frames {
    /// Those of the job in `job`, of which there are `made`.
    pub(crate) fn of(job: &Path, made: Made) -> Self {
        let mut folder = job.as_os_str().to_owned();
        folder.push(".frames");
        Self { folder: folder.into(), made }
    }

    /// What is there.
    pub(crate) fn made(&self) -> Made {
        self.made
    }

    /// Hands the frames to `add`, in their order.
    ///
    /// # Errors
    ///
    /// `Io` or `BadInput` if a frame is gone or was changed; those of `add`.
    pub(crate) fn read(&self, mut add: impl FnMut(&RgbImage) -> Result<()>) -> Result<()> {
        let mut found = Made::default();
        for frame in 0..self.made.frames {
            let image = pixels::read(&self.path(frame))?.image;
            found = found.and(&image);
            add(&image)?;
        }
        if found == self.made {
            return Ok(());
        }
        let detail = "expected the frames that the job made, found others: they were changed";
        Err(Error::new(ErrorKind::BadInput, self.folder.display().to_string(), detail))
    }

    /// Keeps the next frame.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be written.
    pub(crate) fn add(&mut self, image: &RgbImage) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, error))?;
        image_file::write(image, &self.path(self.made.frames), None)?;
        self.made = self.made.and(image);
        Ok(())
    }

    /// Removes them, and the folder if nothing else is in it.
    ///
    /// # Errors
    ///
    /// `Io` if one cannot be removed.
    pub(crate) fn remove(self) -> Result<()> {
        for frame in 0..self.made.frames {
            let path = self.path(frame);
            fs::remove_file(&path).map_err(|error| Error::io(&path, error))?;
        }
        match fs::remove_dir(&self.folder) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
                ) =>
            {
                Err(Error::io(&self.folder, error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, frame: u32) -> PathBuf {
        self.folder.join(format!("{frame:04}.png"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(value: u8) -> RgbImage {
        RgbImage::from_fn(5, 3, |x, y| image::Rgb([value, x as u8, y as u8]))
    }

    #[test]
    fn frames_come_back_in_their_order_and_none_is_left() {
        let root = tempfile::tempdir().expect("a folder");
        let job = root.path().join("a.json");
        let mut frames = Frames::of(&job, Made::default());
        frames.read(|_| panic!("there are none")).expect("nothing is wrong with none");
        (0..3).for_each(|value| frames.add(&image(value)).expect("written"));
        let made = frames.made();
        let mut found = Vec::new();
        let elsewhere = Frames::of(&job, made);
        elsewhere
            .read(|image| {
                found.push(image.clone());
                Ok(())
            })
            .expect("read");
        assert_eq!((made.frames, found), (3, vec![image(0), image(1), image(2)]));
        fs::write(root.path().join("a.json.frames/mine"), "x").expect("written");
        frames.remove().expect("removed");
        let left: Vec<_> = fs::read_dir(root.path().join("a.json.frames"))
            .expect("it is not empty")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left, ["mine"], "what is not the job's stays");
    }

    #[test]
    fn frames_that_were_changed_or_are_gone_are_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let job = root.path().join("a.json");
        let mut frames = Frames::of(&job, Made::default());
        (0..2).for_each(|value| frames.add(&image(value)).expect("written"));
        let path = root.path().join("a.json.frames/0001.png");
        for (changed, kind) in [
            (Some(image(7)), ErrorKind::BadInput),
            (Some(RgbImage::new(3, 5)), ErrorKind::BadInput),
            (None, ErrorKind::NotFound),
        ] {
            match changed {
                Some(image) => image.save(&path).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let error = frames.read(|_| Ok(())).expect_err("not those");
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
