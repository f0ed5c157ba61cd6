//! A prompt becomes token ids. The only file that names `tokenizers`.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, PoisonError},
};

use log::LevelFilter;
use pocketmuse_package::{self as package, Error, ErrorKind, Manifest, Result, files};
use serde::Serialize;

use super::parts;

/// A tokenizer file larger than this is not one; it is refused before it is parsed.
const MAX_BYTES: u64 = 64 << 20;

/// A package's tokenizer. Can be shared between threads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    max_tokens: usize,
}

/// A tokenized prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Exactly the manifest's `max_tokens` ids: begin, the prompt's, end, then padding.
    pub ids: Vec<u32>,
    /// Where in the prompt its own ids begin, in bytes: of the second of `ids` and those after it.
    pub starts: Vec<usize>,
    /// The end of the prompt that did not fit, if any.
    pub truncated: Option<String>,
}

/// A word of a prompt, or what stands between words, such as a comma.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// As it stands in the prompt.
    pub text: String,
    /// Where, in bytes.
    pub bytes: Range<usize>,
    /// Which of the prompt's [`Encoded::ids`] stand for it; none if it did not fit.
    pub tokens: Range<usize>,
    /// What the tokenizer made of it, a piece for each token, those that did not fit included.
    /// Several pieces mean that the vocabulary does not hold the word.
    pub pieces: Vec<String>,
}

impl Tokenizer {
    /// Reads the tokenizer of the package at `root`.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be read, `PackageDamaged` if it is not a tokenizer or lacks an id of the
    /// manifest.
    pub fn load(root: &Path, manifest: &Manifest) -> Result<Self> {
        let path = manifest.tokenizer.file.locate(root);
        let json = files::read_bounded(&path, MAX_BYTES, ErrorKind::PackageDamaged)?;
        Self::parse(&json, &manifest.tokenizer).map_err(|error| error.within(path.display()))
    }

    /// Parses a `tokenizer.json`. Its own truncation, padding and post-processor are not used.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if it is not a tokenizer or lacks an id of `entry`.
    pub fn parse(json: &[u8], entry: &package::Tokenizer) -> Result<Self> {
        let no_tokenizer = |found| damaged("", format!("expected a tokenizer, found: {found}"));
        parts::check(json).map_err(no_tokenizer)?;
        let mut inner = unlogged(|| guarded(|| tokenizers::Tokenizer::from_bytes(json)))?
            .map_err(|error| no_tokenizer(error.to_string()).with_source(error))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| damaged("truncation", error.to_string()).with_source(error))?;
        let &package::Tokenizer { bos, eos, pad, max_tokens, .. } = entry;
        for (name, id) in [("bos", bos), ("eos", eos), ("pad", pad)] {
            if inner.id_to_token(id).is_none() {
                return Err(damaged(name, format!("expected an id of the tokenizer, found {id}")));
            }
        }
        Ok(Self { inner, bos, eos, pad, max_tokens: (max_tokens as usize).max(2) })
    }

    fn encoding(&self, prompt: &str) -> Result<tokenizers::Encoding> {
        let failed =
            |error: tokenizers::Error| damaged("tokenizer", error.to_string()).with_source(error);
        unlogged(|| guarded(|| self.inner.encode(prompt, false)))?.map_err(failed)
    }

    /// The words of a prompt, in its order, and the ids that stand for each.
    ///
    /// # Errors
    ///
    /// As for [`Self::encode`].
    pub fn words(&self, prompt: &str) -> Result<Vec<Word>> {
        let encoding = self.encoding(prompt)?;
        let last = self.max_tokens - 1; // of the end
        let mut words: Vec<Word> = Vec::new();
        let mut of = None;
        let tokens =
            encoding.get_offsets().iter().zip(encoding.get_word_ids()).zip(encoding.get_tokens());
        for (token, (((start, end), word), piece)) in (1..).zip(tokens) {
            let known = words.last_mut().filter(|_| word.is_some() && of == *word);
            of = *word;
            let piece = prompt.get(*start..*end).map_or_else(|| piece.clone(), str::to_owned);
            match known {
                Some(word) => {
                    word.bytes.end = word.bytes.end.max(*end);
                    word.tokens.end = (token + 1).min(last);
                    word.pieces.push(piece);
                }
                None => words.push(Word {
                    text: String::new(),
                    bytes: *start..*end,
                    tokens: token.min(last)..(token + 1).min(last),
                    pieces: vec![piece],
                }),
            }
        }
        words.iter_mut().for_each(|word| {
            word.text = prompt.get(word.bytes.clone()).unwrap_or_default().trim().to_owned()
        });
        Ok(words)
    }

    /// The ids of a prompt, and what of it did not fit.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the tokenizer has no id for a part of the prompt and none for the
    /// unknown.
    pub fn encode(&self, prompt: &str) -> Result<Encoded> {
        let encoding = self.encoding(prompt)?;
        let room = self.max_tokens - 2;
        let count = encoding.len().min(room);
        let kept = &encoding.get_ids()[..count];
        let starts = encoding.get_offsets()[..count].iter().map(|(start, _)| *start).collect();
        let mut ids = Vec::with_capacity(self.max_tokens);
        ids.push(self.bos);
        ids.extend_from_slice(kept);
        ids.push(self.eos);
        ids.resize(self.max_tokens, self.pad);
        let cut = encoding.get_offsets().get(room).map(|(start, _)| *start);
        let truncated = cut.map(|start| prompt.get(start..).unwrap_or_default().trim().to_owned());
        Ok(Encoded { ids, starts, truncated })
    }
}

