//! Tokens that were added to a vocabulary after its training, by textual inversion for instance:
//! they reach `tokenizer.json` as transformers reads them, or are refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    json::{not_json, parse},
    names::{all_tokens, next_id},
};
use crate::{
    checkpoint,
    error::{Result, bad_checkpoint},
};

/// A token of `added_tokens_decoder`, as transformers writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// The texts of the files that may add tokens.
#[derive(Clone, Copy, Default)]
pub(super) struct Files<'a> {
    /// `tokenizer_config.json`.
    pub(super) config: Option<&'a str>,
    /// `added_tokens.json`.
    pub(super) added: Option<&'a str>,
    /// `special_tokens_map.json`.
    pub(super) special: Option<&'a str>,
}

/// `tokenizer_json` with the tokens that `files` add to it; the same text if they add none.
///
/// `tokenizer_config.json` says all of them, if it does at all, else `added_tokens.json` does.
///
/// # Errors
///
/// `BadCheckpoint`, naming the token, if one is in the vocabulary under another id, if its id is
/// not the next, if the two files differ, or if a special token was not added.
pub(super) fn with_added(tokenizer_json: String, files: Files<'_>) -> Result<String> {
    let mut known = all_tokens(&tokenizer_json)?;
    let mut next = next_id(&tokenizer_json)?;
    let mut entries = Vec::new();
    for (id, token) in wanted(files)? {
        let content = &token.content;
        let wrong = |detail: String| bad_checkpoint(format!("added token {content:?}"), detail);
        match known.get(content) {
            Some(found) if *found == id => {}
            Some(found) => return Err(wrong(format!("expected id {id}, found {found}"))),
            None if content.is_empty() => {
                return Err(wrong(format!("expected a text for id {id}, found none")));
            }
            None if id != next => {
                return Err(wrong(format!("expected the next id {next}, found {id}")));
            }
            None if known.values().any(|other| *other == id) => {
                return Err(wrong(format!("expected an id of its own, found {id} of another")));
            }
            None => {
                let Added { single_word, lstrip, rstrip, normalized, special, .. } = token;
                entries.push(json!({
                    "id": id,
                    "content": content,
                    "single_word": single_word,
                    "lstrip": lstrip,
                    "rstrip": rstrip,
                    "normalized": normalized,
                    "special": special,
                }));
                known.insert(content.clone(), id);
                next = next.saturating_add(1);
            }
        }
    }
    if let Some(name) = special_names(files)?.into_iter().find(|name| !known.contains_key(name)) {
        let detail = "expected an id for this special token, found none";
        return Err(bad_checkpoint(format!("added token {name:?}"), detail));
    }
    if entries.is_empty() {
        return Ok(tokenizer_json);
    }
    let mut tokenizer: Value = parse("tokenizer.json", &tokenizer_json)?;
    match &mut tokenizer["added_tokens"] {
        Value::Array(known) => known.extend(entries),
        missing => *missing = Value::Array(entries),
    }
    Ok(serde_json::to_string(&tokenizer).expect("plain data always serializes"))
}

/// The tokens of the files by their ids.
fn wanted(files: Files<'_>) -> Result<BTreeMap<u32, Added>> {
    let plain: BTreeMap<String, u32> = match files.added {
        Some(text) => {
            checkpoint::from_json(text).map_err(|error| not_json("added_tokens.json", &error))?
        }
        None => BTreeMap::new(),
    };
    let Some(decoder) = decoder(files.config)? else {
        let special = special_names(files)?;
        let mut tokens = BTreeMap::new();
        for (content, id) in plain {
            let special = special.contains(&content);
            let (single_word, lstrip, rstrip) = (false, false, false);
            let name = content.clone();
            let token =
                Added { content, single_word, lstrip, rstrip, normalized: !special, special };
            if let Some(other) = tokens.insert(id, token) {
                let detail =
                    format!("expected an id of its own, found {id} of {:?}", other.content);
                return Err(bad_checkpoint(format!("added token {name:?}"), detail));
            }
        }
        return Ok(tokens);
    };
    let differs =
        |(content, id): &(&String, &u32)| decoder.get(id).is_none_or(|t| t.content != **content);
    if let Some((content, id)) = plain.iter().find(differs) {
        let detail = format!("expected it in added_tokens_decoder, too, found none with id {id}");
        return Err(bad_checkpoint(format!("added_tokens.json: added token {content:?}"), detail));
    }
    Ok(decoder)
}

