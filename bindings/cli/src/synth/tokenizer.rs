//! A working CLIP tokenizer of any size, built by a rule instead of from a text:
//! every word of two and of three letters, the common letters first, then some of
//! four. It splits any prompt; it is not the released models' tokenizer.

use pocketmuse_package::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// Letters of English, the most common first.
const LETTERS: &str = "etaoinshrdlcumwfgypbvkjxqz";

/// Marks the last token of a word.
const END: &str = "</w>";

/// A vocabulary and its merges.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// Every token, its id is its index: 256 bytes, 256 bytes that end a word, the merges'
    /// products, start, end.
    pub tokens: Vec<String>,
    /// Pairs of tokens, the first to apply first.
    pub merges: Vec<(String, String)>,
}

impl Tokenizer {
    /// A tokenizer of `entries` tokens.
    ///
    /// # Errors
    ///
    /// `BadRequest` if `entries` is not in `514..=950_970`.
    pub fn build(entries: usize) -> Result<Self> {
        let wanted = entries.checked_sub(514);
        let merges: Vec<_> =
            wanted.map(|wanted| merges().take(wanted).collect()).unwrap_or_default();
        if wanted != Some(merges.len()) {
            let detail = format!("expected 514 to 950970 entries, found {entries}");
            return Err(Error::new(ErrorKind::BadRequest, "tokenizer", detail));
        }
        let bytes = byte_letters();
        let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
        tokens.extend(bytes.iter().map(|letter| format!("{letter}{END}")));
        tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
        tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(str::to_owned));
        Ok(Self { tokens, merges })
    }

    /// `vocab.json`.
    pub fn vocab_json(&self) -> String {
        let entries =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), Value::from(id)));
        Value::Object(entries.collect::<Map<_, _>>()).to_string()
    }

    /// `merges.txt`.
    pub fn merges_txt(&self) -> String {
        let lines = self.merges.iter().map(|(left, right)| format!("{left} {right}\n"));
        std::iter::once("#version: 0.2\n".to_owned()).chain(lines).collect()
    }
}

/// `tokenizer_config.json`.
pub(super) fn config() -> Value {
    json!({
        "add_prefix_space": false,
        "bos_token": "<|startoftext|>",
        "clean_up_tokenization_spaces": true,
        "do_lower_case": true,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": "<|endoftext|>",
    })
}

/// `special_tokens_map.json`.
pub(super) fn special_tokens_map() -> Value {
    let token = |content: &str| {
        json!({
            "content": content,
            "lstrip": false,
            "normalized": true,
            "rstrip": false,
            "single_word": false,
        })
    };
    json!({
        "bos_token": token("<|startoftext|>"),
        "eos_token": token("<|endoftext|>"),
        "pad_token": "<|endoftext|>",
        "unk_token": token("<|endoftext|>"),
    })
}

/// Each of the 256 bytes as a printable letter, in the order of CLIP's vocabulary: bytes that are
/// printable stand for themselves and come first, the others follow as the letters from U+0100 on.
fn byte_letters() -> Vec<char> {
    let printable = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff).map(char::from);
    printable.chain(('\u{100}'..).take(68)).collect()
}

/// All merges of the rule. Every product is new, since a string of letters is made in one way only:
/// from all of its letters but the last and its last, which is the end of the word or not.
fn merges() -> impl Iterator<Item = (String, String)> {
    let lists = (2..=4).flat_map(|length| ["", END].map(|end| (length, end)));
    lists.flat_map(|(length, end)| {
        (0..LETTERS.len().pow(length)).map(move |number| {
            let mut letters = digits(number, length);
            let last = letters.pop().expect("a word has two letters or more");
            (letters, format!("{last}{end}"))
        })
    })
}

/// The word of `length` letters that is `number` in their order.
fn digits(number: usize, length: u32) -> String {
    let letters = (0..length).rev().map(|place| number / LETTERS.len().pow(place) % LETTERS.len());
    letters.map(|digit| char::from(LETTERS.as_bytes()[digit])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_merge_joins_known_tokens_and_makes_a_new_one() {
        for entries in [514, 714, 49_408] {
            let tokenizer = Tokenizer::build(entries).expect("built");
            assert_eq!((tokenizer.tokens.len(), tokenizer.merges.len()), (entries, entries - 514));
            let mut known: HashSet<&str> =
                tokenizer.tokens[..512].iter().map(String::as_str).collect();
            assert_eq!(known.len(), 512);
            for ((left, right), product) in tokenizer.merges.iter().zip(&tokenizer.tokens[512..]) {
                assert!(
                    known.contains(left.as_str()) && known.contains(right.as_str()),
                    "{left} {right}"
                );
                assert_eq!(*product, format!("{left}{right}"));
                assert!(known.insert(product), "{product} twice");
            }
        }
    }

    #[test]
    fn has_the_ids_of_clip() {
        let tokenizer = Tokenizer::build(49_408).expect("built");
        let cases = [
            (0, "!"),
            (187, "ÿ"),
            (188, "Ā"),
            (255, "Ń"),
            (256, "!</w>"),
            (511, "Ń</w>"),
            (512, "ee"),
        ];
        for (id, token) in cases {
            assert_eq!(tokenizer.tokens[id], token);
        }
        assert_eq!(tokenizer.tokens[49_406..], ["<|startoftext|>", "<|endoftext|>"]);
        assert_eq!(tokenizer.merges_txt().lines().nth(1), Some("e e"));
    }

    #[test]
    fn refuses_sizes_that_the_rule_cannot_fill() {
        for entries in [0, 513, 1_000_000] {
            assert!(Tokenizer::build(entries).is_err(), "{entries}");
        }
    }

    #[test]
    fn splits_words_into_few_tokens() {
        let tokenizer = Tokenizer::build(49_408).expect("built");
        let folder = tempfile::tempdir().expect("a folder");
        let [vocab, merges] =
            ["vocab.json", "merges.txt"].map(|name| folder.path().join(name).display().to_string());
        std::fs::write(&vocab, tokenizer.vocab_json()).expect("written");
        std::fs::write(&merges, tokenizer.merges_txt()).expect("written");
        let bpe = tokenizers::models::bpe::BPE::from_file(&vocab, &merges)
            .end_of_word_suffix(END.to_owned());
        let bpe = bpe.build().expect("a tokenizer");
        let tokens = tokenizers::Model::tokenize(&bpe, "lighthouse").expect("tokens");
        let tokens: Vec<_> = tokens.into_iter().map(|token| token.value).collect();
        assert_eq!(tokens.concat(), "lighthouse</w>");
        assert!(tokens.len() <= 5, "{tokens:?}");
    }
}
