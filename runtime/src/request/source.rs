//! What an edit starts from: a picture and what of it is repainted become the tokens that sampling
//! begins with. Knows no network; see [`Pipeline::edit`](crate::Pipeline::edit).

use image::{
    GrayImage, Luma, RgbImage,
    imageops::{self, FilterType},
};
use pocketmuse_package::{Digest, Error, ErrorKind, Manifest, MaskingSchedule, Model, Result};

use crate::{
    pixels::{Canvas, Fit, REPAINT, paste, paste_inside},
    request::{MAX_SIDE, Request, Resolved},
    sampler::Schedule,
    sampler::rng::{Purpose, Rng},
};

/// Image to image when no strength is given.
const STRENGTH: f64 = 0.5;

/// A picture to edit, of any size, and what of it is repainted.
#[derive(Clone, Debug)]
pub struct Source {
    image: RgbImage,
    mask: Option<GrayImage>,
    /// What the mask was made from, by the name that a request has for it.
    masked_by: &'static str,
    paste: bool,
    /// Where the image came from before pixels were added.
    canvas: Option<Canvas>,
}

/// A source brought to the size of the result.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    image: RgbImage,
    mask: Option<Mask>,
    /// The left, top, width and height of what was asked for, if it is less.
    crop: Option<[u32; 4]>,
}

/// What is repainted, in pixels and in tokens.
#[derive(Clone, Debug)]
struct Mask {
    /// `None` if known pixels are not to be pasted back.
    pixels: Option<GrayImage>,
    tokens: Vec<bool>,
    feather: u32,
    /// Where the image lies if pixels were added, each of them its own.
    canvas: Option<Canvas>,
}

impl Source {
    /// A picture that is remade as a whole: image to image.
    pub fn new(image: RgbImage) -> Self {
        Self { image, mask: None, masked_by: "mask", paste: true, canvas: None }
    }

    /// Repaints what is white in `mask` and keeps the rest: inpainting. A mask of another size is
    /// stretched over the picture; brightness counts from a half on.
    #[must_use]
    pub fn with_mask(self, mask: GrayImage) -> Self {
        Self { mask: Some(mask), masked_by: "mask", ..self }
    }