/// `added_tokens_decoder` of `tokenizer_config.json`.
fn decoder(config: Option<&str>) -> Result<Option<BTreeMap<u32, Added>>> {
    #[derive(Deserialize)]
    struct Config {
        added_tokens_decoder: Option<BTreeMap<u32, Added>>,
    }
    let Some(text) = config else { return Ok(None) };
    let config: Config =
        checkpoint::from_json(text).map_err(|error| not_json("tokenizer_config.json", &error))?;
    Ok(config.added_tokens_decoder)
}

/// `additional_special_tokens` of the files that may have them, each a text or an object.
fn special_names(files: Files<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (file, text) in
        [("tokenizer_config.json", files.config), ("special_tokens_map.json", files.special)]
    {
        let Some(text) = text else { continue };
        let value = parse(file, text)?;
        let listed = value["additional_special_tokens"].as_array().into_iter().flatten();
        let content =
            |token: &Value| token.get("content").unwrap_or(token).as_str().map(str::to_owned);
        names.extend(listed.filter_map(content));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKENIZER: &str = r#"{"added_tokens": [{"id": 2, "content": "<end>"}],
        "model": {"vocab": {"a": 0, "b": 1, "<end>": 2}}}"#;

    fn found(files: Files<'_>) -> Result<BTreeMap<String, u32>> {
        all_tokens(&with_added(TOKENIZER.to_owned(), files)?)
    }

    #[test]
    fn both_files_add_tokens() {
        let decoder = r#"{"model_max_length": NaN, "added_tokens_decoder": {
            "3": {"content": "<x>", "special": false}, "2": {"content": "<end>"}}}"#;
        let map = r#"{"additional_special_tokens": ["<x>", {"content": "a"}]}"#;
        let cases = [
            Files { config: Some(decoder), ..Files::default() },
            Files { config: Some(decoder), added: Some(r#"{"<x>": 3}"#), special: Some(map) },
            Files { config: Some("{}"), added: Some(r#"{"<x>": 3, "b": 1}"#), special: None },
        ];
        for files in cases {
            assert_eq!(found(files).expect("added")["<x>"], 3);
        }
        let same = Files { added: Some(r#"{"a": 0}"#), ..Files::default() };
        assert_eq!(with_added(TOKENIZER.to_owned(), same).expect("there"), TOKENIZER);
    }

    #[test]
    fn flags_are_those_of_transformers() {
        let plain = |special| Files { added: Some(r#"{"<X>": 3}"#), special, config: None };
        let flags = |files| {
            let json = with_added(TOKENIZER.to_owned(), files).expect("added");
            let value: Value = serde_json::from_str(&json).expect("JSON");
            let token = &value["added_tokens"][1];
            [token["normalized"] == true, token["special"] == true]
        };
        assert_eq!(flags(plain(None)), [true, false]);
        assert_eq!(flags(plain(Some(r#"{"additional_special_tokens": ["<X>"]}"#))), [false, true]);
    }

    #[test]
    fn what_cannot_be_added_is_named() {
        let decoder = Some(r#"{"added_tokens_decoder": {"3": {"content": "<x>"}}}"#);
        let special = Some(r#"{"additional_special_tokens": ["<y>"]}"#);
        let files = Files::default();
        let cases = [
            (
                Files { added: Some(r#"{"<x>": 4}"#), ..files },
                "<x>\": expected the next id 3, found 4",
            ),
            (Files { added: Some(r#"{"a": 3}"#), ..files }, "a\": expected id 3, found 0"),
            (Files { added: Some(r#"{"": 3}"#), ..files }, "\": expected a text for id 3"),
            (
                Files { added: Some(r#"{"<x>": 3, "<y>": 3}"#), ..files },
                "<y>\": expected an id of its own",
            ),
            (
                Files { config: decoder, added: Some(r#"{"<z>": 3}"#), ..files },
                "<z>\": expected it in",
            ),
            (Files { special, ..files }, "<y>\": expected an id for this special token"),
            (Files { added: Some("[]"), ..files }, "added_tokens.json: expected JSON"),
        ];
        for (files, expected) in cases {
            let error = found(files).expect_err(expected).to_string();
            assert!(error.contains(expected), "expected {expected}, found {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(added in "\\PC{0,60}", config in "\\PC{0,60}") {
            let [config, added] = [&config, &added].map(|text| Some(text.as_str()));
            let files = Files { config, added, special: config };
            let _ = with_added(TOKENIZER.to_owned(), files);
        }

        #[test]
        fn ids_are_those_asked_for(
            tokens in proptest::collection::btree_map("[a-z<>]{1,6}", 0u32..8, 0..5),
        ) {
            let added = serde_json::to_string(&tokens).expect("JSON");
            let files = Files { added: Some(&added), ..Files::default() };
            if let Ok(found) = found(files) {
                prop_assert!(tokens.iter().all(|(token, id)| found[token] == *id));
            }
        }
    }
}
