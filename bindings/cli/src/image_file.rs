//! An image file that remembers where it came from: the request and the model that made it, for us
//! and for other programs.

use std::{collections::BTreeMap, path::Path};

use image::RgbImage;
use pocketmuse::{
    Provider, Request, Stage,
    pixels::{self, Format, PARAMETERS},
};
use pocketmuse_package::{Digest, Flavour, Result};
use serde::{Deserialize, Serialize};

/// The keyword of the note that holds a [`MadeBy`] as JSON; the request has a note of its own.
pub(crate) const KEYWORD: &str = "pocketmuse-origin";

/// What made an image, beside its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeBy {
    /// The version of this program.
    pub(crate) version: String,
    /// The model's name, for people.
    pub(crate) model: String,
    /// The package's digest.
    pub(crate) package: Digest,
    /// The graphs that ran, if they were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flavour: Option<Flavour>,
    /// Who computed which stage, but for those that the CPU did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) providers: BTreeMap<Stage, Provider>,
    /// What was chosen of the options of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) provider_options: BTreeMap<Provider, BTreeMap<String, String>>,
    /// Which of the request's images it is, from 0.
    pub(crate) image: u32,
}

/// Writes an image in the format of the path's ending, in place of what was there, once it is
/// whole. Without its request and what made it, the file holds the pixels alone.
///
/// # Errors
///
/// `BadRequest` for an unknown ending; `Io` if the folder cannot be written to or the disk is full.
pub(crate) fn write(
    image: &RgbImage,
    path: &Path,
    told: Option<(&Request, &MadeBy)>,
) -> Result<()> {
    let (request, notes) = beside_pixels(told);
    pixels::write(image, path, request, &notes)
}

/// What [`write`] writes to a file of the format that the path's ending asks for.
///
/// # Errors
///
/// `BadRequest` for an unknown ending, or a format that cannot hold an image so large.
pub(crate) fn to_bytes(
    image: &RgbImage,
    path: &Path,
    told: Option<(&Request, &MadeBy)>,
) -> Result<Vec<u8>> {
    let (request, notes) = beside_pixels(told);
    pixels::to_bytes(image, Format::of(path)?, request, &notes)
}

/// The request, and the notes of an image's file.
fn beside_pixels<'a>(
    told: Option<(&'a Request, &MadeBy)>,
) -> (Option<&'a Request>, Vec<(&'static str, String)>) {
    let Some((request, made_by)) = told else { return (None, Vec::new()) };
    let parameters = parameters(request, made_by);
    let made_by =
        serde_json::to_string(made_by).expect("plain data with string keys always serializes");
    (Some(request), vec![(KEYWORD, made_by), (PARAMETERS, parameters)])
}

/// The request as A1111 writes it, which galleries and other programs show. Ours is read from
/// elsewhere.
fn parameters(request: &Request, made_by: &MadeBy) -> String {
    let mut text = request.prompt.clone();
    if !request.negative_prompt.is_empty() {
        text += &format!("\nNegative prompt: {}", request.negative_prompt);
    }
    let mut settings = Vec::new();
    let mut add = |name: &str, value: String| settings.push(format!("{name}: {value}"));
    if let Some(steps) = request.num_inference_steps {
        add("Steps", steps.to_string());
    }
    add("Sampler", request.sampler.to_string());
    if let Some(scale) = request.guidance_scale {
        add("CFG scale", scale.to_string());
    }
    add("Seed", request.seed.to_string());
    if let (Some(width), Some(height)) = (request.width, request.height) {
        add("Size", format!("{width}x{height}"));
    }
    if let Some(strength) = request.strength {
        add("Denoising strength", strength.to_string());
    }
    add("Model", made_by.model.replace([',', '\n'], " "));
    add("Version", format!("pocketmuse {}", made_by.version));
    text + "\n" + &settings.join(", ")
}

/// Reads the request of an image's file, and what made it if that is in it.
///
/// # Errors
///
/// `Io` if the file cannot be read; `BadInput` if it is no PNG, JPEG or WebP, is damaged, or holds no
/// request.
pub(crate) fn read(path: &Path) -> Result<(Request, Option<MadeBy>)> {
    Ok((pixels::read_request(path)?, read_made_by(path)))
}

/// Where an image came from matters less than that it can be made again: what cannot be read is as
/// good as absent.
fn read_made_by(path: &Path) -> Option<MadeBy> {
    serde_json::from_str(&pixels::read_note(path, KEYWORD).ok()??).ok()
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::ErrorKind;

    use super::*;

    fn made_by() -> MadeBy {
        let package = Digest::of(b"abc");
        MadeBy {
            version: "1".to_owned(),
            model: "tiny".to_owned(),
            package,
            flavour: Some(Flavour::F32),
            providers: [(Stage::Step, Provider::OpenVino)].into(),
            provider_options: [(
                Provider::OpenVino,
                [("precision".to_owned(), "bf16".to_owned())].into(),
            )]
            .into(),
            image: 2,
        }
    }

    #[test]
    fn a_file_remembers_and_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = RgbImage::from_fn(4, 3, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let request = Request {
            prompt: "ein \"roter\" Leuchtturm \u{1F680}".to_owned(),
            ..Request::default()
        };
        for name in ["a.png", "a.png", "a.webp", "a.webp", "a.jpg", "a.jpg"] {
            let path = folder.path().join(name);
            write(&image, &path, Some((&request, &made_by()))).expect("written");
            assert_eq!(read(&path).expect("inside"), (request.clone(), Some(made_by())));
            let read = image::open(&path).expect("an image").to_rgb8();
            assert!(read == image || name == "a.jpg");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 3);
    }

    #[test]
    fn others_read_the_request_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let request = Request {
            negative_prompt: "fog".to_owned(),
            num_inference_steps: Some(12),
            guidance_scale: Some(1.5),
            width: Some(96),
            height: Some(64),
            seed: 7,
            ..Request::new("a red house")
        };
        let expected = "a red house\nNegative prompt: fog\nSteps: 12, Sampler: confidence, CFG scale: \
                        1.5, Seed: 7, Size: 96x64, Model: tiny, Version: pocketmuse 1";
        for name in ["a.png", "a.jpg", "a.webp"] {
            let path = folder.path().join(name);
            write(&RgbImage::new(4, 3), &path, Some((&request, &made_by()))).expect("written");
            let text = pixels::read_note(&path, PARAMETERS).expect("whole");
            assert_eq!(text.as_deref(), Some(expected), "{name}");
        }
    }

    /// What the CPU made says nothing of it: its files are what they were.
    #[test]
    fn only_other_providers_than_the_cpu_are_named() {
        let json = |made_by: &MadeBy| serde_json::to_value(made_by).expect("plain data");
        assert_eq!(json(&made_by())["providers"], serde_json::json!({"step": "openvino"}));
        let options = serde_json::json!({"openvino": {"precision": "bf16"}});
        assert_eq!(json(&made_by())["provider_options"], options);
        let (providers, provider_options) = Default::default();
        let by_cpu = MadeBy { providers, provider_options, ..made_by() };
        let told = json(&by_cpu);
        assert_eq!((told.get("providers"), told.get("provider_options")), (None, None));
        assert_eq!(serde_json::from_value::<MadeBy>(told).expect("read"), by_cpu);
    }

    #[test]
    fn images_without_a_request_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.jpg", "a.webp", "a.png"] {
            let path = folder.path().join(name);
            write(&RgbImage::new(4, 3), &path, None).expect("written");
            assert_eq!(read(&path).expect_err(name).kind(), ErrorKind::BadInput);
        }
    }
}
