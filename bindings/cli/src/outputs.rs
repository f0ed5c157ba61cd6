//! Which files a request's images become, decided and tried before any work is done, and how an
//! image takes its name. Knows names and folders, not images.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pocketmuse::pixels::Format;
use pocketmuse_package::{
    Error, ErrorKind, Result,
    files::{self, TemporaryFolder},
};
use tempfile::TempPath;

use crate::{order::Line, template};

/// The longest name made from a prompt, in bytes.
const MAX_NAME: usize = 60;
/// The most digits that a template may ask for.
const MAX_DIGITS: usize = 20;
/// What stands for stdout.
pub(crate) const STDOUT: &str = "-";

/// What tells a job's files from those of others: the prompt they are named after, and with several
/// jobs in one command its line and its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Name<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) line: Option<Line>,
    /// The seed, and whether every file has it in its name.
    pub(crate) seed: (u64, bool),
}

impl Name<'_> {
    /// `-LINE-SEED`, as far as there are such and `named` does not have them yet.
    fn suffix(&self, named: &[&str]) -> String {
        let line = self.line.filter(|_| !named.contains(&"line"));
        let line = line.map(|line| format!("-{}", line.padded())).unwrap_or_default();
        let (seed, is_in_all) = self.seed;
        let seed = (is_in_all && !named.contains(&"seed")).then(|| format!("-{seed}"));
        line + &seed.unwrap_or_default()
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
    /// `output` may be a file with an image's ending, a folder, which is made if it ends in a slash,
    /// a template such as `out/{line:03}-{seed}.png`, whose folder is made, or `-` for stdout.
    ///
    /// # Errors
    ///
    /// `BadRequest` for an unknown ending or template, and for several images to stdout; `Io` if the
    /// folder is missing or cannot be written to.
    pub(crate) fn plan(output: Option<&Path>, name: Name<'_>, images: usize) -> Result<Self> {
        let outputs = match output {
            Some(path) if path == Path::new(STDOUT) => {
                if images != 1 {
                    let detail = format!("expected one image for stdout, found {images}");
                    return Err(Error::new(ErrorKind::BadRequest, "output", detail));
                }
                return Ok(Self::given(vec![path.to_owned()]));
            }
            Some(path) if template::is_one(path) => {
                let files = filled(path, name, images)?;
                files.iter().try_for_each(|file| Format::of(file).map(drop))?;
                files.first().map_or(Ok(()), |file| make_folder(files::parent(file)))?;
                Self::given(files)
            }
            Some(path) if !path.is_dir() && !ends_in_slash(path) => {
                Format::of(path)?;
                Self::given(numbered(&marked(path, &name.suffix(&[])), images))
            }
            folder => {
                let folder = folder.unwrap_or(Path::new(""));
                if ends_in_slash(folder) {
                    make_folder(folder)?;
                }
                let name = slug(name.prompt) + &name.suffix(&[]);
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
        let first = self.files.first().filter(|_| !self.is_stdout());
        first.map_or(Ok(()), |first| files::check_writable(first))
    }

    /// Whether the image goes to stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        self.files == [Path::new(STDOUT)]
    }

    /// The files that a command before this one may have made of the same job: those it would write,
    /// or for names after the prompt each that is taken.
    pub(crate) fn made_before(&self, images: usize) -> Vec<Vec<PathBuf>> {
        let exist = |files: &Vec<PathBuf>| files.iter().all(|file| file.is_file());
        match &self.free {
            Some((folder, name)) => {
                let taken = names(folder, name, images);
                taken
                    .take_while(|files| files.iter().any(|file| file.exists()))
                    .filter(exist)
                    .collect()
            }
            None => vec![self.files.clone()].into_iter().filter(exist).collect(),
        }
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

/// `NAME.png` for one image, `NAME-0.png`, `NAME-1.png`… for several, with as many digits each.
fn numbered(path: &Path, images: usize) -> Vec<PathBuf> {
    if images == 1 {
        return vec![path.to_owned()];
    }
    let number = |index| Line { number: index, last: images - 1 }.padded();
    (0..images).map(|index| marked(path, &format!("-{}", number(index)))).collect()
}

/// The files that a template names. What it does not name is added, as to a file's name.
fn filled(path: &Path, name: Name<'_>, images: usize) -> Result<Vec<PathBuf>> {
    let prompt = slug(name.prompt);
    let line = name.line.map_or(0, |line| line.number as u64);
    let file = |image: usize| {
        let values: template::Values<'_> = [
            ("line", Ok(line)),
            ("seed", Ok(name.seed.0)),
            ("image", Ok(image as u64)),
            ("prompt", Err(&prompt)),
        ];
        let (file, named) = template::filled(path, &values, MAX_DIGITS)?;
        let marked = marked(&file, &name.suffix(&named));
        let is_told = images == 1 || named.contains(&"image");
        Ok(if is_told { marked } else { numbered(&marked, images).swap_remove(image) })
    };
    (0..images).map(file).collect()
}

fn ends_in_slash(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    last.is_some_and(|last| std::path::is_separator(char::from(*last)))
}

fn make_folder(folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))
}

