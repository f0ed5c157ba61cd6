//! How like two images are.

use image::RgbImage;

/// The peak signal-to-noise ratio of two images of one size, in dB.
pub(crate) fn psnr(found: &RgbImage, expected: &RgbImage) -> f64 {
    assert_eq!(found.dimensions(), expected.dimensions());
    let pairs = found.as_raw().iter().zip(expected.as_raw());
    let squares: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) * found.as_raw().len() as f64 / squares.max(1e-9)).log10()
}