    /// Repaints a box: left, top, width and height in pixels of the picture.
    ///
    /// # Errors
    ///
    /// `BadRequest` if it is empty or does not lie in the picture.
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
        Ok(Self { masked_by: "box", ..self.with_mask(mask) })
    }

    /// Repaints what is transparent: where `opacity` is below a half.
    #[must_use]
    pub fn with_opacity(self, mut opacity: GrayImage) -> Self {
        opacity.iter_mut().for_each(|value| *value = 255 - *value);
        Self { masked_by: "alpha", ..self.with_mask(opacity) }
    }

    /// Adds pixels at the left, the top, the right and the bottom, and repaints them: outpainting.
    /// They begin as copies of the image's border. The result has all pixels of the image, byte for
    /// byte, unless the request says another size: sides are rounded up to whole tokens, and what
    /// that adds is repainted, too. A request for just the size of the image with what is added is
    /// cropped to it.
    ///
    /// # Errors
    ///
    /// `BadRequest` if nothing is added, or so much that a side has more than [`MAX_SIDE`] pixels.
    pub fn extended(self, added: [u32; 4]) -> Result<Self> {
        let size = self.image.dimensions().into();
        let canvas = match self.canvas {
            Some(before) => Canvas::new(size, added, MAX_SIDE).map(|_| before.grown(added)),
            None => Canvas::new(size, added, MAX_SIDE),
        };
        let Some(canvas) = canvas.filter(|_| added != [0; 4]) else {
            let [left, top, right, bottom] = added.map(u64::from);
            let [width, height] = size.map(u64::from);
            let detail = format!(
                "expected some pixels, and sides of at most {MAX_SIDE} with the picture, found {} x {}",
                left + width + right,
                top + height + bottom
            );
            return Err(bad("extend", detail));
        };
        let masked_by = if self.mask.is_some() { self.masked_by } else { "extend" };
        Ok(Self { canvas: Some(canvas), masked_by, ..self.grown(added) })
    }

    /// With copies of the border at the left, the top, the right and the bottom, which are white in
    /// the mask.
    fn grown(&self, [left, top, right, bottom]: [u32; 4]) -> Self {
        let (across, down) = self.image.dimensions();
        let (width, height) = (left + across + right, top + down + bottom);
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
        let (image, mask) =
            (RgbImage::from_fn(width, height, pixel), GrayImage::from_fn(width, height, white));
        Self { image, mask: Some(mask), ..*self }
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
    /// The size is `height` and `width` where given; one alone brings the other by the picture's
    /// proportions. Else it is the picture's own, or, if the model's own pictures have fewer
    /// pixels, the size with its proportions and as many as those. Sides are rounded down to whole
    /// tokens, or up if pixels were added.
    ///
    /// # Errors
    ///
    /// As for [`Request::resolve`].
    pub fn resolve(&self, request: &Request, manifest: &Manifest) -> Result<Resolved> {
        let exact = self.exact(request);
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
        let mut job = request.resolve(manifest)?;
        if let Some([width, height]) = exact {
            (job.request.width, job.request.height) = (Some(width), Some(height));
        }
        Ok(job)
    }

    /// The size with all that was added, if that is what `request` says.
    fn exact(&self, request: &Request) -> Option<[u32; 2]> {
        let [width, height] = self.canvas?.size();
        let says = |side: Option<u32>, exact| side.is_none_or(|side| side == exact);
        let is_said = request.width.is_some() || request.height.is_some();
        (is_said && says(request.width, width) && says(request.height, height))
            .then_some([width, height])
    }

    /// What was added, in whole tokens.
    fn whole(&self, model: &Model) -> Option<Canvas> {
        let canvas = self.canvas?;
        Some(
            canvas
                .grown(canvas.missing(model.pixels_per_token.saturating_mul(model.grid_multiple))),
        )
    }

    /// The bytes of memory that it takes as long as it is held.
    pub fn held_bytes(&self) -> u64 {
        let mask = self.mask.as_ref().map_or(0, |mask| mask.as_raw().len());
        (self.image.as_raw().len() + mask) as u64
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
                if let Some(canvas) = self.whole(model) {
                    return canvas.size();
                }
                let scale = (own / (across * down).sqrt()).min(1.0);
                // A hair more, since a side that should be whole may come out just below.
                [whole(across * scale + 1e-6), whole(down * scale + 1e-6)]
            }
        }
    }

    /// Brings picture and mask to the size of `job`, and tells its schedule how much is masked.
    ///
    /// # Errors
    ///
    /// `BadRequest` if the mask asks for nothing.
    pub(crate) fn fit(&self, job: &mut Resolved, model: &Model) -> Result<Start> {
        let [rows, columns] = job.grid.map(|side| side as u32);
        let size = [columns, rows].map(|side| side * model.pixels_per_token);
        let Some((canvas, whole)) =
            self.canvas.zip(self.whole(model)).filter(|(_, whole)| whole.size() == size)
        else {
            return self.fit_to(size, None, job, model);
        };
        let missing = canvas.missing(model.pixels_per_token.saturating_mul(model.grid_multiple));
        let grown;
        let source = if missing == [0; 4] {
            self
        } else {
            grown = self.grown(missing);
            &grown
        };
        let [width, height] = canvas.size();
        let asked = [job.request.width, job.request.height];
        let is_less = asked == [Some(width), Some(height)] && missing != [0; 4];
        let crop = is_less.then_some([missing[0], missing[1], width, height]);
        Ok(Start { crop, ..source.fit_to(size, Some(whole), job, model)? })
    }

    fn fit_to(
        &self,
        size: [u32; 2],
        canvas: Option<Canvas>,
        job: &mut Resolved,
        model: &Model,
    ) -> Result<Start> {
        let side = model.pixels_per_token;
        let fit = Fit::new([self.image.width(), self.image.height()], size);
        let mask = self.mask.as_ref().map(|mask| {
            let fitted = fit.mask(mask, size.map(|extent| extent / side));
            let is_added =
                |x, y| canvas.is_some_and(|canvas: Canvas| canvas.is_added_in([x, y], side));
            let tokens = fitted
                .enumerate_pixels()
                .map(|(x, y, value)| value.0[0] >= REPAINT || is_added(x, y))
                .collect();
            let pixels = self.paste.then(|| fit.mask(mask, size));
            Mask { pixels, tokens, feather: side, canvas }
        });
        if let Some(mask) = &mask {
            let masked = mask.tokens.iter().filter(|repaint| **repaint).count();
            if masked == 0 {
                return Err(self.asks_for_nothing());
            }
            job.schedule.starting_mask_ratio = masked as f32 / mask.tokens.len() as f32;
        }
        Ok(Start { image: fit.picture(&self.image), mask, crop: None })
    }

    /// Names what was given.
    fn asks_for_nothing(&self) -> Error {
        let expected = match self.masked_by {
            "alpha" => "transparent pixels where the image is to be repainted",
            "box" => "a box",
            "extend" => "pixels to be added",
            _ => "white where the picture is to be repainted",
        };
        let detail = format!("expected {expected}, at least half of one token, found less");
        bad(self.masked_by, detail)
    }
}

