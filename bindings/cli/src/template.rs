//! Names with gaps: `out/{line:03}-{seed}.png`. Knows not what fills them.

use std::path::{Path, PathBuf};

use pocketmuse_package::{Error, ErrorKind, Result};

/// What a gap may be called, and its number, or its text.
pub(crate) type Values<'a> = [(&'static str, Result<u64, &'a str>); 4];

/// Whether a path has gaps.
pub(crate) fn is_one(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains(['{', '}']))
}

/// The path with its gaps filled, and what they are called. `{line:03}` has at least 3 digits; `{{`
/// and `}}` are brackets.
///
/// # Errors
///
/// `BadRequest` for a gap that is called otherwise or does not end, and for more digits than `most`.
pub(crate) fn filled(
    path: &Path,
    values: &Values<'_>,
    most: usize,
) -> Result<(PathBuf, Vec<&'static str>)> {
    let text = path.to_string_lossy();
    let names: Vec<_> = values.iter().map(|(name, _)| format!("{{{name}}}")).collect();
    let wrong = |found: &str| {
        let detail = format!(
            "expected {} or a number's digits as {{line:03}}, found {found:?}; {{{{ and }}}} are brackets",
            names.join(", ")
        );
        Error::new(ErrorKind::BadRequest, "output", detail)
    };
    let (mut made, mut named, mut rest) = (String::new(), Vec::new(), &*text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, gap) = rest.split_at(at);
        made.push_str(before);
        if let Some(after) = gap.strip_prefix("{{").or_else(|| gap.strip_prefix("}}")) {
            made.push_str(&gap[..1]);
            rest = after;
            continue;
        }
        let (inside, after) =
            gap.strip_prefix('{').and_then(|gap| gap.split_once('}')).ok_or_else(|| wrong(gap))?;
        let (name, digits) = inside.split_once(':').unwrap_or((inside, "0"));
        let found = values.iter().find(|(known, _)| *known == name);
        let (name, value) = found.ok_or_else(|| wrong(inside))?;
        let digits = digits.parse::<usize>().ok().filter(|digits| *digits <= most);
        let digits = digits.ok_or_else(|| wrong(inside))?;
        match value {
            Ok(number) => made.push_str(&format!("{number:0digits$}")),
            Err(text) if digits == 0 => made.push_str(text),
            Err(_) => return Err(wrong(inside)),
        }
        named.push(*name);
        rest = after;
    }
    made.push_str(rest);
    Ok((made.into(), named))
}
