//! Requests, edits and videos become jobs, as far as that needs no pixels. Knows no network.

use std::sync::Arc;

use image::GrayImage;
use pocketmuse_package::{Error, ErrorKind, Manifest, MaskingSchedule, Result};

use super::{
    fields::Request,
    fitted::FittedSource,
    job::Job,
    kinds::bad,
    source::Source,
    video::{MAX_FRAMES, Video},
};

/// Image to image when no strength is given.
const STRENGTH: f64 = 0.5;

impl Request {
    /// The request with every default filled in, checked as far as that needs no graph.
    ///
    /// # Errors
    ///
    /// `BadRequest` at the first field that is out of range or does not fit the model.
    pub fn resolve(&self, manifest: &Manifest) -> Result<Self> {
        Ok(Job::new(self, manifest)?.request)
    }
}

impl Source {
    /// The request with what an edit leaves open filled in, checked: size, strength, and with a
    /// mask the linear schedule.
    ///
    /// The size is `height` and `width` where given; one alone brings the other by the image's
    /// proportions. Else it is the image's own, or, if the model's own images have fewer
    /// pixels, the size with its proportions and as many as those. Sides are rounded down to whole
    /// tokens, or up if pixels were added.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`].
    pub fn resolve(&self, request: &Request, manifest: &Manifest) -> Result<Request> {
        Ok(self.job(request, manifest)?.request)
    }

    /// The job of an edit, which lacks the fitted source yet.
    pub(crate) fn job(&self, request: &Request, manifest: &Manifest) -> Result<Job> {
        let exact = self.exact_size(request);
        let open = Request { width: None, height: None, ..request.clone() };
        let sized = if exact.is_some() { &open } else { request };
        let [width, height] = self.size(sized, &manifest.model);
        let inpaints = self.mask.is_some();
        let linear = inpaints.then_some(MaskingSchedule::Linear);
        let request = Request {
            width: Some(width),
            height: Some(height),
            strength: request.strength.or(Some(if inpaints { 1.0 } else { STRENGTH })),
            masking_schedule: request.masking_schedule.or(linear),
            ..request.clone()
        };
        let mut job = Job::new(&request, manifest)?;
        let pixels = u64::from(width) * u64::from(height);
        let bytes_per_pixel = if inpaints { 4 } else { 3 }; // red, green, blue, and the mask
        job.held_bytes = self.held_bytes() + bytes_per_pixel * pixels;
        if let Some(size) = exact {
            [job.request.width, job.request.height] = size.map(Some);
        }
        Ok(job)
    }
}

impl FittedSource {
    /// The job of an edit, of which this is saved.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`]; `BadInput` if it is not of this request.
    pub(crate) fn job(self: &Arc<Self>, request: &Request, manifest: &Manifest) -> Result<Job> {
        let (width, height) = self.image.dimensions();
        let asked = [request.width.unwrap_or(width), request.height.unwrap_or(height)];
        let whole = Request { width: Some(width), height: Some(height), ..request.clone() };
        let mut job = Job::new(&whole, manifest)?;
        if !self.suits(&job, asked) {
            let detail = "expected the image and mask of the saved request, found others";
            return Err(Error::new(ErrorKind::BadInput, "job", detail));
        }
        [job.request.width, job.request.height] = asked.map(Some);
        Ok(Job { source: Some(self.clone()), held_bytes: self.held_bytes(), ..job })
    }

    /// Whether it is the source of `job`, an edit whose images are cropped to `asked`, width and
    /// height.
    fn suits(&self, job: &Job, asked: [u32; 2]) -> bool {
        let size: [u32; 2] = self.image.dimensions().into();
        let is_inside = |corner: [u32; 2]| {
            let ends = [0, 1].map(|axis| corner[axis].checked_add(asked[axis]));
            asked.iter().all(|side| *side > 0)
                && ends.iter().zip(size).all(|(end, side)| end.is_some_and(|end| end <= side))
        };
        let has_size = |pixels: &GrayImage| pixels.dimensions() == self.image.dimensions();
        self.crop.map_or(asked == size, is_inside)
            && job.request.strength.is_some()
            && self.extension.is_none_or(|extension| extension.size() == size)
            && self.mask.as_ref().is_none_or(|mask| {
                mask.tokens.len() == job.tokens_per_image()
                    && mask.masked() > 0
                    && mask.feather == job.pixels_per_token
                    && mask.pixels.as_ref().is_none_or(has_size)
            })
    }
}

impl Video {
    /// The request with every default filled in, checked together with the video.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`]; `BadRequest` too for a value of the video out of its range, a
    /// motion that moves everything out of view in one frame, and several images at once.
    pub fn resolve(&self, request: &Request, manifest: &Manifest) -> Result<Request> {
        Ok(self.job(request, manifest)?.request)
    }

    /// The job of a video, whose end is of any size yet.
    pub(crate) fn job(&self, request: &Request, manifest: &Manifest) -> Result<Job> {
        request.check_starts_from_nothing()?;
        let job = Job::new(request, manifest)?;
        self.check(&job)?;
        let fitted = 3 * job.size().into_iter().product::<usize>();
        let held = self.end.as_ref().map_or(0, |end| end.as_raw().len() + fitted);
        Ok(Job { video: Some(self.clone()), held_bytes: held as u64, ..job })
    }

    fn check(&self, job: &Job) -> Result<()> {
        if !(1..=MAX_FRAMES).contains(&self.frames) {
            return Err(bad(
                "frames",
                format!("expected 1 to {MAX_FRAMES}, found {}", self.frames),
            ));
        }
        if !(0.0..=1.0).contains(&self.remask) {
            return Err(bad(
                "remask",
                format!("expected a number of 0 to 1, found {}", self.remask),
            ));
        }
        if job.redone_from.is_some() {
            return Err(bad("variation", "expected none for a video, found one"));
        }
        if job.margin != [0; 2] {
            return Err(bad(
                "tileable",
                format!("expected no for a video, found {}", job.request.tileable),
            ));
        }
        if job.images() != 1 {
            return Err(bad(
                "num_images_per_prompt",
                format!("expected 1 for a video, found {}", job.images()),
            ));
        }
        let [rows, columns] = job.grid;
        for (motion, tokens) in self.motion.into_iter().zip([columns, rows]) {
            let most = (tokens as u32 - 1) * job.pixels_per_token;
            if motion.is_nan() || motion.abs() > most as f32 {
                let [x, y] = self.motion;
                let detail = format!(
                    "expected at most {most} of {} pixels a frame, found {x},{y}: nothing of the \
                    frame before would stay",
                    tokens as u32 * job.pixels_per_token
                );
                return Err(bad("motion", detail));
            }
        }
        Ok(())
    }
}