/// The same path with `suffix` after the name and before the ending.
fn marked(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.file_stem().unwrap_or_default().to_os_string();
    file.push(suffix);
    file.push(".");
    file.push(path.extension().unwrap_or_default());
    path.with_file_name(file)
}

/// The files of `NAME.png`, `NAME-2.png`, `NAME-3.png`…
fn names(folder: &Path, name: &str, images: usize) -> impl Iterator<Item = Vec<PathBuf>> {
    let names =
        (1..).map(
            move |try_| {
                if try_ == 1 { format!("{name}.png") } else { format!("{name}-{try_}.png") }
            },
        );
    names.map(move |file| numbered(&folder.join(file), images))
}

/// The first of them that are free for all images.
fn unused(folder: &Path, name: &str, images: usize) -> Vec<PathBuf> {
    names(folder, name, images)
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
        let line = Some(Line { number: 7, last: 9 });
        let name = Name { prompt: "a tree", line, seed: (3, true) };
        let padded = Name { line: Some(Line { number: 7, last: 200 }), ..name };
        assert_eq!(plan(&root.join("b.webp"), padded, 1), [root.join("b-007-3.webp")]);
        assert_eq!(plan(&root.join("b.webp"), name, 1), [root.join("b-7-3.webp")]);
        let several = plan(&root.join("b.webp"), Name { line: None, ..name }, 2);
        assert_eq!(several, [root.join("b-3-0.webp"), root.join("b-3-1.webp")]);
        assert_eq!(plan(root, name, 1), [root.join("a-tree-7-3.png")]);
    }

    #[test]
    fn a_template_says_where_each_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let line = Some(Line { number: 7, last: 9 });
        let name = Name { prompt: "a Tree!", line, seed: (3, true) };
        let cases: [(&str, usize, &[&str]); 6] = [
            ("out/{line:03}-{seed}.png", 1, &["out/007-3.png"]),
            ("{prompt}.png", 1, &["a-tree-7-3.png"]),
            ("{seed}/{image:2}.jpg", 2, &["3/00-7.jpg", "3/01-7.jpg"]),
            ("{line}.png", 2, &["7-3-0.png", "7-3-1.png"]),
            ("{{}}{line}{seed}.png", 1, &["{}73.png"]),
            ("new/deep/{seed}{line}.png", 1, &["new/deep/37.png"]),
        ];
        for (template, images, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|file| root.join(file)).collect();
            assert_eq!(plan(&root.join(template), name, images), expected, "{template}");
        }
        for wrong in [
            "{lines}.png",
            "{line.png",
            "{line:x}.png",
            "{line:99}.png",
            "{prompt:3}.png",
            "a}.png",
            "{line}.gif",
        ] {
            let planned = Outputs::plan(Some(&root.join(wrong)), name, 1);
            assert_eq!(planned.expect_err(wrong).kind(), ErrorKind::BadRequest, "{wrong}");
        }
    }

    #[test]
    fn a_folder_that_ends_in_a_slash_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = Name { prompt: "a tree", ..Name::default() };
        let new = folder.path().join("new/");
        assert_eq!(plan(&new, tree, 1), [new.join("a-tree.png")]);
        assert!(new.is_dir());
        assert!(Outputs::plan(Some(Path::new(STDOUT)), tree, 2).is_err());
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