/// Keeps a prompt out of every log: at the level trace the tokenizer library tells each of its
/// letters. There is no switch for one library, so meanwhile the process logs at the level debug;
/// whoever changes the level in between is not overruled.
fn unlogged<T>(call: impl FnOnce() -> T) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if log::max_level() < LevelFilter::Trace {
        return call();
    }
    log::set_max_level(LevelFilter::Debug);
    let result = call();
    if log::max_level() == LevelFilter::Debug {
        log::set_max_level(LevelFilter::Trace);
    }
    result
}

/// A panic of the tokenizer library as an error: its file comes from elsewhere.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
        damaged("tokenizer", "expected a tokenizer that works, found one that its library fails at")
    })
}

fn damaged(at: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::PackageDamaged, at, detail)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use pocketmuse_package::{Digest, FileEntry};
    use serde::Deserialize;

    use super::*;

    fn fixture(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
    }

    fn entry() -> package::Tokenizer {
        let file =
            FileEntry { path: "tokenizer.json".to_owned(), bytes: 0, sha256: Digest::of(b"") };
        package::Tokenizer { file, bos: 710, eos: 711, pad: 711, max_tokens: 77 }
    }

    fn tokenizer() -> Tokenizer {
        let json = fs::read(fixture("tiny-256/tokenizer/tokenizer.json")).expect("the fixture");
        Tokenizer::parse(&json, &entry()).expect("a tokenizer")
    }

    #[test]
    fn ids_are_the_references() {
        #[derive(Deserialize)]
        struct Case {
            text: String,
            ids: Vec<u32>,
        }
        let cases = fs::read(fixture("tokenizer.json")).expect("the fixture");
        let cases: Vec<Case> = serde_json::from_slice(&cases).expect("texts and ids");
        assert!(cases.len() >= 400);
        let tokenizer = tokenizer();
        for Case { text, ids } in cases {
            assert_eq!(tokenizer.encode(&text).expect("encoded").ids, ids, "{text:?}");
        }
    }

    #[test]
    fn says_what_did_not_fit() {
        let fits = "red ".repeat(75);
        for (prompt, expected) in [
            ("", None),
            (fits.as_str(), None),
            (&format!("{fits} lighthouse"), Some("lighthouse")),
            (&format!("{fits} Ünïcode,  TWO spaces "), Some("Ünïcode,  TWO spaces")),
            (&format!("{} \u{1F680} sea", "red ".repeat(74)), Some("\u{1F680} sea")),
        ] {
            let encoded = tokenizer().encode(prompt).expect("encoded");
            assert_eq!(encoded.truncated.as_deref(), expected, "{prompt:?}");
            assert_eq!(encoded.ids.len(), 77);
            assert_eq!((encoded.ids[0], encoded.ids[76]), (710, 711));
        }
    }

    #[test]
    fn words_know_their_place_and_their_tokens() {
        let prompt = "A red lighthouse, by the Ünïcode sea";
        let (words, ids) = (
            tokenizer().words(prompt).expect("words"),
            tokenizer().encode(prompt).expect("encoded").ids,
        );
        let texts: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(texts, ["A", "red", "lighthouse", ",", "by", "the", "Ünïcode", "sea"]);
        let mut next = 1;
        for word in &words {
            assert_eq!(&prompt[word.bytes.clone()], word.text);
            assert_eq!(
                (word.tokens.start, word.tokens.len()),
                (next, word.pieces.len()),
                "{word:?}"
            );
            next = word.tokens.end;
        }
        assert_eq!(ids[next], 711, "the end comes after the last word");
        assert_eq!(tokenizer().words("").expect("none"), []);
    }

    #[test]
    fn a_word_that_does_not_fit_has_no_tokens() {
        let prompt = format!("{}xqzjv by", "red ".repeat(74));
        let words = tokenizer().words(&prompt).expect("words");
        let [unknown, by] = words.last_chunk().expect("two");
        assert!(unknown.pieces.len() > 1, "{unknown:?}");
        assert_eq!(
            (unknown.tokens.clone(), by.tokens.clone()),
            (75..76, 76..76),
            "the 77th is the end"
        );
        assert_eq!((by.text.as_str(), by.pieces.len()), ("by", 1));
    }

    #[test]
    fn the_files_own_truncation_and_padding_are_not_used() {
        let json =
            fs::read_to_string(fixture("tiny-256/tokenizer/tokenizer.json")).expect("the fixture");
        let truncation = concat!(
            r#""truncation": {"direction": "Right", "max_length": 9, "#,
            r#""strategy": "LongestFirst", "stride": 0}"#,
        );
        let padding = concat!(
            r#""padding": {"strategy": {"Fixed": 90}, "direction": "Right", "#,
            r#""pad_to_multiple_of": null,"#,
            "\n            ",
            r#""pad_id": 3, "pad_type_id": 0, "pad_token": "$"}"#,
        );
        let json =
            json.replace("\"truncation\": null", truncation).replace("\"padding\": null", padding);
        assert!(json.contains("LongestFirst") && json.contains("Fixed"));
        let changed = Tokenizer::parse(json.as_bytes(), &entry()).expect("a tokenizer");
        let prompt = "a red lighthouse by the sea at sunset with a boat and a bird";
        assert_eq!(
            changed.encode(prompt).expect("encoded"),
            tokenizer().encode(prompt).expect("encoded")
        );
    }

    #[test]
    fn a_damaged_tokenizer_is_an_error() {
        for json in
            ["", "{}", "[1]", r#"{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}"#]
        {
            let error = Tokenizer::parse(json.as_bytes(), &entry()).err().expect(json);
            assert_eq!(error.kind(), ErrorKind::PackageDamaged);
            assert!(error.to_string().starts_with("expected a tokenizer, found"), "{error}");
        }
        let json = fs::read(fixture("tiny-256/tokenizer/tokenizer.json")).expect("the fixture");
        let error = Tokenizer::parse(&json, &package::Tokenizer { pad: 5000, ..entry() })
            .err()
            .expect("no such id");
        assert_eq!(error.to_string(), "pad: expected an id of the tokenizer, found 5000");
    }

    #[test]
    fn can_be_shared_between_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&tokenizer());
    }

    #[test]
    fn the_longest_prompt_is_read() {
        for prompt in [
            "a".repeat(crate::request::MAX_PROMPT_BYTES),
            "\u{301}".repeat(crate::request::MAX_PROMPT_BYTES / 2),
        ] {
            assert_eq!(tokenizer().encode(&prompt).expect("encoded").ids.len(), 77);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_prompt_has_77_ids(
            prompt in "\\PC*|(?s:.*)|(<\\|startoftext\\|>| |\\p{M}|[a-z]){0,90}",
        ) {
            let encoded = TOKENIZER.with(|tokenizer| tokenizer.encode(&prompt)).expect("encoded");
            assert_eq!(encoded.ids.len(), 77);
            assert!(encoded.truncated.is_none_or(|tail| prompt.trim_end().ends_with(&tail)));
        }
    }

    thread_local! {
        static TOKENIZER: Tokenizer = tokenizer();
    }
}
