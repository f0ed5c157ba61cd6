//! Token ids of prompts to hidden states and pooled embeddings.

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::exactly;
use crate::{
    package::Package,
    session::{Input, Session, Tensor},
};

/// What the text encoder makes of prompts.
pub(crate) struct Text {
    /// `[prompts, 77, width]`, the last hidden layer but one.
    pub(crate) hidden: Tensor,
    /// `[prompts, pooled width]`.
    pub(crate) pooled: Tensor,
}

/// The text encoder, loaded.
pub(crate) struct TextEncoder {
    session: Session,
}

impl TextEncoder {
    pub(crate) fn load(package: &Package) -> Result<Self> {
        Ok(Self { session: package.load(Stage::TextEncoder, false)? })
    }

    /// Encodes prompts, each as many ids as the others, in one run.
    ///
    /// # Errors
    ///
    /// `Runtime` if the graph fails.
    pub(crate) fn encode(&mut self, prompts: &[Vec<u32>]) -> Result<Text> {
        let length = prompts.first().map_or(0, Vec::len);
        if length == 0 || prompts.iter().any(|prompt| prompt.len() != length) {
            let detail = "expected prompts of one length above 0";
            return Err(Error::new(ErrorKind::BadRequest, "input_ids", detail));
        }
        let ids: Vec<i64> = prompts.iter().flatten().map(|&id| id.into()).collect();
        let outputs = self.session.run(&[("input_ids", Input::I64(&[prompts.len(), length], &ids))])?;
        let [hidden, pooled] = exactly("text_encoder", outputs)?;
        Ok(Text { hidden, pooled })
    }
}
