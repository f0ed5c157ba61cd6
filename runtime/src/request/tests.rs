//! Ranges, defaults and what is stored.

use std::collections::BTreeMap;

use pocketmuse_package::{
    Defaults, Digest, ErrorKind, FORMAT_VERSION, FileEntry, Manifest, MaskingSchedule, Model,
    Tokenizer,
};

use super::*;

/// A model of 512 x 512 pixels, tokens of 16, in pairs.
pub(crate) fn manifest() -> Manifest {
    let file = FileEntry { path: "tokenizer.json".to_owned(), bytes: 0, sha256: Digest::of(b"") };
    Manifest {
        format: FORMAT_VERSION,
        exporter: "test".to_owned(),
        model: Model {
            name: "test".to_owned(),
            vocab_size: 8256,
            codebook_size: 8192,
            mask_token_id: 8255,
            masking_schedule: MaskingSchedule::Cosine,
            sample_size: 32,
            pixels_per_token: 16,
            grid_multiple: 2,
        },
        tokenizer: Tokenizer { file, bos: 1, eos: 2, pad: 2, max_tokens: 77 },
        defaults: Defaults { num_inference_steps: 8, guidance_scale: 1.5, temperature: [0.7, 0.0] },
        knows: Vec::new(),
        preview: None,
        flavours: BTreeMap::new(),
    }
}

#[test]
fn what_is_left_open_comes_from_the_package() {
    let resolved = Job::new(&Request::default(), &manifest()).expect("defaults fit");
    let Job { request, guidance_scale, grid, steps, temperature, .. } = &resolved;
    assert_eq!((*guidance_scale, *grid, *steps, *temperature), (1.5, [32, 32], 8, [0.7, 0.0]));
    assert_eq!(
        (request.height, request.width, request.num_inference_steps),
        (Some(512), Some(512), Some(8))
    );
    assert_eq!(Job::new(request, &manifest()).expect("resolved twice"), resolved);
    assert!(resolved.is_guided());
}

#[test]
fn what_is_given_is_kept() {
    let request = Request {
        guidance_scale: Some(1.0),
        num_inference_steps: Some(3),
        temperature: Some(Temperature::Decaying(1.5)),
        height: Some(320),
        width: Some(64),
        num_images_per_prompt: 4,
        aesthetic_score: 5.5,
        crop_coordinates: [3, 7],
        masking_schedule: Some(MaskingSchedule::Linear),
        ..Request::default()
    };
    let resolved = Job::new(&request, &manifest()).expect("fits");
    assert_eq!(resolved.grid, [20, 4]);
    assert_eq!((resolved.steps, resolved.temperature), (3, [1.5, 0.01]));
    assert_eq!(resolved.micro_conds(), [64.0, 320.0, 3.0, 7.0, 5.5]);
    assert_eq!((resolved.is_guided(), resolved.images()), (false, 4));
    assert_eq!(resolved.request, request);
}

#[test]
fn strength_is_the_part_of_the_steps_that_is_run() {
    // [n - int(n * s) for n, s in ...] in Python
    let cases =
        [(12, 0.6, 5), (10, 0.7, 3), (12, 1.0, 0), (12, 0.0, 12), (12, 0.08, 12), (50, 0.58, 22)];
    for (steps, strength, first) in cases {
        let request = Request {
            num_inference_steps: Some(steps),
            strength: Some(strength),
            ..Request::default()
        };
        let resolved = Job::new(&request, &manifest()).expect("fits");
        assert_eq!(resolved.first_step, first, "{steps} steps, strength {strength}");
        assert_eq!((resolved.steps(), resolved.redone_from), (steps as usize, None));
        let request = Request { variation: request.strength, strength: None, ..request };
        let resolved = Job::new(&request, &manifest()).expect("fits");
        assert_eq!(
            (resolved.first_step, resolved.redone_from),
            (0, Some(first)),
            "a variation's first are all"
        );
        assert_eq!(resolved.steps(), 2 * steps as usize - first);
    }
}

const OUT_OF_RANGE: &str = concat!(
    "negative_prompt: expected weights of 0 to 10, found 11 at byte 3: ",
    r"\( and \) are brackets in the text, and without prompt_weighting all brackets are",
);

