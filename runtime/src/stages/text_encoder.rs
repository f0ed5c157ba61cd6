//! Token ids of prompts to hidden states and pooled embeddings.

use pocketmuse_package::{Error, ErrorKind, Result, Stage};

use super::{Network, outputs::exactly};
use crate::{
    engine::session::{Input, Session, Tensor},
    package::Package,
};

/// The input that says where a prompt ends.
const POSITION: &str = "position";

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
    /// The id at which a prompt ends, if the graph has to be told where that is. It then takes one
    /// prompt at once.
    end: Option<u32>,
}

impl Network for TextEncoder {
    const STAGE: Stage = Stage::TextEncoder;

    fn of(package: &Package, session: Session) -> Result<Self> {
        let is_told = package.takes(Self::STAGE, POSITION)?;
        Ok(Self { session, end: is_told.then_some(package.manifest().tokenizer.eos) })
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
        let Some(end) = self.end else { return self.run(prompts, None) };
        let end_of = |prompt: &[u32]| prompt.iter().position(|id| *id == end).unwrap_or(length - 1);
        let texts = prompts
            .iter()
            .map(|prompt| self.run(std::slice::from_ref(prompt), Some(end_of(prompt) as i64)));
        let mut texts = texts.collect::<Result<Vec<_>>>()?;
        if let [_] = texts[..] { Ok(texts.remove(0)) } else { Text::join(texts.iter()) }
    }

    /// Tapped values of the last run.
    #[cfg(feature = "measure")]
    pub fn taps(&self) -> &std::collections::BTreeMap<String, Tensor> {
        self.session.taps()
    }

    /// Runs the graph; `position` is where the prompts end, if it is to be told.
    fn run(&mut self, prompts: &[Vec<u32>], position: Option<i64>) -> Result<Text> {
        let length = prompts.first().map_or(0, Vec::len);
        let ids: Vec<i64> = prompts.iter().flatten().map(|&id| id.into()).collect();
        let shape = [prompts.len(), length];
        let mut inputs = vec![("input_ids", Input::I64(&shape, &ids))];
        let position = position.map(|position| [position]);
        inputs.extend(position.iter().map(|at| (POSITION, Input::I64(&[1], at))));
        let [hidden, pooled] = exactly("text_encoder", self.session.run(&inputs)?)?;
        Ok(Text { hidden: hidden.to_f32()?, pooled: pooled.to_f32()? })
    }
}
