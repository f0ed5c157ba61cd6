//! A file with a prompt on each line: read once, bounded, and gone through line by line. Knows no
//! model.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use pocketmuse_package::{Error, ErrorKind, Result, files};

/// The largest file of prompts, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// The longest prompt, in bytes: more than any model reads, and little for a tokenizer.
const MAX_PROMPT_BYTES: usize = 64 << 10;

/// What some editors begin a file of UTF-8 text with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file.
#[derive(Debug)]
pub(crate) struct Prompts {
    bytes: Vec<u8>,
}

impl Prompts {
    /// Reads a file, a pipe, or stdin if `path` is `-`.
    ///
    /// # Errors
    ///
    /// `Io` if it cannot be read; `BadInput` if it is no text, or too long; `BadRequest` if no line
    /// holds a prompt.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = if path == Path::new("-") {
            bounded(io::stdin().lock(), path)?
        } else if path.is_dir() {
            return Err(wrong(path, "expected a text file, found no file".to_owned()));
        } else {
            let file = File::open(path).map_err(|error| Error::io(path, error))?;
            bounded(file, path)?
        };
        let prompts = Self { bytes };
        if prompts.lines().next().is_none() {
            let detail = "expected a prompt on each line, found none";
            return Err(Error::new(ErrorKind::BadRequest, path.display().to_string(), detail));
        }
        Ok(prompts)
    }

    /// The number of each line, from 1, and its prompt. Empty lines are left out, and those that
    /// begin with `#`.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, Result<&str>)> {
        let bytes = self.bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.bytes);
        let lines = (1..).zip(Lines { rest: Some(bytes) });
        lines
            .filter(|(_, line)| {
                let line = line.trim_ascii();
                !line.is_empty() && !line.starts_with(b"#")
            })
            .map(|(number, line)| (number, prompt(line)))
    }
}

/// The lines of a text; each ends with a line feed, a carriage return, or both.
struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            return Some(rest);
        };
        let (line, after) = rest.split_at(end);
        self.rest = Some(after.strip_prefix(b"\r\n").unwrap_or(&after[1..]));
        Some(line)
    }
}

fn prompt(line: &[u8]) -> Result<&str> {
    let at = |detail| Error::new(ErrorKind::BadInput, "", detail);
    let text = std::str::from_utf8(line).map_err(|error| {
        at(format!("expected UTF-8 text, found none from byte {} on", error.valid_up_to()))
    })?;
    let text = text.trim();
    if text.len() > MAX_PROMPT_BYTES {
        let found = text.len();
        return Err(at(format!("expected at most {MAX_PROMPT_BYTES} bytes, found {found}")));
    }
    Ok(text)
}

/// Reads until the end, or until it is clear that this is no text or too much of it.
fn bounded(reader: impl Read, path: &Path) -> Result<Vec<u8>> {
    let at = path.display().to_string();
    let bytes = files::read_stream(reader, &at, MAX_BYTES, ErrorKind::BadInput)?;
    match bytes.iter().position(|byte| *byte == 0) {
        Some(zero) => Err(wrong(
            path,
            format!(
                "expected UTF-8 text, found a zero at byte {zero}: another encoding or no text"
            ),
        )),
        None => Ok(bytes),
    }
}

fn wrong(path: &Path, detail: String) -> Error {
    Error::new(ErrorKind::BadInput, path.display().to_string(), detail)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_line_ends_as_anywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prompts.txt");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            let prompts = Prompts::read(&path)?;
            let text = |line: Result<&str>| line.map_or_else(|e| e.to_string(), str::to_owned);
            Ok(prompts.lines().map(|(number, line)| (number, text(line))).collect::<Vec<_>>())
        };
        let broken = "expected UTF-8 text, found none from byte 1 on";
        type Case<'a> = (&'a [u8], &'a [(usize, &'a str)]);
        let cases: [Case<'_>; 7] = [
            (b"# trees\na tree\n  #\na #1 car", &[(2, "a tree"), (4, "a #1 car")]),
            (b" a tree\r\n\n  \nb\xff\na car", &[(1, "a tree"), (4, broken), (5, "a car")]),
            (b"a\rb\r\rc", &[(1, "a"), (2, "b"), (4, "c")]),
            (b"a\r\n\r\nb\n\rc\r", &[(1, "a"), (3, "b"), (5, "c")]),
            (b"\xef\xbb\xbfa tree\r\n", &[(1, "a tree")]),
            (b"a", &[(1, "a")]),
            ("\u{a0}ü\u{2003}\n".as_bytes(), &[(1, "ü")]),
        ];
        for (bytes, expected) in cases {
            let found = read(bytes).unwrap_or_else(|error: Error| panic!("{bytes:?}: {error}"));
            let expected: Vec<_> =
                expected.iter().map(|(n, text)| (*n, (*text).to_owned())).collect();
            assert_eq!(found, expected, "{bytes:?}");
        }
        let none = "expected a prompt on each line, found none";
        let zero = |at| {
            format!("expected UTF-8 text, found a zero at byte {at}: another encoding or no text")
        };
        for (bytes, expected) in [
            (&b" \n\n"[..], none.to_owned()),
            (b"", none.to_owned()),
            (b"# nothing", none.to_owned()),
            (b"\xef\xbb\xbf\r\n", none.to_owned()),
            (b"a tree\n\0", zero(7)),
            (b"\xff\xfea\0", zero(3)), // UTF-16
        ] {
            let error = read(bytes).expect_err("no prompts");
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
        let error = Prompts::read(folder.path()).expect_err("a folder");
        assert_eq!(
            (error.kind(), error.detail()),
            (ErrorKind::BadInput, "expected a text file, found no file")
        );
    }

    #[test]
    fn what_does_not_end_is_not_read_to_its_end() {
        let path = Path::new("endless");
        let error = bounded(io::repeat(b'a'), path).expect_err("letters");
        assert!(error.detail().starts_with("expected a file of at most"), "{error}");
    }

    #[test]
    fn a_prompt_has_a_longest() {
        let long = "a".repeat(MAX_PROMPT_BYTES);
        assert_eq!(prompt(long.as_bytes()).expect("just so"), long);
        let error = prompt((long + "a").as_bytes()).expect_err("too long");
        assert_eq!(error.detail(), "expected at most 65536 bytes, found 65537");
    }

    proptest::proptest! {
        #[test]
        fn lines_lose_only_their_ends(text in "[ab\n\r]{0,40}") {
            let bytes = text.as_bytes();
            let joined: Vec<u8> = Lines { rest: Some(bytes) }.flatten().copied().collect();
            let kept: Vec<u8> =
                bytes.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
            proptest::prop_assert_eq!(joined, kept);
        }
    }
}
