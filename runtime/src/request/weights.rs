//! Weights written into a prompt, `(word:1.3)`: a prompt becomes plain text and what each of its
//! bytes weighs. Knows no tokens.
//!
//! | written | weight of `word` |
//! |---|---|
//! | `(word:1.3)` | 1.3 |
//! | `(word)`, `((word))` | 1.1, 1.21 |
//! | `[word]`, `[[word]]` | 1 / 1.1, 1 / 1.21 |
//! | `\(word\)` | 1, in brackets |
//!
//! Weights inside one another multiply. What is none of these is text: a bracket without its
//! partner, a colon without a weight after it, a backslash before anything but a bracket or a
//! backslash. A weight is a number of 0 to 10, all that stands between the colon and the bracket,
//! and words stand before the colon: `(16:9)` and `(red:15)` are brackets without a number. Nor is
//! it one where digits meet at the colon, as in `(at 12:05)`; `(route 66:1.3)` is a weight, since
//! no time or ratio has a point.

use pocketmuse_package::{Error, ErrorKind, Result};

/// The largest weight, and the largest product of weights.
pub(crate) const MAX_WEIGHT: f32 = 10.0;
/// What a pair of brackets without a number multiplies by or, if square, divides by.
const STEP: f32 = 1.1;
/// How brackets are no weights.
const AS_TEXT: &str =
    r"\( and \) are brackets in the text, and without prompt_weighting all brackets are";
/// No number is written longer.
const MAX_NUMBER_BYTES: usize = 32;

/// A prompt without its brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// What is left of it.
    pub text: String,
    /// Where in `text` a weight begins to hold, ascending; before the first it is 1.
    starts: Vec<(usize, f32)>,
}

impl Weighted {
    /// A text of which everything weighs 1.
    pub(crate) fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), starts: Vec::new() }
    }

    /// Reads the weights of a prompt.
    ///
    /// # Errors
    ///
    /// `BadRequest` if a product of weights is more than [`MAX_WEIGHT`].
    pub fn read(prompt: &str) -> Result<Self> {
        let mut read = Self::plain("");
        let (mut weights, mut from) = (vec![1.0f32], 0);
        for Mark { at, bytes, change } in marks(prompt) {
            read.text.push_str(&prompt[from..at]);
            from = at + bytes;
            match change {
                Change::None => continue,
                Change::Open(factor) => {
                    weights.push(weights.last().map_or(factor, |outer| outer * factor))
                }
                Change::Close => drop(weights.pop()),
            }
            let weight = weights.last().copied().unwrap_or(1.0);
            if !(0.0..=MAX_WEIGHT).contains(&weight) {
                let detail = format!(
                    "expected weights of 0 to {MAX_WEIGHT}, found {weight} at byte {at}: {AS_TEXT}"
                );
                return Err(Error::new(ErrorKind::BadRequest, "", detail));
            }
            read.starts.push((read.text.len(), weight));
        }
        read.text.push_str(&prompt[from..]);
        Ok(read)
    }

    /// What the byte at `index` of the text weighs.
    pub fn at(&self, index: usize) -> f32 {
        let after = self.starts.partition_point(|(start, _)| *start <= index);
        after.checked_sub(1).map_or(1.0, |last| self.starts[last].1)
    }
}

/// Bytes of a prompt that are no text.
struct Mark {
    at: usize,
    bytes: usize,
    change: Change,
}

/// What a mark does to the weight of what follows it.
enum Change {
    /// Nothing: it only made a bracket text.
    None,
    Open(f32),
    Close,
}

/// The marks of a prompt, ascending.
fn marks(prompt: &str) -> Vec<Mark> {
    let bytes = prompt.as_bytes();
    let (mut marks, mut open, mut colon, mut at) = (Vec::new(), Open::default(), 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if bytes.get(at + 1).is_some_and(|next| br"()[]\".contains(next)) => {
                marks.push(Mark { at, bytes: 1, change: Change::None });
                at += 1;
            }
            b':' => colon = at,
            bracket @ (b'(' | b'[') => open.push(bracket, at),
            b')' => {
                if let Some(first) = open.pop(b'(') {
                    let number = Some(colon)
                        .filter(|colon| *colon > first)
                        .and_then(|from| weight(&prompt[first + 1..from], &prompt[from + 1..at]));
                    let last = if number.is_some() { colon } else { at };
                    marks.push(Mark {
                        at: first,
                        bytes: 1,
                        change: Change::Open(number.unwrap_or(STEP)),
                    });
                    marks.push(Mark { at: last, bytes: at + 1 - last, change: Change::Close });
                }
            }
            b']' => {
                if let Some(first) = open.pop(b'[') {
                    marks.push(Mark { at: first, bytes: 1, change: Change::Open(1.0 / STEP) });
                    marks.push(Mark { at, bytes: 1, change: Change::Close });
                }
            }
            _ => {}
        }
        at += 1;
    }
    marks.sort_by_key(|mark| mark.at);
    marks
}

