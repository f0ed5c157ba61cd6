//! The tokenizer of a checkpoint becomes one `tokenizer.json`, and the ids of the tokens around a
//! prompt. Knows the formats, not the library that reads them.

mod added;
mod clip;
mod json;
mod names;

use crate::{
    checkpoint::Checkpoint,
    error::{Error, Result, bad_checkpoint},
    models::config::Configs,
};

/// A checkpoint's tokenizer.
pub(crate) struct Tokenizer {
    /// `tokenizer.json`.
    pub(crate) json: String,
    /// The id before a prompt.
    pub(crate) bos: u32,
    /// The id after a prompt.
    pub(crate) eos: u32,
    /// The id that fills up.
    pub(crate) pad: u32,
}

impl Tokenizer {
    /// Reads the tokenizer, from `tokenizer.json` or from a vocabulary with its merges.
    ///
    /// # Errors
    ///
    /// `BadCheckpoint` if it is none, or has ids that the text encoder has not.
    pub(crate) fn read(checkpoint: &Checkpoint, configs: &Configs) -> Result<Self> {
        let at = |error: Error| error.within(checkpoint.root().join("tokenizer").display());
        let config = checkpoint.optional_text("tokenizer/tokenizer_config.json")?;
        let special = checkpoint.optional_text("tokenizer/special_tokens_map.json")?;
        let json = match checkpoint.optional_text("tokenizer/tokenizer.json")? {
            Some(json) => json,
            None => {
                let vocab = checkpoint.text("tokenizer/vocab.json")?;
                let merges = checkpoint.text("tokenizer/merges.txt")?;
                clip::to_json(&vocab, &merges, config.as_deref()).map_err(at)?
            }
        };
        let added = checkpoint.optional_text("tokenizer/added_tokens.json")?;
        let files = added::Files {
            config: config.as_deref(),
            added: added.as_deref(),
            special: special.as_deref(),
        };
        let json = added::with_added(json, files).map_err(at)?;
        let [bos, eos, pad] =
            names::special_ids(&json, config.as_deref(), special.as_deref()).map_err(at)?;
        let largest = names::largest_id(&json).map_err(at)?;
        if largest as usize >= configs.text.vocab_size {
            let expected = format!(
                "expected ids below vocab_size {} of the text encoder, found {largest}",
                configs.text.vocab_size
            );
            return Err(at(bad_checkpoint("vocabulary", expected)));
        }
        Ok(Self { json, bos, eos, pad })
    }
}
