//! Size, mask and noise of an edit, without a model.

use image::{GrayImage, Luma, Rgb};
use pocketmuse_package::{ErrorKind, MaskingSchedule, Model};
use proptest::prelude::*;

use super::*;
use crate::request::{self, RngKind};

/// A model of 128 x 128 pixels, tokens of 8, in pairs.
fn manifest() -> Manifest {
    let mut manifest = request::tests::manifest();
    let (vocab_size, codebook_size, mask_token_id) = (64, 48, 63);
    let (sample_size, pixels_per_token) = (16, 8);
    manifest.model = Model {
        vocab_size,
        codebook_size,
        mask_token_id,
        sample_size,
        pixels_per_token,
        ..manifest.model
    };
    manifest.defaults.num_inference_steps = 12;
    manifest
}

fn source(width: u32, height: u32) -> Source {
    Source::new(RgbImage::from_pixel(width, height, Rgb([90; 3])))
}

fn job(source: &Source, request: &Request) -> Result<Job> {
    edit_job(request, source, &manifest())
}

/// What the source became.
fn fitted(job: &Job) -> &FittedSource {
    job.source.as_ref().expect("of an edit")
}

#[test]
fn the_size_follows_the_image() {
    let cases = [
        ((128, 128), (None, None), [128, 128]),
        ((80, 48), (None, None), [80, 48]), // no larger than the model's own images
        ((87, 50), (None, None), [80, 48]), // whole tokens
        ((1, 1), (None, None), [16, 16]),
        ((4000, 3000), (None, None), [144, 96]),
        ((600, 800), (None, None), [96, 144]),
        ((60_000, 1), (None, None), [4096, 16]),
        ((400, 300), (Some(160), None), [160, 112]),
        ((400, 300), (None, Some(96)), [128, 96]),
        ((400, 300), (Some(64), Some(320)), [64, 320]),
        ((1, 60_000), (Some(64), None), [64, 4096]),
    ];
    for ((across, down), (width, height), expected) in cases {
        let request = Request { width, height, ..Request::default() };
        let job = job(&source(across, down), &request).expect("any image will do");
        let image = &fitted(&job).image;
        assert_eq!(
            [job.request.width, job.request.height],
            expected.map(Some),
            "{across} x {down}"
        );
        assert_eq!(image.dimensions(), (expected[0], expected[1]));
        let (pixels, size) = encoder_pixels(image);
        assert_eq!(
            (pixels.len(), size),
            (3 * size[0] * size[1], [expected[1] as usize, expected[0] as usize])
        );
    }
    let odd = Request { width: Some(100), ..Request::default() };
    assert!(
        job(&source(9, 9), &odd)
            .expect_err("odd")
            .to_string()
            .starts_with("width: expected a multiple of 16")
    );
}

#[test]
fn defaults_depend_on_the_mask() {
    let whole = job(&source(64, 64), &Request::default()).expect("fits");
    assert_eq!((whole.request.strength, whole.masking), (Some(0.5), MaskingSchedule::Cosine));
    assert_eq!((whole.first_step, whole.starting_mask_ratio()), (6, 1.0));
    let masked = source(64, 64).with_box([0, 0, 32, 32]).expect("inside");
    let part = job(&masked, &Request::default()).expect("fits");
    assert_eq!((part.request.strength, part.masking), (Some(1.0), MaskingSchedule::Linear));
    assert_eq!((part.first_step, part.starting_mask_ratio()), (0, 0.25));
    let cosine = Request {
        masking_schedule: Some(MaskingSchedule::Cosine),
        strength: Some(0.25),
        ..Request::default()
    };
    let part = job(&masked, &cosine).expect("fits");
    assert_eq!((part.first_step, part.masking), (9, MaskingSchedule::Cosine));
}

/// The tokens that an edit begins with, and how many an image has.
fn begin(source: &Source, request: &Request, rng: RngKind) -> (Vec<Option<u32>>, usize) {
    let request = Request { rng, seed: 7, ..request.clone() };
    let job = job(source, &request).expect("fits");
    let tokens: Vec<u32> = (0..job.tokens_per_image()).map(|cell| cell as u32 % 48).collect();
    (canvas(&job, fitted(&job), &tokens).tokens, job.tokens_per_image())
}

#[test]
fn strength_says_how_much_is_masked() {
    // Nominal ratios of the reference for 12 steps, and four standard deviations over 16 x 256
    // tokens.
    for (strength, expected) in [
        (0.0, 0.0),
        (0.1, 0.13),
        (0.3, 0.383),
        (0.5, 0.707),
        (0.7, 0.866),
        (0.9, 0.966),
        (1.0, 1.0),
    ] {
        for kind in [RngKind::Own, RngKind::Torch] {
            let images = if kind == RngKind::Own { 16 } else { 1 };
            let request = Request {
                strength: Some(strength),
                num_images_per_prompt: images,
                ..Request::default()
            };
            let (tokens, cells) = begin(&source(128, 128), &request, kind);
            let found =
                tokens.iter().filter(|token| token.is_none()).count() as f64 / tokens.len() as f64;
            let spread = 4.0 * (expected * (1.0 - expected) / tokens.len() as f64).sqrt();
            assert!(
                (found - expected).abs() <= spread + 0.002,
                "{strength}: {found}, expected {expected}"
            );
            let kept = tokens
                .iter()
                .enumerate()
                .filter_map(|(at, token)| token.map(|token| (at % cells, token)));
            assert!(
                kept.into_iter().all(|(at, token)| token == at as u32 % 48),
                "what is kept is the image's"
            );
        }
    }
}