/// Brackets that wait for their partner.
#[derive(Default)]
struct Open {
    brackets: Vec<(u8, usize)>,
    round: usize,
}

impl Open {
    fn push(&mut self, bracket: u8, at: usize) {
        self.round += usize::from(bracket == b'(');
        self.brackets.push((bracket, at));
    }

    /// Where the last bracket of this kind was opened. Those opened after it have no partner any
    /// more.
    fn pop(&mut self, bracket: u8) -> Option<usize> {
        let waiting = if bracket == b'(' { self.round } else { self.brackets.len() - self.round };
        if waiting == 0 {
            return None;
        }
        loop {
            let (found, at) = self.brackets.pop()?;
            self.round -= usize::from(found == b'(');
            if found == bracket {
                return Some(at);
            }
        }
    }
}

/// The weight that a bracket has with these texts before and behind its last colon; `None` if that
/// is no weight.
fn weight(words: &str, rest: &str) -> Option<f32> {
    let is_word = |letter: char| {
        !letter.is_whitespace() && !letter.is_ascii_punctuation() && !letter.is_numeric()
    };
    let holds_words = words.trim().is_empty() || words.contains(is_word);
    let is_whole = rest.bytes().all(|byte| byte.is_ascii_digit());
    let is_time_or_ratio = is_whole && words.ends_with(|letter: char| letter.is_ascii_digit());
    number(rest)
        .filter(|number| (0.0..=MAX_WEIGHT).contains(number))
        .filter(|_| holds_words && !is_time_or_ratio)
}