impl Start {
    /// The picture as the encoder reads it: `[3, height, width]`, 0 to 1, and its height and width.
    pub(crate) fn pixels(&self) -> (Vec<f32>, [usize; 2]) {
        let channel = |channel: usize| {
            self.image.pixels().map(move |pixel| f32::from(pixel.0[channel]) / 255.0)
        };
        let values = (0..3).flat_map(channel).collect(); // HWC => CHW
        (values, [self.image.height() as usize, self.image.width() as usize])
    }

    /// The tokens that sampling begins with, of all the job's pictures, from the picture's codes.
    ///
    /// With a mask, what it asks for is masked. Without, the tokens are [`noised`].
    pub(crate) fn tokens(&self, codes: &[u32], job: &Resolved, rng: &mut Rng) -> Vec<Option<u32>> {
        if let Some(mask) = &self.mask {
            let tokens =
                codes.iter().zip(&mask.tokens).map(|(code, repaint)| (!repaint).then_some(*code));
            return tokens.collect::<Vec<_>>().repeat(job.images());
        }
        let codes: Vec<_> = codes.iter().copied().map(Some).collect();
        noised(&codes, job.images(), &job.schedule, job.request.reference_strength, rng)
    }

    /// Stands for the fitted picture alone.
    pub(crate) fn picture_digest(&self) -> Digest {
        let (width, height) = self.image.dimensions();
        Digest::of(&[self.image.as_raw(), &width.to_le_bytes()[..], &height.to_le_bytes()].concat())
    }

    /// Stands for the fitted picture, the mask and whether known pixels are pasted back.
    pub(crate) fn digest(&self) -> Digest {
        let mut bytes = self.image.as_raw().clone();
        if let Some(mask) = &self.mask {
            bytes.extend(mask.tokens.iter().map(|repaint| u8::from(*repaint)));
            bytes.extend(mask.pixels.iter().flat_map(|pixels| pixels.as_raw()));
        }
        Digest::of(&bytes)
    }

    /// Puts the pixels back that were to stay, and crops to what was asked for.
    pub(crate) fn paste(&self, mut edited: RgbImage) -> RgbImage {
        match &self.mask {
            Some(Mask { pixels: Some(mask), feather, canvas: Some(canvas), .. }) => {
                paste_inside(&mut edited, &self.image, mask, *feather, canvas);
            }
            Some(Mask { pixels: Some(mask), feather, .. }) => {
                paste(&mut edited, &self.image, mask, *feather);
            }
            _ => (),
        }
        match self.crop {
            Some([left, top, width, height]) => {
                imageops::crop_imm(&edited, left, top, width, height).to_image()
            }
            None => edited,
        }
    }
}

/// `tokens` for each of so many images, each token masked with the chance that the schedule gives
/// the step that comes before the first. Torch mode draws once for all images, as the reference
/// does.
pub(crate) fn noised(
    tokens: &[Option<u32>],
    images: usize,
    schedule: &Schedule,
    as_reference: bool,
    rng: &mut Rng,
) -> Vec<Option<u32>> {
    let ratio = noise(schedule, as_reference);
    match rng {
        Rng::Torch(twister) => {
            let noised = tokens.iter().map(|token| token.filter(|_| twister.uniform() >= ratio));
            noised.collect::<Vec<_>>().repeat(images)
        }
        Rng::Own(philox) => (0..images)
            .flat_map(|image| {
                tokens.iter().enumerate().map(move |(position, token)| (image, position, *token))
            })
            .map(|(image, position, token)| {
                let uniform = philox.uniform(Purpose::Noise, image, schedule.first_step, position);
                token.filter(|_| uniform >= f64::from(ratio))
            })
            .collect(),
    }
}

/// The chance of each token to be masked before the first step: 1 from scratch. The reference then
/// masks nothing, since it takes the last step for the one before the first.
fn noise(schedule: &Schedule, as_reference: bool) -> f32 {
    match schedule.first_step {
        0 if as_reference => 0.0,
        0 => 1.0,
        first => schedule.mask_ratio(first - 1),
    }
}

fn bad(at: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadRequest, at, detail)
}

#[cfg(test)]
mod tests;
