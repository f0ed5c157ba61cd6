//! Token ids of prompts to hidden states and pooled embeddings.

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{Network, outputs::exactly};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
};

/// What the text encoder makes of prompts.
pub struct Text {
    /// `[prompts, 77, width]`, the last hidden layer but one.
    pub hidden: Tensor,
    /// `[prompts, pooled width]`.
    pub pooled: Tensor,
}

impl Text {
    /// The texts one after another, as if their prompts had been encoded together.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if they are of different sizes.
    pub fn join<'a>(texts: impl Iterator<Item = &'a Self> + Clone) -> Result<Self> {
        let join = |name: &str, of: fn(&Self) -> &Tensor| {
            let mut values = Vec::new();
            texts.clone().try_for_each(|text| {
                of(text).as_f32().map(|part| values.extend_from_slice(part))
            })?;
            let count = texts.clone().map(|text| of(text).shape()[0]).sum();
            let row =
                texts.clone().next().map(|text| of(text).shape()[1..].to_vec()).unwrap_or_default();
            Tensor::f32(name, &[&[count], &row[..]].concat(), values)
        };
        Ok(Self {
            hidden: join("hidden", |text| &text.hidden)?,
            pooled: join("pooled", |text| &text.pooled)?,
        })
    }
}

/// The text encoder, loaded.
pub struct TextEncoder {
    session: Session,
}

impl Network for TextEncoder {
    const STAGE: Stage = Stage::TextEncoder;

    fn of(_package: &Package, session: Session) -> Result<Self> {
        Ok(Self { session })
    }

    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl TextEncoder {
    /// Encodes prompts, each as many ids as the others, in one run.
    ///
    /// # Errors
    ///
    /// `EngineFailed` if the graph fails.
    pub fn encode(&mut self, prompts: &[Vec<u32>]) -> Result<Text> {
        let length = prompts.first().map_or(0, Vec::len);
        if length == 0 || prompts.iter().any(|prompt| prompt.len() != length) {
            let detail = "expected prompts of one length above 0";
            return Err(Error::new(ErrorKind::BadRequest, "input_ids", detail));
        }
        let ids: Vec<i64> = prompts.iter().flatten().map(|&id| id.into()).collect();
        let outputs =
            self.session.run(&[("input_ids", Input::I64(&[prompts.len(), length], &ids))])?;
        let [hidden, pooled] = exactly("text_encoder", outputs)?;
        Ok(Text { hidden, pooled })
    }
}
