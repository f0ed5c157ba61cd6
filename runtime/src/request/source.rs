//! What an edit starts from: an image, and what of it is repainted. Knows no network; see
//! [`Pipeline::edit`](crate::Pipeline::edit).

use image::{
    GrayImage, Luma, RgbImage,
    imageops::{self, FilterType},
};
use pocketmuse_package::{Model, Result};

use super::{
    fields::{MAX_SIDE, Request},
    kinds::bad,
};

/// An image to edit, of any size, and what of it is repainted.
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) image: RgbImage,
    pub(crate) mask: Option<GrayImage>,
    pub(crate) paste: bool,
    extended: bool,
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

    /// Width and height of an edit's images, in pixels, as [`Self::resolve`] says.
    pub(super) fn size(&self, request: &Request, model: &Model) -> [u32; 2] {
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

#[cfg(test)]
mod tests;
