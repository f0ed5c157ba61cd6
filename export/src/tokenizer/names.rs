//! The tokens around a prompt: what they are called, and their ids.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::json::{not_json, parse};
use crate::error::{Result, bad_checkpoint};

/// CLIP's token before a prompt, where the configuration names none.
const BOS: &str = "<|startoftext|>";
/// CLIP's token after a prompt, where the configuration names none.
const EOS: &str = "<|endoftext|>";
/// The ids before a prompt, after it, and of padding.
///
/// The tokens are named by `tokenizer_config.json`, else by `special_tokens_map.json`; where
/// neither does, CLIP's begin and end are taken and padding is the end token.
///
/// # Errors
///
/// `BadCheckpoint` if one of the texts is not in its format or names a token that the tokenizer
/// lacks.
pub(super) fn special_ids(
    tokenizer_json: &str,
    tokenizer_config: Option<&str>,
    special_tokens_map: Option<&str>,
) -> Result<[u32; 3]> {
    let vocab = all_tokens(tokenizer_json)?;
    let names = Names::read(&[
        ("tokenizer_config.json", tokenizer_config),
        ("special_tokens_map.json", special_tokens_map),
    ])?;
    let id = |key: &str, name: &str| {
        let missing = || {
            let detail = format!("expected {key} {name:?} in the vocabulary, found no such token");
            bad_checkpoint("tokenizer.json", detail)
        };
        vocab.get(name).copied().ok_or_else(missing)
    };
    let pad = names.get("pad_token").unwrap_or(names.eos());
    Ok([id("bos_token", names.bos())?, id("eos_token", names.eos())?, id("pad_token", pad)?])
}

/// The largest id that a `tokenizer.json` can give.
///
/// # Errors
///
/// `BadCheckpoint` if it is not one, or has no tokens.
pub(super) fn largest_id(tokenizer_json: &str) -> Result<u32> {
    let tokens = all_tokens(tokenizer_json)?;
    tokens
        .into_values()
        .max()
        .ok_or_else(|| bad_checkpoint("tokenizer.json", "expected tokens, found none"))
}

/// The names of special tokens, from the first file that has each.
pub(super) struct Names(Vec<(&'static str, Value)>);

impl Names {
    pub(super) fn read(files: &[(&'static str, Option<&str>)]) -> Result<Self> {
        let given = files.iter().filter_map(|(file, text)| text.map(|text| (*file, text)));
        let mut names =
            Self(given.map(|(file, text)| Ok((file, parse(file, text)?))).collect::<Result<_>>()?);
        for (file, values) in &mut names.0 {
            let object = values
                .as_object_mut()
                .ok_or_else(|| bad_checkpoint(*file, "expected an object"))?;
            for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
                let Some(value) = object.get_mut(key).filter(|value| !value.is_null()) else {
                    continue;
                };
                let name =
                    value.get("content").unwrap_or(value).as_str().filter(|name| !name.is_empty());
                let wrong = || {
                    bad_checkpoint(
                        format!("{file}: {key}"),
                        format!("expected a token, found {value}"),
                    )
                };
                *value = Value::from(name.ok_or_else(wrong)?);
            }
        }
        Ok(names)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(_, values)| values[key].as_str())
    }

    pub(super) fn bos(&self) -> &str {
        self.get("bos_token").unwrap_or(BOS)
    }

    pub(super) fn eos(&self) -> &str {
        self.get("eos_token").unwrap_or(EOS)
    }
}

/// What of a `tokenizer.json` says which tokens there are.
#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: BTreeMap<String, u32>,
}

impl Tokens {
    fn read(tokenizer_json: &str) -> Result<Self> {
        serde_json::from_str(tokenizer_json).map_err(|error| not_json("tokenizer.json", &error))
    }
}

/// Every token of a `tokenizer.json` with its id.
pub(super) fn all_tokens(tokenizer_json: &str) -> Result<BTreeMap<String, u32>> {
    let Tokens { added_tokens, model } = Tokens::read(tokenizer_json)?;
    let mut tokens = model.vocab;
    tokens.extend(added_tokens.into_iter().map(|token| (token.content, token.id)));
    Ok(tokens)
}

/// The id that the tokenizer library gives the next token that is added to a `tokenizer.json`.
pub(super) fn next_id(tokenizer_json: &str) -> Result<u32> {
    let Tokens { added_tokens, model } = Tokens::read(tokenizer_json)?;
    let size = model.vocab.len() as u32;
    let largest = added_tokens.iter().map(|token| token.id).max();
    Ok(largest.filter(|id| *id >= size).map_or(size, |id| id.saturating_add(1)))
}
