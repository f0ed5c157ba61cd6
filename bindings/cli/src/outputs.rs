//! Which files a request's images become, decided and tried before any work is done, and how an
//! image takes its name. Knows names and folders, not images.

use std::{
    io,
    path::{Path, PathBuf},
};

use pocketmuse::pixels::Format;
use pocketmuse_package::{
    Error, Result,
    files::{self, TemporaryFolder},
};
use tempfile::TempPath;

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

/// The files of a job's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outputs {
    files: Vec<PathBuf>,
    /// For files that are named after the prompt and replace no other: the folder, and the name
    /// without a number and an ending.
    free: Option<(PathBuf, String)>,
}

impl Outputs {
    /// The files of `images` images: the path given, or one named after the prompt that does not
    /// exist.
    ///
    /// `output` may be a file with an image's ending, or an existing folder.
    ///
    /// # Errors
    ///
    /// `BadRequest` for an unknown ending; `Io` if the folder is missing or cannot be written to.
    pub(crate) fn plan(output: Option<&Path>, name: Name<'_>, images: usize) -> Result<Self> {
        let outputs = match output {
            Some(path) if !path.is_dir() => {
                Format::of(path)?;
                Self::given(numbered(&marked(path, &name.suffix()), images))
            }
            folder => {
                let folder = folder.unwrap_or(Path::new(""));
                let name = slug(name.prompt) + &name.suffix();
                let files = unused(folder, &name, images);
                Self { files, free: Some((folder.to_owned(), name)) }
            }
        };
        outputs.try_first()?;
        Ok(outputs)
    }

    /// These files, which are replaced.
    pub(crate) fn given(files: Vec<PathBuf>) -> Self {
        Self { files, free: None }
    }

    /// Tries whether the first file can be written; nothing is left of that.
    ///
    /// # Errors
    ///
    /// `Io` if its folder is missing or cannot be written to.
    pub(crate) fn try_first(&self) -> Result<()> {
        self.files.first().map_or(Ok(()), |first| files::check_writable(first))
    }

    /// Whether the files replace others that have their names.
    pub(crate) fn replaces(&self) -> bool {
        self.free.is_none()
    }

    /// The files, in the order of their images.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Lets `write` write the image of a file to a path with the same ending, and gives it the
    /// file's name once it is whole. A name after the prompt that another process has taken
    /// meanwhile is exchanged, here and for the files after it.
    ///
    /// # Errors
    ///
    /// Those of `write`; `Io` if the file cannot be given its name.
    pub(crate) fn write(
        &mut self,
        index: usize,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let path = &self.files[index];
        if self.free.is_none() {
            return write(path); // which replaces it whole
        }
        let temporary = TemporaryFolder::beside(path)?;
        let file = written(&temporary, path, write)?;
        self.take(index, file)
    }

    /// Gives a file the first name that nobody has.
    fn take(&mut self, index: usize, mut file: TempPath) -> Result<()> {
        loop {
            match file.persist_noclobber(&self.files[index]) {
                Ok(()) => return Ok(()),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    file = error.path;
                }
                Err(error) => return Err(Error::io(&self.files[index], error.error)),
            }
            let Some((folder, name)) = &self.free else { return Ok(()) };
            let others = unused(folder, name, self.files.len());
            self.files.splice(index.., others.into_iter().skip(index));
        }
    }
}

/// Lets `write` write a file, and gives it the first of `names` that nobody has: which that is.
/// There is always one more name.
///
/// # Errors
///
/// Those of `write`; `Io` if the file cannot be given a name.
pub(crate) fn write_new(
    mut names: impl Iterator<Item = PathBuf>,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut name = names.next().expect("names do not run out");
    let temporary = TemporaryFolder::beside(&name)?;
    let mut file = written(&temporary, &name, write)?;
    loop {
        match file.persist_noclobber(&name) {
            Ok(()) => return Ok(name),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                file = error.path;
                name = names.next().expect("names do not run out");
            }
            Err(error) => return Err(Error::io(&name, error.error)),
        }
    }
}