#[test]
fn says_which_field_does_not_fit_and_what_would() {
    type Change = fn(&mut Request);
    let cases: [(&str, Change); 28] = [
        ("tileable: expected an image that a prompt makes, found one to edit", |r| {
            (r.tileable, r.strength) = (Tileable::Both, Some(0.5));
        }),
        ("variation: expected a number of 0 to 1, found 1.5", |r| r.variation = Some(1.5)),
        ("variation: expected a number of 0 to 1, found NaN", |r| r.variation = Some(f64::NAN)),
        ("variation: expected the generator own, found torch", |r| {
            (r.variation, r.rng) = (Some(0.3), RngKind::Torch);
        }),
        ("variation: expected an image that a prompt made, found one to edit", |r| {
            (r.variation, r.strength) = (Some(0.3), Some(0.5));
        }),
        ("variation_of: expected an image below 64, found 64", |r| {
            (r.variation, r.variation_of) = (Some(0.3), 64)
        }),
        (OUT_OF_RANGE, |r| {
            r.negative_prompt = "a ((b:10))".to_owned();
        }),
        ("num_inference_steps: expected 1 to 10000, found 0", |r| r.num_inference_steps = Some(0)),
        ("num_inference_steps: expected 1 to 10000, found 10001", |r| {
            r.num_inference_steps = Some(10_001)
        }),
        ("guidance_scale: expected a finite number of at least 0, found NaN", |r| {
            r.guidance_scale = Some(f32::NAN)
        }),
        ("guidance_scale: expected a finite number of at least 0, found -1", |r| {
            r.guidance_scale = Some(-1.0)
        }),
        ("temperature: expected a finite number of at least 0, found inf", |r| {
            r.temperature = Some(Temperature::Range([1.0, f32::INFINITY]));
        }),
        ("temperature: expected a finite number of at least 0, found -2", |r| {
            r.temperature = Some(Temperature::Decaying(-2.0));
        }),
        ("height: expected a multiple of 32 pixels up to 4096, found 0: the nearest is 32", |r| {
            r.height = Some(0)
        }),
        (
            "height: expected a multiple of 32 pixels up to 4096, found 500: the nearest are 480 \
            and 512",
            |r| {
                r.height = Some(500);
            },
        ),
        ("width: expected a multiple of 32 pixels up to 4096, found 1: the nearest is 32", |r| {
            r.width = Some(1)
        }),
        (
            "width: expected a multiple of 32 pixels up to 4096, found 4128: the nearest is 4096",
            |r| {
                r.width = Some(4128);
            },
        ),
        (
            "width: expected a multiple of 32 pixels up to 4096, found 4294967295: the nearest \
            is 4096",
            |r| {
                r.width = Some(u32::MAX);
            },
        ),
        ("num_images_per_prompt: expected 1 to 64, found 0", |r| r.num_images_per_prompt = 0),
        ("num_images_per_prompt: expected 1 to 64, found 65", |r| r.num_images_per_prompt = 65),
        ("aesthetic_score: expected a finite number, found inf", |r| {
            r.aesthetic_score = f32::INFINITY
        }),
        ("aesthetic_score: expected a finite number, found NaN", |r| r.aesthetic_score = f32::NAN),
        ("prompt: expected at most 65536 bytes, found 65537", |r| r.prompt = "a".repeat(65_537)),
        ("negative_prompt: expected at most 65536 bytes, found 65537", |r| {
            r.negative_prompt = "a".repeat(65_537)
        }),
        ("sampler: expected confidence with torch's numbers, found halton", |r| {
            (r.sampler, r.rng) = (Sampler::Halton, RngKind::Torch);
        }),
        ("strength: expected a number of 0 to 1, found 1.5", |r| r.strength = Some(1.5)),
        ("strength: expected a number of 0 to 1, found NaN", |r| r.strength = Some(f64::NAN)),
        ("guidance_scale: expected a finite number of at least 0, found inf", |r| {
            r.guidance_scale = Some(f32::INFINITY);
        }),
    ];
    for (expected, change) in cases {
        let mut request = Request::default();
        change(&mut request);
        let error = request.resolve(&manifest()).expect_err(expected);
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::BadRequest));
    }
}

#[test]
fn no_model_makes_it_panic() {
    for (sample_size, pixels_per_token, grid_multiple) in
        [(4096, 1024, 64), (1, 1, 1), (4096, 1, 1)]
    {
        let mut manifest = manifest();
        manifest.model.sample_size = sample_size;
        manifest.model.pixels_per_token = pixels_per_token;
        manifest.model.grid_multiple = grid_multiple;
        for side in [None, Some(0), Some(1), Some(4095), Some(u32::MAX)] {
            let _ = Request { height: side, ..Request::default() }.resolve(&manifest);
        }
    }
}

#[test]
fn survives_being_stored() {
    let request = Request { prompt: "a \"sea\"".to_owned(), ..Request::default() };
    let stored = serde_json::to_string(&request).expect("plain data");
    assert!(!stored.contains("height"), "{stored}");
    assert_eq!(serde_json::from_str::<Request>(&stored).expect("stored"), request);
    let resolved = request.resolve(&manifest()).expect("fits");
    let stored = serde_json::to_string(&resolved).expect("plain data");
    assert_eq!(serde_json::from_str::<Request>(&stored).expect("stored"), resolved);
    let old = serde_json::from_str::<Request>("{}").expect("nothing given");
    assert_eq!(
        old,
        Request { prompt_weighting: false, ..Request::default() },
        "brackets were text once"
    );
    let unknown =
        serde_json::from_str::<Request>(r#"{"strenght": 0.5}"#).expect_err("not of this version");
    assert!(unknown.to_string().starts_with("unknown field `strenght`"), "{unknown}");
}