#[test]
fn full_strength_keeps_nothing_unless_the_reference_is_followed() {
    for (reference_strength, masked) in [(false, 256), (true, 0)] {
        let request = Request { strength: Some(1.0), reference_strength, ..Request::default() };
        let (tokens, _) = begin(&source(128, 128), &request, RngKind::Torch);
        assert_eq!(tokens.iter().filter(|token| token.is_none()).count(), masked);
    }
}

#[test]
fn images_of_one_request_are_noised_apart_unless_torch_draws() {
    for (kind, apart) in [(RngKind::Own, true), (RngKind::Torch, false)] {
        let (tokens, cells) = begin(
            &source(64, 64),
            &Request { num_images_per_prompt: 2, ..Request::default() },
            kind,
        );
        assert_eq!(tokens[..cells] != tokens[cells..], apart);
    }
}

#[test]
fn a_mask_masks_the_tokens_it_covers_by_half() {
    // Columns of 8 pixels: whole, just over half, just under half, none.
    let mask = GrayImage::from_fn(32, 16, |x, _| {
        Luma([if x < 13 || (16..19).contains(&x) { 255 } else { 0 }])
    });
    let (tokens, _) = begin(&source(32, 16).with_mask(mask), &Request::default(), RngKind::Own);
    let masked: Vec<_> = tokens.iter().map(Option::is_none).collect();
    assert_eq!(masked, [true, true, false, false, true, true, false, false]);
}

#[test]
fn a_mask_of_another_size_is_stretched() {
    let small = GrayImage::from_fn(2, 1, |x, _| Luma([if x == 0 { 255 } else { 0 }]));
    let (tokens, _) = begin(&source(128, 128).with_mask(small), &Request::default(), RngKind::Own);
    assert!(tokens.iter().enumerate().all(|(at, token)| token.is_none() == (at % 16 < 8)));
}

#[test]
fn transparent_is_repainted() {
    let opacity = GrayImage::from_fn(64, 64, |_, y| Luma([if y < 16 { 0 } else { 255 }]));
    let (tokens, _) =
        begin(&source(64, 64).with_opacity(opacity), &Request::default(), RngKind::Own);
    assert!(tokens.iter().enumerate().all(|(at, token)| token.is_none() == (at < 16)));
}

#[test]
fn what_asks_for_nothing_is_refused_and_everything_is_fine() {
    for (mask, masked) in [(0, None), (127, None), (128, Some(64)), (255, Some(64))] {
        let source = source(64, 64).with_mask(GrayImage::from_pixel(64, 64, Luma([mask])));
        match job(&source, &Request::default()) {
            Ok(job) => {
                assert_eq!(job.starting_mask_ratio(), 1.0);
                let mask = fitted(&job).mask.as_ref().expect("given");
                assert_eq!(Some(mask.tokens.len()), masked);
            }
            Err(error) => {
                assert_eq!((error.kind(), masked), (ErrorKind::BadRequest, None));
                assert!(error.to_string().starts_with("mask: expected white"), "{error}");
            }
        }
    }
}

#[test]
fn known_pixels_come_back() {
    let image = RgbImage::from_fn(64, 64, |x, y| Rgb([(3 * x) as u8, (3 * y) as u8, 7]));
    let edited = RgbImage::from_pixel(64, 64, Rgb([250; 3]));
    let source = Source::new(image.clone()).with_box([0, 0, 16, 64]).expect("inside");
    let paste = |source: &Source| {
        paste_known(&job(source, &Request::default()).expect("fits"), edited.clone())
    };
    let pasted = paste(&source);
    for (x, y, pixel) in pasted.enumerate_pixels() {
        let expected = match x {
            0..16 => Some(edited.get_pixel(x, y)),
            24.. => Some(image.get_pixel(x, y)),
            _ => None,
        };
        assert!(expected.is_none_or(|expected| expected == pixel), "{x}, {y}");
    }
    assert_eq!(paste(&source.with_paste(false)), edited);
}

