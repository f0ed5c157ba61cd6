//! Whether an image shows what its prompt asks for, as a classifier of five attributes says.

use std::{fs, path::Path, sync::OnceLock};

use pocketmuse::{
    Loading, Request, Runtime, Stage,
    internals::{Input, Session, Settings},
};
use serde_json::Value;

use crate::support::fixture;

pub(crate) const ATTRIBUTES: [&str; 5] = ["object", "color", "sky", "ground", "backdrop"];

/// Two hundred prompts with their labels and seeds, and the classes of each attribute.
pub(crate) fn prompts() -> &'static Value {
    static PROMPTS: OnceLock<Value> = OnceLock::new();
    let read = || fs::read(fixture("prompts.json")).expect("a fixture");
    PROMPTS.get_or_init(|| serde_json::from_slice(&read()).expect("JSON"))
}

pub(crate) fn request(prompt: &Value) -> Request {
    let text = prompt["prompt"].as_str().expect("a prompt").to_owned();
    Request { prompt: text, seed: prompt["seed"].as_u64().expect("a seed"), ..Request::default() }
}

/// The judge: pixels to one class per attribute.
pub(crate) struct Judge(Session);

impl Judge {
    pub(crate) fn open(path: &Path) -> Self {
        let runtime = Runtime::start(None).expect("ONNX Runtime, started before");
        // One thread, as for the pipelines.
        let settings = Settings::new(1, Loading::of(Stage::Decoder));
        let model = fs::read(path).expect("a graph");
        Self(Session::of_model(runtime, "the judge", &model, settings).expect("a graph"))
    }

    /// How many of the attributes the image shows as the labels say.
    pub(crate) fn score(&mut self, image: &image::RgbImage, labels: &Value) -> usize {
        self.shown(image, labels).into_iter().filter(|shown| *shown).count()
    }

    /// Which of the attributes the image, 128 x 128 pixels, shows as the labels say.
    pub(crate) fn shown(
        &mut self,
        image: &image::RgbImage,
        labels: &Value,
    ) -> [bool; ATTRIBUTES.len()] {
        let size = [image.height() as usize, image.width() as usize];
        let plane = |channel| image.pixels().map(move |pixel| f32::from(pixel.0[channel]) / 255.0);
        let pixels: Vec<f32> = (0..3).flat_map(plane).collect(); // HWC => CHW
        self.shown_by(&pixels, size, labels)
    }

    /// As [`Self::shown`], of pixels `[3, height, width]` from 0 to 1.
    pub(crate) fn shown_by(
        &mut self,
        pixels: &[f32],
        [height, width]: [usize; 2],
        labels: &Value,
    ) -> [bool; ATTRIBUTES.len()] {
        let input = Input::F32(&[1, 3, height, width], pixels);
        let found = self.0.run(&[("pixels", input)]).expect("a score");
        let right = |attribute: &str| {
            let output = self.0.output_names().position(|name| name == attribute);
            let logits = found[output.expect("an attribute")].as_f32().expect("logits");
            let best =
                logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("classes").0;
            prompts()["classes"][attribute][best] == labels[attribute]
        };
        ATTRIBUTES.map(right)
    }
}
