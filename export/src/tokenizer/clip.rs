//! `vocab.json` and `merges.txt` of a CLIP tokenizer become a `tokenizer.json`. Knows the formats,
//! not the library that reads them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{json::not_json, names::Names};
use crate::error::{Result, bad_checkpoint};

/// What the end of a word looks like in the vocabulary.
const END_OF_WORD: &str = "</w>";

/// Makes a `tokenizer.json` of a CLIP tokenizer from the texts of `vocab.json`, `merges.txt` and,
/// if there is one, `tokenizer_config.json`.
///
/// # Errors
///
/// `BadCheckpoint` if one is not in its format, two tokens share an id, a merge is of unknown
/// tokens or makes one, or the tokens around a prompt are not in the vocabulary.
pub(super) fn to_json(vocab: &str, merges: &str, config: Option<&str>) -> Result<String> {
    let vocab = parse_vocab(vocab)?;
    let merges = parse_merges(merges, &vocab)?;
    let names = Names::read(&[("tokenizer_config.json", config)])?;
    let (bos, eos) = (names.bos(), names.eos());
    let (bos_id, eos_id) = (id_in(&vocab, bos)?, id_in(&vocab, eos)?);
    let unknown = names.get("unk_token").unwrap_or(eos);
    id_in(&vocab, unknown)?;
    // The end token is matched before the text is normalized, the begin token after, as the
    // reference does.
    let mut added = vec![added_token(bos, bos_id, true)];
    if eos != bos {
        added.push(added_token(eos, eos_id, false));
    }
    added.sort_by_key(|token| token["id"].as_u64());
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            {
                "type": "Split",
                "pattern": { "Regex": words(bos, eos) },
                "behavior": "Removed",
                "invert": true,
            },
            byte_level(false),
        ] },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [eos, eos_id],
            "cls": [bos, bos_id],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    });
    Ok(serde_json::to_string(&tokenizer).expect("plain data always serializes"))
}

fn parse_vocab(text: &str) -> Result<BTreeMap<String, u32>> {
    let vocab: BTreeMap<String, u32> =
        serde_json::from_str(text).map_err(|error| not_json("vocab.json", &error))?;
    let mut tokens = BTreeMap::new();
    for (token, id) in &vocab {
        if let Some(other) = tokens.insert(*id, token) {
            let detail =
                format!("expected a token for each id, found {other:?} and {token:?} with id {id}");
            return Err(bad_checkpoint("vocab.json", detail));
        }
    }
    Ok(vocab)
}

/// The pairs, the most frequent first. The first line may be a comment with a version.
fn parse_merges<'a>(
    text: &'a str,
    vocab: &BTreeMap<String, u32>,
) -> Result<Vec<(&'a str, &'a str)>> {
    let mut merges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || index == 0 && line.starts_with("#version") {
            continue;
        }
        let wrong =
            |detail: String| bad_checkpoint(format!("merges.txt: line {}", index + 1), detail);
        let pair =
            line.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        let Some((left, right)) = pair.filter(|(_, right)| !right.contains(' ')) else {
            return Err(wrong(format!("expected two tokens with a space between, found {line:?}")));
        };
        let merged = format!("{left}{right}");
        if let Some(token) =
            [left, right, &merged].into_iter().find(|token| !vocab.contains_key(*token))
        {
            return Err(wrong(format!("expected tokens of vocab.json, found {token:?}")));
        }
        merges.push((left, right));
    }
    Ok(merges)
}

fn id_in(vocab: &BTreeMap<String, u32>, token: &str) -> Result<u32> {
    let missing =
        || bad_checkpoint("vocab.json", format!("expected a token {token:?}, found none"));
    vocab.get(token).copied().ok_or_else(missing)
}

fn added_token(content: &str, id: u32, normalized: bool) -> Value {
    json!({
        "id": id,
        "content": content,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": normalized,
        "special": true,
    })
}

fn byte_level(add_prefix_space: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": true,
        "use_regex": true,
    })
}

/// CLIP's words: the special tokens, English endings, runs of letters, single digits, runs of
/// anything else.
fn words(bos: &str, eos: &str) -> String {
    format!(
        r"{}|{}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
        literal(bos),
        literal(eos)
    )
}

