//! What an edit starts from: an image, and what of it is repainted. Knows no network; see
//! [`Pipeline::edit`](crate::Pipeline::edit).

use image::{
    GrayImage, Luma, RgbImage,
    imageops::{self, FilterType},
};
use pocketmuse_package::{Digest, Manifest, MaskingSchedule, Model, Result};

use super::{Job, MAX_SIDE, Request, bad};

/// Image to image when no strength is given.
const STRENGTH: f64 = 0.5;

/// An image to edit, of any size, and what of it is repainted.
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) image: RgbImage,
    pub(crate) mask: Option<GrayImage>,
    pub(crate) paste: bool,
    extended: bool,
}

/// A source brought to the size of a job's images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FittedSource {
    pub(crate) image: RgbImage,
    pub(crate) mask: Option<Mask>,
    /// Stands for all of it.
    pub(crate) digest: Digest,
}

/// What is repainted, in pixels and in tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mask {
    /// `None` if known pixels are not to be pasted back.
    pub(crate) pixels: Option<GrayImage>,
    pub(crate) tokens: Vec<bool>,
    /// How far known pixels fade into new ones, in pixels.
    pub(crate) feather: u32,
}

impl Source {
    /// An image that is remade as a whole: image to image.
    pub fn new(image: RgbImage) -> Self {
        Self { image, mask: None, paste: true, extended: false }
    }

    /// Repaints what is white in `mask` and keeps the rest: inpainting. A mask of another size is
    /// stretched over the image; brightness counts from a half on.
    #[must_use]
    pub fn with_mask(self, mask: GrayImage) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Repaints a box: left, top, width and height in pixels of the image.
    ///
    /// # Errors
    ///
    /// `BadRequest` if it is empty or does not lie in the image.
    pub fn with_box(self, [left, top, width, height]: [u32; 4]) -> Result<Self> {
        let (across, down) = self.image.dimensions();
        let inside = |first: u32, extent: u32, side| {
            extent > 0 && first.checked_add(extent).is_some_and(|to| to <= side)
        };
        if !(inside(left, width, across) && inside(top, height, down)) {
            let found = format!("{left},{top},{width},{height}");
            return Err(bad(
                "box",
                format!(
                    "expected left,top,width,height inside {across} x {down} pixels, found {found}"
                ),
            ));
        }
        let within = |at: u32, first: u32, extent: u32| (first..first + extent).contains(&at);
        let white =
            |x, y| Luma([if within(x, left, width) && within(y, top, height) { 255 } else { 0 }]);
        let mask = GrayImage::from_fn(across, down, white);
        Ok(self.with_mask(mask))
    }

    /// Repaints what is transparent: where `opacity` is below a half.
    #[must_use]
    pub fn with_opacity(self, mut opacity: GrayImage) -> Self {
        opacity.iter_mut().for_each(|value| *value = 255 - *value);
        self.with_mask(opacity)
    }

    /// Adds pixels at the left, the top, the right and the bottom, and repaints them: outpainting.
    /// They begin as copies of the image's border. The result has all pixels, however many,
    /// unless the request says another size.
    ///
    /// # Errors
    ///
    /// `BadRequest` if nothing is added, or so much that a side has more than [`MAX_SIDE`] pixels.
    pub fn extended(self, [left, top, right, bottom]: [u32; 4]) -> Result<Self> {
        let (across, down) = self.image.dimensions();
        let [width, height]: [u64; 2] = [[left, across, right], [top, down, bottom]]
            .map(|parts| parts.into_iter().map(u64::from).sum());
        let most = u64::from(MAX_SIDE);
        if [left, top, right, bottom] == [0; 4]
            || across == 0
            || down == 0
            || width.max(height) > most
        {
            let detail = format!(
                "expected some pixels, and sides of at most {most} with the image, found {width} x {height}"
            );
            return Err(bad("extend", detail));
        }
        let within =
            |at: u32, first: u32, extent: u32| at.checked_sub(first).filter(|at| *at < extent);
        let nearest = |at: u32, first: u32, extent: u32| at.saturating_sub(first).min(extent - 1);
        let pixel = |x, y| *self.image.get_pixel(nearest(x, left, across), nearest(y, top, down));
        let mask = self
            .mask
            .as_ref()
            .map(|mask| imageops::resize(mask, across, down, FilterType::Lanczos3));
        let white = |x, y| match (within(x, left, across), within(y, top, down)) {
            (Some(x), Some(y)) => mask.as_ref().map_or(Luma([0]), |mask| *mask.get_pixel(x, y)),
            _ => Luma([255]),
        };
        let [width, height] =
            [width, height].map(|side| u32::try_from(side).expect("at most the largest side"));
        let (image, mask) =
            (RgbImage::from_fn(width, height, pixel), GrayImage::from_fn(width, height, white));
        Ok(Self { image, mask: Some(mask), extended: true, ..self })
    }

