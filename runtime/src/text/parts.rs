//! Which parts a tokenizer may be made of: those that CLIP's is. A package is untrusted, and the
//! tokenizer library panics at some parts and grows without end at others, so the parts are looked
//! at before the library sees them.

use serde::Deserialize;

/// The most bytes of a pattern; CLIP's longest has some hundred.
const MAX_PATTERN_BYTES: usize = 4096;

/// The most bytes that a match is replaced with; CLIP's is a space.
const MAX_CONTENT_BYTES: usize = 16;

const NORMALIZERS: [&str; 4] = ["Sequence", "NFC", "Replace", "Lowercase"];
const PRE_TOKENIZERS: [&str; 3] = ["Sequence", "Split", "ByteLevel"];
const POST_PROCESSORS: [&str; 3] = ["RobertaProcessing", "TemplateProcessing", "ByteLevel"];
const DECODERS: [&str; 1] = ["ByteLevel"];

/// The parts of a `tokenizer.json`.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Part>,
    pre_tokenizer: Option<Part>,
    post_processor: Option<Part>,
    decoder: Option<Part>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A part, and those that it is made of.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, alias = "pretokenizers")]
    normalizers: Vec<Part>,
    pattern: Option<Pattern>,
    content: Option<String>,
}

#[derive(Deserialize)]
enum Pattern {
    String(String),
    Regex(String),
}

/// Looks at the parts of a `tokenizer.json`.
///
/// # Errors
///
/// A sentence: what was found that is no JSON, or no part of CLIP's tokenizer.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    let parts: Parts = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match parts.model.kind.as_deref() {
        None | Some("BPE") => {}
        Some(other) => return Err(format!("the model {other:?}, where CLIP has BPE")),
    }
    for (part, name, known) in [
        (&parts.normalizer, "normalizer", &NORMALIZERS[..]),
        (&parts.pre_tokenizer, "pre_tokenizer", &PRE_TOKENIZERS),
        (&parts.post_processor, "post_processor", &POST_PROCESSORS),
        (&parts.decoder, "decoder", &DECODERS),
    ] {
        if let Some(part) = part {
            part.check(name, known)?;
        }
    }
    Ok(())
}

impl Part {
    fn check(&self, name: &str, known: &[&str]) -> Result<(), String> {
        if !known.contains(&self.kind.as_str()) {
            return Err(format!("the {name} {:?}, where CLIP has {}", self.kind, known.join(", ")));
        }
        if self.content.as_ref().is_some_and(|content| content.len() > MAX_CONTENT_BYTES) {
            return Err(format!(
                "a {name} that writes more than {MAX_CONTENT_BYTES} bytes a match"
            ));
        }
        if let Some(Pattern::String(pattern) | Pattern::Regex(pattern)) = &self.pattern
            && pattern.len() > MAX_PATTERN_BYTES
        {
            return Err(format!("a {name} with a pattern of more than {MAX_PATTERN_BYTES} bytes"));
        }
        self.normalizers.iter().try_for_each(|part| part.check(name, known))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(part: &str) -> String {
        format!(r#"{{"model": {{"type": "BPE", "vocab": {{}}, "merges": []}}, {part}}}"#)
    }

    #[test]
    fn other_parts_than_clips_are_named() {
        for (part, found) in [
            (r#""decoder": {"type": "CTC"}"#, "the decoder \"CTC\", where CLIP has ByteLevel"),
            (
                r#""normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled"}]}"#,
                "the normalizer \"Precompiled\", where CLIP has Sequence, NFC, Replace, Lowercase",
            ),
            (
                r#""pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace"}]}"#,
                "the pre_tokenizer \"Metaspace\", where CLIP has Sequence, Split, ByteLevel",
            ),
            (
                r#""normalizer": {"type": "Replace", "pattern": {"String": "a"},
                   "content": "aaaaaaaaaaaaaaaaa"}"#,
                "a normalizer that writes more than 16 bytes a match",
            ),
            (r#""decoder": {"type":}"#, "expected value at line 1 column 74"),
            (r#""decoder": {}"#, "missing field `type` at line 1 column 67"),
        ] {
            assert_eq!(check(with(part).as_bytes()), Err(found.to_owned()), "{part}");
        }
        let model = r#"{"model": {"type": "Unigram", "vocab": []}}"#;
        assert_eq!(
            check(model.as_bytes()),
            Err("the model \"Unigram\", where CLIP has BPE".to_owned())
        );
    }

    #[test]
    fn a_long_pattern_is_refused() {
        let pattern = "a".repeat(MAX_PATTERN_BYTES + 1);
        let part = format!(
            r#""normalizer": {{"type": "Replace", "pattern": {{"Regex": "{pattern}"}}, "content": ""}}"#
        );
        assert!(check(with(&part).as_bytes()).is_err_and(|found| found.contains("a pattern of")));
    }

    proptest! {
        #[test]
        fn never_panics(json in "[\\[\\]{}:,\"a-z]{0,60}") {
            let _ = check(json.as_bytes());
        }
    }
}