/// A regular expression for exactly this text.
fn literal(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use pocketmuse_package::ErrorKind;

    use super::{
        super::names::{largest_id, special_ids},
        *,
    };

    const VOCAB: &str =
        r#"{"a": 0, "b</w>": 1, "ab</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4, "!": 5}"#;
    const MERGES: &str = "#version: 0.2\na b</w>\n";

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).expect(path)
    }

    #[test]
    fn makes_what_the_reference_makes_of_the_same_files() {
        let [vocab, merges, config, map] =
            ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]
                .map(|name| read(&format!("models/tiny-world/tokenizer/{name}")));
        let expected = read("tests/fixtures/tiny-256/tokenizer/tokenizer.json");
        let found = to_json(&vocab, &merges, Some(&config)).expect("a good tokenizer");
        let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert!(value(&found) == value(&expected), "{found}");
        assert_eq!(special_ids(&found, Some(&config), Some(&map)).expect("named"), [710, 711, 711]);
        assert_eq!(largest_id(&found).expect("a vocabulary"), 711);
    }

    #[test]
    fn special_tokens_are_found_where_they_are_named() {
        let json = to_json(VOCAB, MERGES, None).expect("a good tokenizer");
        for (config, map, expected) in [
            (None, None, [3, 4, 4]),
            (Some(r#"{"pad_token": "!"}"#), Some(r#"{"pad_token": "a"}"#), [3, 4, 5]),
            (Some(r#"{"pad_token": null}"#), Some(r#"{"pad_token": {"content": "!"}}"#), [3, 4, 5]),
            (Some("{}"), Some(r#"{"bos_token": "a", "eos_token": "!"}"#), [0, 5, 5]),
        ] {
            assert_eq!(
                special_ids(&json, config, map).expect("named"),
                expected,
                "{config:?} {map:?}"
            );
        }
    }

    #[test]
    fn other_special_tokens_are_matched_literally() {
        let vocab = VOCAB.replace("<|startoftext|>", "[b]");
        let config = r#"{"bos_token": {"content": "[b]"}}"#;
        let json = to_json(&vocab, MERGES, Some(config)).expect("a good tokenizer");
        assert!(json.contains(r#"\\[b\\]|<\\|endoftext\\|>|'s"#), "{json}");
        assert_eq!(special_ids(&json, Some(config), None).expect("named"), [3, 4, 4]);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases = [
            ("{", MERGES, None, "vocab.json: expected JSON of a tokenizer, found: EOF"),
            ("[]", MERGES, None, "vocab.json: expected JSON of a tokenizer, found: invalid type"),
            (
                r#"{"a": -1}"#,
                MERGES,
                None,
                "vocab.json: expected JSON of a tokenizer, found: invalid value",
            ),
            (
                r#"{"a": 1, "b": 1}"#,
                MERGES,
                None,
                "vocab.json: expected a token for each id, found \"a\" and \"b\" with id 1",
            ),
            (
                r#"{"a": 0}"#,
                "",
                None,
                "vocab.json: expected a token \"<|startoftext|>\", found none",
            ),
            (VOCAB, "a c", None, "merges.txt: line 1: expected tokens of vocab.json, found \"c\""),
            (
                VOCAB,
                "#version\nb</w> a",
                None,
                "merges.txt: line 2: expected tokens of vocab.json, found \"b</w>a\"",
            ),
            (
                VOCAB,
                "a",
                None,
                "merges.txt: line 1: expected two tokens with a space between, found \"a\"",
            ),
            (
                VOCAB,
                "a b c",
                None,
                "merges.txt: line 1: expected two tokens with a space between, found \"a b c\"",
            ),
            (VOCAB, "", Some("3"), "tokenizer_config.json: expected an object"),
            (
                VOCAB,
                "",
                Some(r#"{"bos_token": 3}"#),
                "tokenizer_config.json: bos_token: expected a token, found 3",
            ),
            (
                VOCAB,
                "",
                Some(r#"{"unk_token": "x"}"#),
                "vocab.json: expected a token \"x\", found none",
            ),
        ];
        for (vocab, merges, config, expected) in cases {
            let error = to_json(vocab, merges, config).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::BadCheckpoint);
            assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
        }
    }

    #[test]
    fn says_which_tokenizer_json_is_wrong() {
        let json = to_json(VOCAB, MERGES, None).expect("a good tokenizer");
        let cases = [
            (
                "{}",
                None,
                "tokenizer.json: expected JSON of a tokenizer, found: missing field `model`",
            ),
            (
                r#"{"model": {"vocab": []}}"#,
                None,
                "tokenizer.json: expected JSON of a tokenizer, found: invalid type",
            ),
            (
                &json,
                Some(r#"{"pad_token": "x"}"#),
                "tokenizer.json: expected pad_token \"x\" in the vocabulary",
            ),
        ];
        for (json, config, expected) in cases {
            let error = special_ids(json, config, None).expect_err(expected);
            assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
        }
        assert!(largest_id(r#"{"model": {"vocab": {}}}"#).is_err());
    }
}