#[test]
fn what_is_added_is_rounded_up_to_whole_tokens() {
    let request = |width, height| Request { width, height, ..Request::default() };
    let image = RgbImage::from_fn(64, 48, |x, y| Rgb([(3 * x) as u8, (5 * y) as u8, 7]));
    // What is added; what the request says; the canvas; the result; where the image lies in it.
    type Case = ([u32; 4], [Option<u32>; 2], [u32; 2], [u32; 2], [u32; 2]);
    let cases: [Case; 9] = [
        ([0, 0, 16, 0], [None, None], [80, 48], [80, 48], [0, 0]),
        ([0, 0, 10, 0], [None, None], [80, 48], [80, 48], [0, 0]),
        ([0, 0, 20, 0], [None, None], [96, 48], [96, 48], [0, 0]),
        ([4, 0, 0, 0], [None, None], [80, 48], [80, 48], [16, 0]),
        ([0, 3, 0, 4], [None, None], [64, 64], [64, 64], [0, 7]),
        ([0, 0, 10, 0], [Some(80), Some(48)], [80, 48], [80, 48], [0, 0]), // as a job keeps it
        ([0, 0, 10, 0], [Some(74), Some(48)], [80, 48], [74, 48], [0, 0]),
        ([3, 0, 0, 1], [Some(67), None], [80, 64], [67, 49], [3, 0]),
        ([0, 0, 1, 1], [None, Some(49)], [80, 64], [65, 49], [0, 0]),
    ];
    for (added, [width, height], size, result, [left, top]) in cases {
        let source = Source::new(image.clone()).extended(added).expect("some");
        let extended = job(&source, &request(width, height)).expect("fits");
        assert_eq!(fitted(&extended).image.dimensions(), size.into(), "{added:?}");
        assert_eq!(extended.micro_conds()[..2], size.map(|side| side as f32), "as it is made");
        let pasted = paste_known(&extended, RgbImage::from_pixel(size[0], size[1], Rgb([250; 3])));
        assert_eq!(pasted.dimensions(), result.into(), "{added:?}");
        let inner = imageops::crop_imm(&pasted, left, top, 64, 48).to_image();
        assert_eq!(inner, image, "{added:?}: every pixel of the image");
        let mask = fitted(&extended).mask.as_ref().expect("a mask");
        assert!((1..mask.tokens.len()).contains(&mask.masked()), "{added:?}");
        // The job that is kept says the size of the result, and begins again as it began.
        assert_eq!(job(&source, &extended.request).expect("fits"), extended, "{added:?}");
    }
}

#[test]
fn another_size_scales_what_was_extended() {
    let source = source(64, 48).extended([0, 0, 16, 0]).expect("some");
    let request = Request { width: Some(160), height: Some(96), ..Request::default() };
    let job = job(&source, &request).expect("fits");
    let FittedSource { image, mask, crop, .. } = fitted(&job);
    assert_eq!((image.dimensions(), *crop), ((160, 96), None));
    let masked = mask.as_ref().map(Mask::masked);
    assert_eq!(masked, Some(4 * 12), "a fifth of 20 columns");
}

#[test]
fn a_refusal_names_what_was_given() {
    let opaque = GrayImage::from_pixel(64, 64, Luma([255]));
    let black = GrayImage::new(64, 64);
    let small = Request { width: Some(32), height: Some(32), ..Request::default() };
    let cases = [
        (source(64, 64).with_mask(black), Request::default(), "mask: expected white"),
        (source(64, 64).with_opacity(opaque), Request::default(), "alpha: expected transparent"),
        (
            source(64, 64).with_box([0, 0, 1, 1]).expect("inside"),
            Request::default(),
            "box: expected a box, at least half of one token",
        ),
        (
            source(800, 800).extended([1, 0, 0, 0]).expect("some"),
            small,
            "extend: expected pixels to be added, at least half of one token",
        ),
    ];
    for (source, request, expected) in cases {
        let error = job(&source, &request).map(drop).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn a_job_counts_what_it_holds() {
    let image = RgbImage::new(100, 50);
    let of = |source: &Source| job(source, &Request::default()).expect("fits").held_bytes;
    // The image and what it became, of 96 x 48 pixels; with a mask, that twice, too.
    assert_eq!(of(&Source::new(image.clone())), 3 * (100 * 50 + 96 * 48));
    let masked = Source::new(image.clone()).with_box([0, 0, 50, 50]).expect("inside");
    assert_eq!(of(&masked), 4 * (100 * 50 + 96 * 48));
    let video = Video { end: Some(image), ..Video::default() };
    let job = video_job(&Request::default(), &video, &manifest()).expect("fits");
    assert_eq!(job.held_bytes, 3 * (100 * 50 + 128 * 128));
}

proptest! {
    #[test]
    fn no_image_and_no_mask_make_it_panic(
        image in [1u32..300, 1..300],
        mask in prop::option::of([0u32..300, 0..300]),
        width in prop::option::of(prop_oneof![9 => 0u32..500, 1 => 0u32..5000]),
        value: u8,
    ) {
        let mut source = source(image[0], image[1]);
        if let Some([width, height]) = mask {
            source = source.with_mask(GrayImage::from_pixel(width, height, Luma([value])));
        }
        if let Ok(job) = job(&source, &Request { width, ..Request::default() }) {
            let (pixels, _) = encoder_pixels(&fitted(&job).image);
            prop_assert_eq!(pixels.len(), 3 * job.tokens_per_image() * 64);
        }
    }
}
