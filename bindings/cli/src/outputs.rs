//! Which files a request's pictures become, decided and tried before any work
//! is done. Knows names and folders, not pictures.

use std::path::{Path, PathBuf};

use pocketmuse::pixels::Format;
use pocketmuse_package::{Result, files};

/// The longest name made from a prompt, in bytes.
const MAX_NAME: usize = 60;

/// What tells a job's files from those of others: the prompt they are named after, and with several
/// jobs in one command its line and its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Name<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) line: Option<usize>,
    pub(crate) seed: Option<u64>,
}

impl Name<'_> {
    /// `-LINE-SEED`, as far as there are such.
    fn suffix(&self) -> String {
        let line = self.line.map(|line| format!("-{line}")).unwrap_or_default();
        line + &self.seed.map(|seed| format!("-{seed}")).unwrap_or_default()
    }
}

/// The files of `images` pictures: the path given, or one named after the prompt that does not
/// exist.
///
/// `output` may be a file with a picture's ending, or an existing folder.
///
/// # Errors
///
/// `BadRequest` for an unknown ending; `Io` if the folder is missing or cannot be written to.
pub(crate) fn plan(output: Option<&Path>, name: Name<'_>, images: usize) -> Result<Vec<PathBuf>> {
    let files = match output {
        Some(path) if !path.is_dir() => {
            Format::of(path)?;
            numbered(&marked(path, &name.suffix()), images)
        }
        folder => {
            unused(folder.unwrap_or(Path::new("")), &(slug(name.prompt) + &name.suffix()), images)
        }
    };
    if let Some(first) = files.first() {
        files::check_writable(first)?;
    }
    Ok(files)
}

/// `NAME.png` for one picture, `NAME-0.png`, `NAME-1.png`… for several.
fn numbered(path: &Path, images: usize) -> Vec<PathBuf> {
    if images == 1 {
        return vec![path.to_owned()];
    }
    (0..images).map(|index| marked(path, &format!("-{index}"))).collect()
}

/// The same path with `suffix` after the name and before the ending.
fn marked(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.file_stem().unwrap_or_default().to_os_string();
    file.push(suffix);
    file.push(".");
    file.push(path.extension().unwrap_or_default());
    path.with_file_name(file)
}

/// The first of `NAME.png`, `NAME-2.png`, `NAME-3.png`… that is free for all pictures.
fn unused(folder: &Path, name: &str, images: usize) -> Vec<PathBuf> {
    let names = (1..)
        .map(|try_| if try_ == 1 { format!("{name}.png") } else { format!("{name}-{try_}.png") });
    let mut files = names.map(|file| numbered(&folder.join(file), images));
    files
        .find(|files| files.iter().all(|file| file.symlink_metadata().is_err()))
        .expect("names do not run out")
}

/// A prompt as a file name: its letters and digits in lower case, everything else one dash, cut at
/// a word.
pub(crate) fn slug(prompt: &str) -> String {
    let lower = prompt.to_lowercase();
    let words =
        lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for word in words {
        if name.len() + 1 + word.len() > MAX_NAME {
            break;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(word);
    }
    if name.is_empty() { "picture".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pocketmuse_package::ErrorKind;

    use super::*;

    #[test]
    fn a_prompt_becomes_a_name() {
        let long = "word ".repeat(40);
        let cases = [
            ("a red lighthouse by the sea at sunset", "a-red-lighthouse-by-the-sea-at-sunset"),
            ("  A \"Big\" robot!?  ", "a-big-robot"),
            ("../../etc/passwd", "etc-passwd"),
            ("Übermut 🚀 im Schnee", "übermut-im-schnee"),
            ("", "picture"),
            ("🚀", "picture"),
            (&"x".repeat(99), "picture"),
            (&long, &"word-".repeat(12)[..59]),
        ];
        for (prompt, name) in cases {
            assert_eq!(slug(prompt), name);
        }
    }

    #[test]
    fn a_default_name_never_replaces_and_a_given_one_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, tree) = (folder.path(), Name { prompt: "a tree", ..Name::default() });
        fs::write(root.join("a-tree.png"), "").expect("written");
        fs::write(root.join("a-tree-2-1.png"), "").expect("written");
        assert_eq!(plan(Some(root), tree, 1).expect("planned"), [root.join("a-tree-2.png")]);
        let several = plan(Some(root), tree, 2).expect("planned");
        assert_eq!(several, [root.join("a-tree-0.png"), root.join("a-tree-1.png")]);
        fs::write(root.join("a-tree-0.png"), "").expect("written");
        let several = plan(Some(root), tree, 2).expect("planned");
        assert_eq!(several, [root.join("a-tree-3-0.png"), root.join("a-tree-3-1.png")]);
        let given = root.join("a-tree.png");
        assert_eq!(plan(Some(&given), tree, 1).expect("planned"), [given]);
    }

    #[test]
    fn several_jobs_have_their_line_and_seed_in_the_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let name = Name { prompt: "a tree", line: Some(7), seed: Some(3) };
        assert_eq!(
            plan(Some(&root.join("b.webp")), name, 1).expect("planned"),
            [root.join("b-7-3.webp")]
        );
        let several =
            plan(Some(&root.join("b.webp")), Name { line: None, ..name }, 2).expect("planned");
        assert_eq!(several, [root.join("b-3-0.webp"), root.join("b-3-1.webp")]);
        assert_eq!(plan(Some(root), name, 1).expect("planned"), [root.join("a-tree-7-3.png")]);
    }

    #[test]
    fn says_early_why_nothing_can_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("written");
        let cases = [
            ("a.gif", ErrorKind::BadRequest),
            ("none/a.png", ErrorKind::Io),
            ("file/a.png", ErrorKind::Io),
        ];
        for (name, kind) in cases {
            assert_eq!(
                plan(Some(&folder.path().join(name)), Name::default(), 1).expect_err(name).kind(),
                kind,
                "{name}"
            );
        }
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