/// A whole file that lies in `temporary` and is removed with it.
fn written(
    temporary: &TemporaryFolder,
    name: &Path,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<TempPath> {
    let file = temporary.path().join("image").with_extension("png");
    write(&file)?;
    TempPath::try_from_path(file).map_err(|error| Error::io(name, error))
}

/// `NAME.png` for one image, `NAME-0.png`, `NAME-1.png`… for several.
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

/// The first of `NAME.png`, `NAME-2.png`, `NAME-3.png`… that is free for all images.
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

    fn plan(output: &Path, name: Name<'_>, images: usize) -> Vec<PathBuf> {
        Outputs::plan(Some(output), name, images).expect("planned").files
    }

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
        assert_eq!(plan(root, tree, 1), [root.join("a-tree-2.png")]);
        assert_eq!(plan(root, tree, 2), [root.join("a-tree-0.png"), root.join("a-tree-1.png")]);
        fs::write(root.join("a-tree-0.png"), "").expect("written");
        assert_eq!(plan(root, tree, 2), [root.join("a-tree-3-0.png"), root.join("a-tree-3-1.png")]);
        let given = root.join("a-tree.png");
        assert_eq!(plan(&given, tree, 1), [given]);
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_exchanged() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, tree) = (folder.path(), Name { prompt: "a tree", ..Name::default() });
        let plan = || Outputs::plan(Some(root), tree, 2).expect("planned");
        let (mut first, mut second) = (plan(), plan());
        let write = |outputs: &mut Outputs, index: usize, text: &str| {
            outputs.write(index, |path| {
                assert!(!first_exists(root, text), "nothing is there before it is whole");
                fs::write(path, text).map_err(|error| Error::io(path, error))
            })
        };
        write(&mut first, 0, "first 0").expect("written");
        write(&mut second, 0, "second 0").expect("written");
        write(&mut first, 1, "first 1").expect("written");
        write(&mut second, 1, "second 1").expect("written");
        assert_eq!(first.files, [root.join("a-tree-0.png"), root.join("a-tree-1.png")]);
        assert_eq!(second.files, [root.join("a-tree-2-0.png"), root.join("a-tree-2-1.png")]);
        for (outputs, name) in [(&first, "first"), (&second, "second")] {
            for (index, file) in outputs.files.iter().enumerate() {
                let text = fs::read_to_string(file).expect("there");
                assert_eq!(text, format!("{name} {index}"));
            }
        }
        assert_eq!(fs::read_dir(root).expect("readable").count(), 4, "and nothing else");
    }

    fn first_exists(root: &Path, text: &str) -> bool {
        let read = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.ok()?.path()).ok();
        fs::read_dir(root).expect("readable").filter_map(read).any(|found| found == text)
    }

    #[test]
    #[cfg(unix)]
    fn a_link_stays_and_what_it_names_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir(root.join("far")).expect("made");
        for (link, target) in [("a.png", "far/kept"), ("b.png", "far/new.png"), ("c.png", "a.png")]
        {
            std::os::unix::fs::symlink(target, root.join(link)).expect("linked");
        }
        fs::write(root.join("far/kept"), "old").expect("written");
        for (link, target) in [("a.png", "kept"), ("b.png", "new.png"), ("c.png", "kept")] {
            let outputs = Outputs::plan(Some(&root.join(link)), Name::default(), 1);
            let mut outputs = outputs.expect("planned");
            let write = |path: &Path| {
                assert_eq!(path.extension().expect("an ending"), "png");
                fs::write(path, link).map_err(|error| Error::io(path, error))
            };
            outputs.write(0, write).expect("written");
            assert!(root.join(link).is_symlink(), "{link}");
            let text = fs::read_to_string(root.join("far").join(target)).expect("there");
            assert_eq!(text, link);
        }
        assert_eq!(fs::read_dir(root.join("far")).expect("readable").count(), 2);
    }

    #[test]
    fn several_jobs_have_their_line_and_seed_in_the_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let name = Name { prompt: "a tree", line: Some(7), seed: Some(3) };
        assert_eq!(plan(&root.join("b.webp"), name, 1), [root.join("b-7-3.webp")]);
        let several = plan(&root.join("b.webp"), Name { line: None, ..name }, 2);
        assert_eq!(several, [root.join("b-3-0.webp"), root.join("b-3-1.webp")]);
        assert_eq!(plan(root, name, 1), [root.join("a-tree-7-3.png")]);
    }

    #[test]
    fn says_early_why_nothing_can_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("written");
        let cases = [
            ("a.gif", ErrorKind::BadRequest),
            ("none/a.png", ErrorKind::NotFound),
            ("file/a.png", ErrorKind::Io),
        ];
        for (name, kind) in cases {
            let planned = Outputs::plan(Some(&folder.path().join(name)), Name::default(), 1);
            assert_eq!(planned.expect_err(name).kind(), kind, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
