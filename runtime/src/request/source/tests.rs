//! What is repainted, without a model.

use super::*;
use image::Rgb;

#[test]
fn a_box_must_lie_in_the_image() {
    for (wrong, sides) in
        [([0, 0, 0, 5], 64), ([60, 0, 5, 5], 64), ([0, u32::MAX, 1, 1], 64), ([0, 0, 65, 1], 64)]
    {
        let error = Source::new(RgbImage::new(sides, sides)).with_box(wrong).expect_err("outside");
        assert!(
            error
                .to_string()
                .starts_with("box: expected left,top,width,height inside 64 x 64 pixels, found"),
            "{error}"
        );
    }
    Source::new(RgbImage::new(64, 64)).with_box([0, 0, 64, 64]).expect("all of it");
}

#[test]
fn what_is_added_is_repainted_and_the_rest_stays() {
    let image = RgbImage::from_fn(64, 32, |x, y| Rgb([x as u8, y as u8, 7]));
    let source = Source::new(image.clone()).extended([32, 0, 16, 32]).expect("some");
    assert_eq!(source.image.dimensions(), (112, 64));
    assert_eq!(imageops::crop_imm(&source.image, 32, 0, 64, 32).to_image(), image);
    assert_eq!(
        (source.image.get_pixel(0, 0), source.image.get_pixel(111, 63)),
        (&Rgb([0, 0, 7]), &Rgb([63, 31, 7]))
    );
    let mask = source.mask.as_ref().expect("a mask");
    let white = |x, y| mask.get_pixel(x, y).0[0] == 255;
    for (x, y, mask) in mask.enumerate_pixels() {
        assert_eq!(mask.0[0] == 255, !((32..96).contains(&x) && y < 32), "{x}, {y}");
    }
    assert!(white(0, 0) && !white(32, 0) && white(96, 0) && white(32, 32));
    let twice = Source::new(image.clone())
        .with_box([0, 0, 8, 8])
        .expect("inside")
        .extended([8, 0, 0, 0])
        .expect("some");
    let mask = twice.mask.expect("a mask");
    let white: Vec<_> = (0..24).map(|x| mask.get_pixel(x, 4).0[0] == 255).collect();
    assert_eq!(white.iter().filter(|white| **white).count(), 16, "the box and what was added");
    for added in [[0; 4], [u32::MAX, 0, 0, 0], [u32::MAX; 4], [20_000; 4]] {
        let error = Source::new(image.clone()).extended(added).expect_err("too little or too much");
        assert!(error.to_string().starts_with("extend: expected some pixels"), "{error}");
    }
}