/// A number as weights are written; words such as `inf` are text.
fn number(text: &str) -> Option<f32> {
    let text = Some(text).filter(|text| text.len() <= MAX_NUMBER_BYTES)?.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text in runs of one weight.
    fn runs(prompt: &str) -> Vec<(String, f32)> {
        let read = Weighted::read(prompt).unwrap_or_else(|error| panic!("{prompt}: {error}"));
        let mut runs: Vec<(String, f32)> = Vec::new();
        for (index, letter) in read.text.char_indices() {
            match runs.last_mut() {
                Some((run, weight)) if *weight == read.at(index) => run.push(letter),
                _ => runs.push((letter.to_string(), read.at(index))),
            }
        }
        runs
    }

    #[test]
    fn weights_are_read_as_they_are_written_in_the_field() {
        let cases: [(&str, &[(&str, f32)]); 42] = [
            ("a red house", &[("a red house", 1.0)]),
            ("a (red:1.3) house", &[("a ", 1.0), ("red", 1.3), (" house", 1.0)]),
            ("(red)", &[("red", 1.1)]),
            ("((red))", &[("red", 1.1 * 1.1)]),
            ("[red]", &[("red", 1.0 / 1.1)]),
            ("(a (big:1.5) house:0.5)", &[("a ", 0.5), ("big", 0.75), (" house", 0.5)]),
            ("([red])", &[("red", 1.1 * (1.0 / 1.1))]),
            ("(red : 1.3 ) house", &[("red ", 1.3), (" house", 1.0)]),
            ("(red:0)", &[("red", 0.0)]),
            (r"a house \(red\)", &[("a house (red)", 1.0)]),
            (r"(a \(red\):2)", &[("a (red)", 2.0)]),
            (r"C:\temp \\ \[x\]", &[(r"C:\temp \ [x]", 1.0)]),
            ("(red", &[("(red", 1.0)]),
            ("red)", &[("red)", 1.0)]),
            ("(a [b) c]", &[("a [b", 1.1), (" c]", 1.0)]),
            ("a] (b", &[("a] (b", 1.0)]),
            ("(red:blue)", &[("red:blue", 1.1)]),
            ("(red:1.2.3)", &[("red:1.2.3", 1.1)]),
            ("(red:nan)", &[("red:nan", 1.1)]),
            ("(red:)", &[("red:", 1.1)]),
            ("at 12:30 (red)", &[("at 12:30 ", 1.0), ("red", 1.1)]),
            ("[red:1.3]", &[("red:1.3", 1.0 / 1.1)]),
            ("()(:2)", &[]),
            ("(\u{1F680}ü:2)ö", &[("\u{1F680}ü", 2.0), ("ö", 1.0)]),
            // A weight or a text.
            ("(at 12:30)", &[("at 12:30", 1.1)]),
            ("(at 12:05)", &[("at 12:05", 1.1)]),
            ("(16:9)", &[("16:9", 1.1)]),
            ("(a photo, 4:3)", &[("a photo, 4:3", 1.1)]),
            ("(a 2:1 photo:1.3)", &[("a 2:1 photo", 1.3)]),
            ("(16:9:1.3)", &[("16:9:1.3", 1.1)]),
            ("(route 66:1.3)", &[("route 66", 1.3)]),
            ("(route 66:2)", &[("route 66:2", 1.1)]),
            ("(route 66: 2)", &[("route 66", 2.0)]),
            ("(a 2nd:2)", &[("a 2nd", 2.0)]),
            ("(\u{1F680}:2)", &[("\u{1F680}", 2.0)]),
            ("(漢字:2)", &[("漢字", 2.0)]),
            ("(1.5:2.5)", &[("1.5:2.5", 1.1)]),
            ("(#1!:2.5)", &[("#1!:2.5", 1.1)]),
            ("(red:10.5)", &[("red:10.5", 1.1)]),
            ("(red:-1)", &[("red:-1", 1.1)]),
            ("(red:1e99)", &[("red:1e99", 1.1)]),
            ("(red:10)", &[("red", 10.0)]),
        ];
        for (prompt, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(text, weight)| ((*text).to_owned(), *weight)).collect();
            assert_eq!(runs(prompt), expected, "{prompt}");
        }
    }

    #[test]
    fn weights_out_of_range_are_refused() {
        let deep = format!("{}red{}", "(".repeat(40), ")".repeat(40));
        for (prompt, found) in [
            ("(a (red:4):4)", "found 16 at byte 3"),
            ("((red:10))", "found 11 at byte 1"),
            (&deep, "found 10.8"),
        ] {
            let error = Weighted::read(prompt).expect_err(prompt);
            assert!(error.to_string().starts_with("expected weights of 0 to 10, found"), "{error}");
            assert!(error.to_string().contains(found), "{error}");
            assert!(error.to_string().ends_with(AS_TEXT), "{error}");
            assert_eq!(error.kind(), ErrorKind::BadRequest);
        }
    }

    #[test]
    fn the_longest_prompts_are_read() {
        let most = crate::request::MAX_PROMPT_BYTES;
        let deep = format!("{}{}", "[".repeat(most / 2), "]".repeat(most / 2));
        let crossed = format!("{}{}", "[".repeat(most / 2), ")".repeat(most / 2));
        let spaces = format!("{}:{}{}", "(".repeat(9), " ".repeat(most - 100), ")".repeat(9));
        for (prompt, length) in [(deep, 0), (crossed, most), (spaces, most - 99)] {
            assert_eq!(Weighted::read(&prompt).expect("read").text.len(), length);
        }
    }

    proptest! {
        #[test]
        fn no_prompt_panics(prompt in "(?s:.*)|([()\\[\\]:\\\\.e+-]|[a0-9 ]|\u{301}){0,60}") {
            if let Ok(read) = Weighted::read(&prompt) {
                prop_assert!(read.text.len() <= prompt.len());
                prop_assert!(
                    (0..=read.text.len()).all(|at| (0.0..=MAX_WEIGHT).contains(&read.at(at)))
                );
            }
        }

        #[test]
        fn text_without_brackets_is_left_alone(prompt in "[^()\\[\\]\\\\]*") {
            prop_assert_eq!(Weighted::read(&prompt).expect("read"), Weighted::plain(&prompt));
        }

        #[test]
        fn words_with_a_number_have_a_weight(
            words in "[a-zäß漢\u{1F680} ,'-]{0,9}[a-zäß漢\u{1F680}]", hundredths in 0u16..=1000,
        ) {
            let weight = f32::from(hundredths) / 100.0;
            let read = Weighted::read(&format!("({words}:{weight})")).expect("in range");
            prop_assert_eq!(&read.text, &words);
            prop_assert!((0..words.len()).all(|at| read.at(at) == weight));
        }

        #[test]
        fn times_ratios_and_numbers_out_of_range_are_text(
            words in "([a-z]{1,5} )?", first in 0u32..100, second in 0u32..60, out in 10.001f64..1e6,
        ) {
            for text in [
                format!("{words}{first}:{second:02}"),
                format!("{words}{first}:{second}"),
                format!("{first}:{second}.5"),
                format!("{words}a:{out}"),
                format!("{words}a:-{second}.5"),
            ] {
                let read = Weighted::read(&format!("({text})")).expect("a text");
                prop_assert_eq!(&read.text, &text);
                prop_assert!((0..text.len()).all(|at| read.at(at) == STEP));
            }
        }

        #[test]
        fn what_is_escaped_comes_back(text in "(?s:.*)|[()\\[\\]:\\\\.0-9a]{0,40}") {
            let escaped = text.replace('\\', r"\\").replace('(', r"\(").replace(')', r"\)");
            let escaped = escaped.replace('[', r"\[").replace(']', r"\]");
            let read = Weighted::read(&escaped).expect("no weights");
            prop_assert_eq!(read.text, text);
            prop_assert!(read.starts.is_empty());
        }
    }
}
