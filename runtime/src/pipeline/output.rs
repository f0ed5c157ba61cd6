//! What comes out of a job.

use std::path::Path;

use image::RgbImage;
use pocketmuse_package::{Error, ErrorKind, Result};

use super::made_by::MadeBy;
use crate::{memory::metrics::Report, pixels, request::Request};

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Output {
    /// The images; none of a video, whose frames were handed over.
    pub images: Vec<RgbImage>,
    /// Time and memory.
    pub report: Report,
    /// What of a prompt did not fit the model and had no effect: for people, a line for each
    /// prompt.
    pub truncated: Vec<String>,
    /// Words of the prompt that the model hardly knows: the tokenizer has none of them whole, and the
    /// package's list of words lacks them; without such a list, it reads them nearly letter by
    /// letter.
    pub unknown_words: Vec<String>,
    /// The request with every default filled in: it makes the same images again.
    pub request: Request,
    /// What made the first image. The others differ by their number.
    pub made_by: MadeBy,
}

impl Output {
    /// Writes an image, counted from 0, in the format of the path's ending: see
    /// [`pixels::write`](crate::pixels::write()). The file keeps the request,
    /// for [`pixels::read_request`], and what made it, [`MadeBy`].
    ///
    /// # Errors
    ///
    /// `BadRequest` if there is no such image, or for an unknown ending; `Io` if it cannot be
    /// written.
    pub fn save(&self, image: usize, path: impl AsRef<Path>) -> Result<()> {
        let Some(pixels) = self.images.get(image) else {
            let detail = format!("expected one of {} images, found {image}", self.images.len());
            return Err(Error::new(ErrorKind::BadRequest, "image", detail));
        };
        let notes = self.made_by.of_image(image).notes(&self.request);
        pixels::write(pixels, path.as_ref(), &self.request, &notes)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_by::tests::example, *};

    #[test]
    fn a_saved_image_keeps_its_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        let output = Output {
            images: vec![RgbImage::new(4, 3)],
            report: Report::default(),
            truncated: Vec::new(),
            unknown_words: Vec::new(),
            request: Request { seed: 7, ..Request::new("a tree") },
            made_by: example(),
        };
        output.save(0, &path).expect("written");
        assert_eq!(pixels::read_request(&path).expect("kept"), output.request);
        let note = pixels::read_note(&path, MadeBy::KEYWORD).expect("whole").expect("kept");
        let found: MadeBy = serde_json::from_str(&note).expect("JSON");
        assert_eq!(found, MadeBy { image: 0, ..example() });
        let error = output.save(1, &path).expect_err("one image");
        assert_eq!(error.to_string(), "image: expected one of 1 images, found 1");
    }
}
