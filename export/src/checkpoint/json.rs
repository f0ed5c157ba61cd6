//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` are no numbers of JSON, and configs
//! hold them all the same.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// What Python writes for floats that are not finite, longest first.
const NOT_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Parses a text. A float that is not finite is accepted where nothing reads it; where a number is
/// wanted, the error names it.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(&quoted(text))
}

/// The text with quotes around floats that are not finite.
fn quoted(text: &str) -> Cow<'_, str> {
    let mut quoted = String::new();
    let (mut copied, mut at, mut in_string) = (0, 0, false);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1, // and what is escaped
            b'"' => in_string = !in_string,
            b'-' | b'I' | b'N' if !in_string => {
                let rest = &text[at..]; // begins with an ASCII letter, so at a border of letters
                if let Some(word) = NOT_FINITE.into_iter().find(|word| rest.starts_with(word)) {
                    quoted.extend([&text[copied..at], "\"", word, "\""]);
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted.push_str(&text[copied..]);
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        let text = r#"{"a": NaN, "b": [Infinity, -Infinity, -1], "NaN": "\"NaN, Infinity"}"#;
        let found: Value = from_str(text).expect("JSON");
        let expected = json!({
            "a": "NaN", "b": ["Infinity", "-Infinity", -1], "NaN": "\"NaN, Infinity",
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_number_that_is_wanted_must_be_one() {
        #[derive(Debug, serde::Deserialize)]
        struct Config {
            #[expect(dead_code, reason = "it is never read")]
            epsilon: Option<f32>,
        }
        let error = from_str::<Config>(r#"{"epsilon": NaN}"#).expect_err("no number").to_string();
        assert!(error.starts_with("invalid type: string \"NaN\", expected f32"), "{error}");
    }

    proptest! {
        #[test]
        fn other_json_is_read_as_it_is(text in "[\\PC\"\\\\ {}:,NIa-]{0,60}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(from_str::<Value>(&text).expect("JSON"), value);
            }
            let _ = from_str::<Value>(&text); // never panics
        }
    }
}
