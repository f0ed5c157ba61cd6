//! The image that a job starts from or becomes, brought to the job's size; its tokens with noise;
//! and the pixels that were to stay, put back. Knows no graph.

use std::{borrow::Cow, sync::Arc};

use image::{RgbImage, imageops};
use pocketmuse_package::{Digest, Manifest, Result};

use crate::{
    pixels::{Fit, REPAINT, paste, paste_inside},
    request::{
        Job, Request,
        fitted::{FittedSource, Mask},
        source::Source,
        video::Video,
    },
    sampler::{Canvas, Schedule, noise},
};

/// The job of an edit, with its source brought to the job's size.
///
/// # Errors
///
/// `BadRequest` for a wrong request, or if the mask asks for nothing.
pub(super) fn edit_job(request: &Request, source: &Source, manifest: &Manifest) -> Result<Job> {
    let job = source.job(request, manifest)?;
    let whole = source.whole(job.canvas_size(), &manifest.model);
    let extension = whole.as_ref().map(|(_, extension)| *extension);
    let source = whole.map_or(Cow::Borrowed(source), |(grown, _)| grown);
    let fit = fit(&source.image, &job);
    let mask = source.mask.as_ref().map(|mask| {
        let [rows, columns] = job.grid.map(|side| side as u32);
        let tokens = fit.mask(mask, [columns, rows]);
        let is_added =
            |at| extension.is_some_and(|known| known.is_added_in(at, job.pixels_per_token));
        Mask {
            pixels: source.paste.then(|| fit.mask(mask, job.canvas_size())),
            tokens: tokens
                .enumerate_pixels()
                .map(|(x, y, value)| value.0[0] >= REPAINT || is_added([x, y]))
                .collect(),
            feather: job.pixels_per_token,
        }
    });
    if mask.as_ref().is_some_and(|mask| mask.masked() == 0) {
        return Err(source.asks_for_nothing());
    }
    let is_cropped = job.size() != [1, 0].map(|axis| job.canvas_size()[axis] as usize);
    let crop = extension.filter(|_| is_cropped).map(|whole| source.corner(&whole));
    let fitted = FittedSource::new(fit.image(&source.image), mask);
    let fitted = FittedSource { extension, crop, ..fitted };
    Ok(Job { source: Some(Arc::new(fitted)), ..job })
}

/// The job of a video, with its end brought to the job's size.
///
/// # Errors
///
/// `BadRequest` for a wrong request or video.
pub(super) fn video_job(request: &Request, video: &Video, manifest: &Manifest) -> Result<Job> {
    let job = video.job(request, manifest)?;
    let end = video.end.as_ref().map(|end| fit(end, &job).image(end));
    Ok(Job { video: Some(Video { end, ..video.clone() }), ..job })
}

fn fit(image: &RgbImage, job: &Job) -> Fit {
    Fit::new([image.width(), image.height()], job.canvas_size())
}

/// An image as the encoder reads it: `[3, height, width]`, 0 to 1, and its height and width.
pub(super) fn encoder_pixels(image: &RgbImage) -> (Vec<f32>, [usize; 2]) {
    let channel =
        |channel: usize| image.pixels().map(move |pixel| f32::from(pixel.0[channel]) / 255.0);
    let values = (0..3).flat_map(channel).collect(); // HWC => CHW
    (values, [image.height() as usize, image.width() as usize])
}

/// Stands for an image of any size.
pub(super) fn image_digest(image: &RgbImage) -> Digest {
    let (width, height) = image.dimensions();
    Digest::of(&[image.as_raw(), &width.to_le_bytes()[..], &height.to_le_bytes()].concat())
}

/// The canvas that an edit begins with, from the tokens of its image: with a mask, what it asks for
/// is masked; without, the tokens are [`noise::noised`].
pub(super) fn canvas(job: &Job, source: &FittedSource, tokens: &[u32]) -> Canvas {
    let mut canvas = Canvas::masked(job);
    canvas.tokens = match &source.mask {
        Some(mask) => {
            let kept = tokens.iter().zip(&mask.tokens);
            let kept = kept.map(|(token, repaint)| (!repaint).then_some(*token));
            kept.collect::<Vec<_>>().repeat(job.images())
        }
        None => {
            let tokens: Vec<_> = tokens.iter().copied().map(Some).collect();
            let schedule = (&Schedule::of(job), job.request.reference_strength);
            noise::noised(&tokens, job.images(), schedule, &mut canvas.rng)
        }
    };
    canvas
}

/// An image with the pixels that were to stay, cropped to what was asked for.
pub(super) fn paste_known(job: &Job, mut edited: RgbImage) -> RgbImage {
    let Some(source) = &job.source else { return edited };
    let known = &source.image;
    match (&source.mask, &source.extension) {
        (Some(Mask { pixels: Some(mask), feather, .. }), Some(extension)) => {
            paste_inside(&mut edited, known, mask, *feather, extension);
        }
        (Some(Mask { pixels: Some(mask), feather, .. }), None) => {
            paste(&mut edited, known, mask, *feather);
        }
        _ => (),
    }
    let Some([left, top]) = source.crop else { return edited };
    let [height, width] = job.size().map(|side| side as u32);
    imageops::crop_imm(&edited, left, top, width, height).to_image()
}

#[cfg(test)]
mod tests;