    /// Whether known pixels come back outside the mask, with an edge one token wide: they do unless
    /// this says no. Without a mask it has no effect.
    #[must_use]
    pub fn with_paste(self, paste: bool) -> Self {
        Self { paste, ..self }
    }

    /// The request with what an edit leaves open filled in, checked: size, strength, and with a
    /// mask the linear schedule.
    ///
    /// The size is `height` and `width` where given; one alone brings the other by the image's
    /// proportions. Else it is the image's own, or, if the model's own images have fewer
    /// pixels, the size with its proportions and as many as those. Sides are rounded down to whole
    /// tokens.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`].
    pub fn resolve(&self, request: &Request, manifest: &Manifest) -> Result<Request> {
        Ok(self.job(request, manifest)?.request)
    }

    /// The job of an edit, which lacks the fitted source yet.
    pub(crate) fn job(&self, request: &Request, manifest: &Manifest) -> Result<Job> {
        let [width, height] = self.size(request, &manifest.model);
        let inpaints = self.mask.is_some();
        let linear = inpaints.then_some(MaskingSchedule::Linear);
        let request = Request {
            width: Some(width),
            height: Some(height),
            strength: request.strength.or(Some(if inpaints { 1.0 } else { STRENGTH })),
            masking_schedule: request.masking_schedule.or(linear),
            ..request.clone()
        };
        Job::new(&request, manifest)
    }

    fn size(&self, request: &Request, model: &Model) -> [u32; 2] {
        let [across, down] =
            [self.image.width(), self.image.height()].map(|side| f64::from(side.max(1)));
        let own = f64::from(model.sample_size) * f64::from(model.pixels_per_token);
        let unit = model.pixels_per_token.saturating_mul(model.grid_multiple).max(1);
        let whole = |side: f64| (side.min(f64::from(MAX_SIDE)) as u32 / unit * unit).max(unit);
        match (request.width, request.height) {
            (Some(width), Some(height)) => [width, height],
            (Some(width), None) => [width, whole(f64::from(width) / across * down)],
            (None, Some(height)) => [whole(f64::from(height) / down * across), height],
            (None, None) => {
                let scale =
                    if self.extended { 1.0 } else { (own / (across * down).sqrt()).min(1.0) };
                // A hair more, since a side that should be whole may come out just below.
                [whole(across * scale + 1e-6), whole(down * scale + 1e-6)]
            }
        }
    }
}

impl FittedSource {
    /// An image, and what of it is repainted.
    pub(crate) fn new(image: RgbImage, mask: Option<Mask>) -> Self {
        let mut bytes = image.as_raw().clone();
        if let Some(mask) = &mask {
            bytes.extend(mask.tokens.iter().map(|repaint| u8::from(*repaint)));
            bytes.extend(mask.pixels.iter().flat_map(|pixels| pixels.as_raw()));
        }
        Self { digest: Digest::of(&bytes), image, mask }
    }

    /// The part of the tokens that is repainted; 1 without a mask.
    pub(crate) fn mask_ratio(&self) -> f32 {
        self.mask.as_ref().map_or(1.0, |mask| mask.masked() as f32 / mask.tokens.len() as f32)
    }
}

impl Mask {
    /// How many tokens are repainted.
    pub(crate) fn masked(&self) -> usize {
        self.tokens.iter().filter(|repaint| **repaint).count()
    }
}

#[cfg(test)]
mod tests;
