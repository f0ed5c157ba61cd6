//! What an edit starts from: an image, and what of it is repainted. Knows no network; see
//! [`Pipeline::edit`](crate::Pipeline::edit).

use std::borrow::Cow;

use image::{
    GrayImage, Luma, RgbImage,
    imageops::{self, FilterType},
};
use pocketmuse_package::{Error, Model, Result};

use super::{
    extension::Extension,
    fields::{MAX_SIDE, Request},
    kinds::bad,
};

/// An image to edit, of any size, and what of it is repainted.
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) image: RgbImage,
    pub(crate) mask: Option<GrayImage>,
    /// What the mask was made from, by the name that a request has for it.
    masked_by: &'static str,
    pub(crate) paste: bool,
    /// Where the image came from before pixels were added.
    extension: Option<Extension>,
}

impl Source {
    /// An image that is remade as a whole: image to image.
    pub fn new(image: RgbImage) -> Self {
        Self { image, mask: None, masked_by: "mask", paste: true, extension: None }
    }

    /// Repaints what is white in `mask` and keeps the rest: inpainting. A mask of another size is
    /// stretched over the image; brightness counts from a half on.
    #[must_use]
    pub fn with_mask(self, mask: GrayImage) -> Self {
        Self { mask: Some(mask), masked_by: "mask", ..self }
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
        let now = Extension::new(size, added, MAX_SIDE).filter(|_| added != [0; 4]);
        let Some(now) = now else {
            let [left, top, right, bottom] = added.map(u64::from);
            let [width, height] = size.map(u64::from);
            let detail = format!(
                "expected some pixels, and sides of at most {MAX_SIDE} with the image, found {} x \
                 {}",
                left + width + right,
                top + height + bottom
            );
            return Err(bad("extend", detail));
        };
        let extension = Some(self.extension.map_or(now, |before| before.grown(added)));
        let masked_by = if self.mask.is_some() { self.masked_by } else { "extend" };
        Ok(Self { extension, masked_by, ..self.grown(added) })
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

    /// With what was added as whole tokens, if it is then of this size, width and height; and where
    /// the image lies in that.
    pub(crate) fn whole(
        &self,
        size: [u32; 2],
        model: &Model,
    ) -> Option<(Cow<'_, Self>, Extension)> {
        let extension = self.extension?;
        let missing = extension.missing(unit(model));
        let whole = extension.grown(missing);
        (whole.size() == size).then(|| match missing {
            [0, 0, 0, 0] => (Cow::Borrowed(self), whole),
            missing => (Cow::Owned(self.grown(missing)), whole),
        })
    }

    /// The left and top, in the images of that size, of what a request asks for that is cropped.
    pub(crate) fn corner(&self, whole: &Extension) -> [u32; 2] {
        let before = self.extension.map_or([0; 2], |extension| extension.corner());
        [0, 1].map(|axis| whole.corner()[axis] - before[axis])
    }

    /// The size with all that was added, width and height, if that is what `request` says.
    pub(super) fn exact_size(&self, request: &Request) -> Option<[u32; 2]> {
        let [width, height] = self.extension?.size();
        let says = |side: Option<u32>, exact| side.is_none_or(|side| side == exact);
        let is_said = request.width.is_some() || request.height.is_some();
        (is_said && says(request.width, width) && says(request.height, height))
            .then_some([width, height])
    }

    /// Width and height of an edit's images, in pixels, as [`Self::resolve`] says.
    pub(super) fn size(&self, request: &Request, model: &Model) -> [u32; 2] {
        let [across, down] =
            [self.image.width(), self.image.height()].map(|side| f64::from(side.max(1)));
        let own = f64::from(model.sample_size) * f64::from(model.pixels_per_token);
        let unit = unit(model);
        let whole = |side: f64| (side.min(f64::from(MAX_SIDE)) as u32 / unit * unit).max(unit);
        match (request.width, request.height, self.extension) {
            (Some(width), Some(height), _) => [width, height],
            (Some(width), None, _) => [width, whole(f64::from(width) / across * down)],
            (None, Some(height), _) => [whole(f64::from(height) / down * across), height],
            (None, None, Some(extension)) => extension.whole(unit).size(),
            (None, None, None) => {
                let scale = (own / (across * down).sqrt()).min(1.0);
                // A hair more, since a side that should be whole may come out just below.
                [whole(across * scale + 1e-6), whole(down * scale + 1e-6)]
            }
        }
    }

    /// The bytes of memory that it takes as long as it is held.
    pub(super) fn held_bytes(&self) -> u64 {
        let mask = self.mask.as_ref().map_or(0, |mask| mask.as_raw().len());
        (self.image.as_raw().len() + mask) as u64
    }

    /// That the mask asks for nothing, by the name of what was given.
    pub(crate) fn asks_for_nothing(&self) -> Error {
        let expected = match self.masked_by {
            "alpha" => "transparent pixels where the image is to be repainted",
            "box" => "a box",
            "extend" => "pixels to be added",
            _ => "white where the image is to be repainted",
        };
        let detail = format!("expected {expected}, at least half of one token, found less");
        bad(self.masked_by, detail)
    }
}

/// The sides of images are multiples of so many pixels.
fn unit(model: &Model) -> u32 {
    model.pixels_per_token.saturating_mul(model.grid_multiple).max(1)
}

#[cfg(test)]
mod tests;
