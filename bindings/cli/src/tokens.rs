//! `--save-tokens`: the tokens after every step, as JSON.

use std::path::Path;

use pocketmuse::{Request, Step};
use pocketmuse_package::{Result, files};
use serde::Serialize;

/// The tokens of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TokenLog {
    /// The id that stands for "still masked".
    mask_token_id: u32,
    /// Rows of tokens in an image.
    height: usize,
    /// Tokens in a row.
    width: usize,
    /// `[step][image][row-major token]`.
    steps: Vec<Vec<Vec<u32>>>,
}

impl TokenLog {
    /// Keeps the tokens after `step`.
    pub(crate) fn add(&mut self, step: &Step<'_>, mask_token_id: u32) {
        (self.mask_token_id, self.height, self.width) = (mask_token_id, step.height, step.width);
        let image = |tokens: &[Option<u32>]| {
            tokens.iter().map(|token| token.unwrap_or(mask_token_id)).collect()
        };
        self.steps.push(step.tokens.chunks((step.height * step.width).max(1)).map(image).collect());
    }

    /// Writes them with the request that they belong to.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be written.
    pub(crate) fn write(&self, path: &Path, request: &Request) -> Result<()> {
        #[derive(Serialize)]
        struct Log<'a> {
            request: &'a Request,
            #[serde(flatten)]
            tokens: &'a TokenLog,
        }
        let log = Log { request, tokens: self };
        files::write(path, |out| serde_json::to_writer(out, &log).map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse::{Rng, RngKind};

    use super::*;

    #[test]
    fn is_steps_of_images_of_tokens() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        let tokens = [Some(3), None, None, Some(7)];
        let (rng, request) =
            (&Rng::new(RngKind::Own, 4), &Request { seed: 4, ..Request::default() });
        let (images, height, width) = (2, 1, 2);
        let step = Step {
            step: 0,
            num_inference_steps: 1,
            tokens: &tokens,
            guess: &tokens,
            probabilities: &[1.0, f32::MAX, f32::MAX, 1.0],
            images,
            height,
            width,
            rng,
            request,
            source: None,
            video: None,
            providers: &Default::default(),
        };
        let mut log = TokenLog::default();
        log.add(&step, 9);
        log.write(&path, request).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["steps"], serde_json::json!([[[3, 9], [9, 7]]]));
        assert_eq!((&json["mask_token_id"], &json["request"]["seed"]), (&9.into(), &4.into()));
    }
}
