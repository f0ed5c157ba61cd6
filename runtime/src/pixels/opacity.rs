//! Opacity: images lie on white, masks on black. Knows no file.

use image::{DynamicImage, GrayImage, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

/// The colours on white, and the opacity if there is one.
///
/// An image that is transparent everywhere counts as opaque, since nobody means to edit nothing:
/// then the flag is set.
pub(super) fn on_white(image: DynamicImage) -> (RgbImage, Option<GrayImage>, bool) {
    if !image.color().has_alpha() {
        return (image.into_rgb8(), None, false);
    }
    let image = image.into_rgba8();
    if image.pixels().all(|pixel| pixel.0[3] == 0) {
        return (without_alpha(&image), None, true);
    }
    let opacity = GrayImage::from_fn(image.width(), image.height(), |x, y| {
        Luma([image.get_pixel(x, y).0[3]])
    });
    let on_white = |x, y| {
        let Rgba([red, green, blue, alpha]) = *image.get_pixel(x, y);
        Rgb([red, green, blue].map(|value| mixed(value, 255, alpha)))
    };
    (RgbImage::from_fn(image.width(), image.height(), on_white), Some(opacity), false)
}

/// A mask's brightness on black: what is transparent is not repainted.
///
/// If `may_lack_alpha`, one that is transparent everywhere counts as opaque, and the flag is set.
pub(super) fn on_black(image: DynamicImage, may_lack_alpha: bool) -> (GrayImage, bool) {
    if !image.color().has_alpha() {
        return (image.into_luma8(), false);
    }
    let image = image.into_luma_alpha8();
    let is_opaque = may_lack_alpha && image.pixels().all(|pixel| pixel.0[1] == 0);
    let on_black = |x, y| {
        let LumaA([value, alpha]) = *image.get_pixel(x, y);
        Luma([if is_opaque { value } else { mixed(value, 0, alpha) }])
    };
    (GrayImage::from_fn(image.width(), image.height(), on_black), is_opaque)
}

fn without_alpha(image: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let Rgba([red, green, blue, _]) = *image.get_pixel(x, y);
        Rgb([red, green, blue])
    })
}

/// `value` over `ground`, rounded to the nearest.
fn mixed(value: u8, ground: u8, alpha: u8) -> u8 {
    let [value, ground, alpha] = [value, ground, alpha].map(u32::from);
    ((value * alpha + ground * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pixels: &[[u8; 4]]) -> DynamicImage {
        RgbaImage::from_fn(pixels.len() as u32, 1, |x, _| Rgba(pixels[x as usize])).into()
    }

    #[test]
    fn images_lie_on_white_and_masks_on_black() {
        let (white, grey) = ([255, 255, 255, 255], [100, 100, 100, 51]);
        for (pixel, expected, masked) in [
            (white, 255, 255),
            ([255, 255, 255, 0], 255, 0),
            ([0, 0, 0, 0], 255, 0),
            ([0, 0, 0, 255], 0, 0),
            ([255, 255, 255, 128], 255, 128),
            (grey, 224, 20),
        ] {
            let (colours, opacity, is_empty) = on_white(image(&[pixel, white]));
            assert_eq!((colours.get_pixel(0, 0).0, is_empty), ([expected; 3], false));
            assert_eq!(opacity.expect("with alpha").as_raw(), &[pixel[3], 255]);
            let (mask, is_empty) = on_black(image(&[pixel, white]), true);
            assert_eq!((mask.as_raw(), is_empty), (&vec![masked, 255], false), "{pixel:?}");
        }
    }

    #[test]
    fn what_is_transparent_everywhere_counts_as_opaque() {
        let nothing = || image(&[[10, 20, 30, 0], [255, 255, 255, 0]]);
        let (colours, opacity, is_empty) = on_white(nothing());
        assert_eq!((colours.as_raw(), opacity), (&vec![10, 20, 30, 255, 255, 255], None));
        assert!(is_empty);
        assert_eq!(on_black(nothing(), true).0.as_raw()[1], 255);
        let (mask, is_empty) = on_black(nothing(), false);
        assert_eq!((mask.as_raw(), is_empty), (&vec![0, 0], false), "a mask may ask for nothing");
    }
}
