//! The image that a job starts from or becomes, brought to the job's size; its tokens with noise;
//! and the pixels that were to stay, put back. Knows no graph.

use image::RgbImage;
use pocketmuse_package::{Digest, Error, ErrorKind, Manifest, Result};

use crate::{
    pixels::{Fit, REPAINT, paste},
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
    let fit = fit(&source.image, &job);
    let mask = source.mask.as_ref().map(|mask| {
        let [rows, columns] = job.grid.map(|side| side as u32);
        let tokens = fit.mask(mask, [columns, rows]);
        Mask {
            pixels: source.paste.then(|| fit.mask(mask, size(&job))),
            tokens: tokens.iter().map(|value| *value >= REPAINT).collect(),
            feather: job.pixels_per_token,
        }
    });
    if mask.as_ref().is_some_and(|mask| mask.masked() == 0) {
        let detail = "expected white where the image is to be repainted, at least half of one token, found less";
        return Err(Error::new(ErrorKind::BadRequest, "mask", detail));
    }
    let source = FittedSource::new(fit.picture(&source.image), mask);
    Ok(Job { source: Some(source), ..job })
}

/// The job of a video, with its end brought to the job's size.
///
/// # Errors
///
/// `BadRequest` for a wrong request or video.
pub(super) fn video_job(request: &Request, video: &Video, manifest: &Manifest) -> Result<Job> {
    let job = video.job(request, manifest)?;
    let end = video.end.as_ref().map(|end| fit(end, &job).picture(end));
    Ok(Job { video: Some(Video { end, ..video.clone() }), ..job })
}

/// Width and height of a job's images, in pixels.
fn size(job: &Job) -> [u32; 2] {
    let [rows, columns] = job.grid.map(|side| side as u32);
    [columns, rows].map(|side| side * job.pixels_per_token)
}

fn fit(image: &RgbImage, job: &Job) -> Fit {
    Fit::new([image.width(), image.height()], size(job))
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

/// An image with the pixels that were to stay.
pub(super) fn paste_known(job: &Job, mut edited: RgbImage) -> RgbImage {
    let source =
        job.source.as_ref().and_then(|source| Some((&source.image, source.mask.as_ref()?)));
    if let Some((known, Mask { pixels: Some(mask), feather, .. })) = source {
        paste(&mut edited, known, mask, *feather);
    }
    edited
}

#[cfg(test)]
mod tests;
