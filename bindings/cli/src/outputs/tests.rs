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
    for (link, target) in [("a.png", "far/kept"), ("b.png", "far/new.png"), ("c.png", "a.png")] {
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
