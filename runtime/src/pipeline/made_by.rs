//! What made an image, beside its request: a note of its file.

use std::collections::BTreeMap;

use pocketmuse_package::{Digest, Flavour, Stage};
use serde::{Deserialize, Serialize};

use crate::{
    engine::providers::nodes::Nodes,
    memory::metrics::Report,
    package::Package,
    pixels::PARAMETERS,
    request::{Provider, Request},
};

/// What made an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// The version of this library.
    pub version: String,
    /// The model's name, for people.
    pub model: String,
    /// The package's digest.
    pub package: Digest,
    /// The graphs that ran; files of older versions name them only if they were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<Flavour>,
    /// Who computed which stage, but for those that the CPU did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<Stage, Provider>,
    /// What was chosen of the options of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provider_options: BTreeMap<Provider, BTreeMap<String, String>>,
    /// Of those stages, the ones that the CPU computed a part of, because that was allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub split: BTreeMap<Stage, Nodes>,
    /// Which of the request's images it is, from 0.
    pub image: u32,
}

impl MadeBy {
    /// The keyword of the note that holds this as JSON; the request has a note of its own.
    pub const KEYWORD: &str = "pocketmuse-origin";

    /// Of the first image of a job that cost what `report` says.
    pub(super) fn of(package: &Package, report: &Report) -> Self {
        let others = || {
            let stages = report.stages.iter().filter(|stage| stage.provider != Provider::Cpu);
            stages.filter_map(|stage| Some((stage.name.parse::<Stage>().ok()?, stage)))
        };
        let providers = others().map(|(name, stage)| (name, stage.provider)).collect();
        let split = others().filter_map(|(name, stage)| Some((name, stage.nodes.clone()?)));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: package.manifest().model.name.clone(),
            package: package.manifest().digest(),
            flavour: Some(package.flavour()),
            provider_options: package.providers().options_of(&providers),
            providers,
            split: split.filter(|(_, nodes)| nodes.taken < nodes.all).collect(),
            image: 0,
        }
    }

    /// The same of another image of the job, counted from 0.
    pub fn of_image(&self, image: usize) -> Self {
        Self { image: image as u32, ..self.clone() } // a request has few
    }

    /// The notes of a file with an image of `request`: this, and the request as other programs read
    /// it.
    pub fn notes(&self, request: &Request) -> Vec<(&'static str, String)> {
        let told = serde_json::to_string(self).expect("plain data with keys that are text");
        vec![(Self::KEYWORD, told), (PARAMETERS, self.parameters(request))]
    }

    /// The request as A1111 writes it, which galleries and other programs show.
    fn parameters(&self, request: &Request) -> String {
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
        add("Model", self.model.replace([',', '\n'], " "));
        add("Version", format!("pocketmuse {}", self.version));
        text + "\n" + &settings.join(", ")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use image::RgbImage;

    use super::*;
    use crate::pixels;

    pub(in crate::pipeline) fn example() -> MadeBy {
        let bf16 = ("precision".to_owned(), "bf16".to_owned());
        MadeBy {
            version: "1".to_owned(),
            model: "tiny".to_owned(),
            package: Digest::of(b"abc"),
            flavour: Some(Flavour::F32),
            providers: [(Stage::Step, Provider::OpenVino)].into(),
            provider_options: [(Provider::OpenVino, [bf16].into())].into(),
            split: BTreeMap::new(),
            image: 2,
        }
    }

    #[test]
    fn others_read_the_request_too() {
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
        let (folder, notes) = (tempfile::tempdir().expect("a folder"), example().notes(&request));
        for name in ["a.png", "a.jpg", "a.webp"] {
            let path = folder.path().join(name);
            pixels::write(&RgbImage::new(4, 3), &path, &request, &notes).expect("written");
            let text = pixels::read_note(&path, PARAMETERS).expect("whole");
            assert_eq!(text.as_deref(), Some(expected), "{name}");
        }
    }

    /// What the CPU made says nothing of it: its files are what they were.
    #[test]
    fn only_other_providers_than_the_cpu_are_named() {
        let json = |made_by: &MadeBy| serde_json::to_value(made_by).expect("plain data");
        assert_eq!(json(&example())["providers"], serde_json::json!({"step": "openvino"}));
        let options = serde_json::json!({"openvino": {"precision": "bf16"}});
        assert_eq!(json(&example())["provider_options"], options);
        let (providers, provider_options) = Default::default();
        let by_cpu = MadeBy { providers, provider_options, ..example() };
        let told = json(&by_cpu);
        let found = ["providers", "provider_options", "split"].map(|name| told.get(name));
        assert_eq!(found, [None; 3]);
        assert_eq!(serde_json::from_value::<MadeBy>(told).expect("read"), by_cpu);
    }
}
