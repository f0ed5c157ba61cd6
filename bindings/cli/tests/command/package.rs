//! `pocketmuse package`: parts of a package, as folders and as one file.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{run, succeed};

/// The paths that a package's manifest names.
fn files(package: &Path) -> Vec<String> {
    let manifest = pocketmuse::Manifest::read(package).expect("a package");
    manifest.files().map(|file| file.path.clone()).collect()
}

#[test]
fn a_part_travels_as_one_file_and_makes_the_same_image() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    // A small package of random weights: its bytes travel as those of a large one do.
    succeed(root.path(), &["synth", "--preset", "tiny", "-o", "random"]);
    succeed(root.path(), &["export", "random", "-o", "whole"]);
    let words = ["package", "whole", "-o", "part.pocketmuse", "--without", "encoder", "--json"];
    let said: Value = serde_json::from_str(&succeed(root.path(), &words)).expect("JSON");
    assert_eq!(said["flavours"], serde_json::json!(["int8"]));
    assert!(said["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    succeed(root.path(), &["package", "part.pocketmuse", "-o", "part"]);
    let kept: Vec<_> =
        files(&at("whole")).into_iter().filter(|path| !path.contains("/encoder.")).collect();
    assert_eq!(files(&at("part")), kept);
    for path in files(&at("part")) {
        assert!(fs::read(at("whole").join(&path)).is_ok_and(|bytes| {
            fs::read(at("part").join(&path)).is_ok_and(|copy| copy == bytes)
        }));
    }

    for package in ["whole", "part"] {
        let image = format!("{package}.png");
        let words = ["generate", "a boat", "--seed=3", "--package", package, "-o", &image];
        succeed(root.path(), &[words.as_slice(), &["--num-inference-steps", "2"]].concat());
    }
    // Not the files: each holds the digest of the package that made it.
    let pixels = |name: &str| image::open(at(name)).expect("made").into_rgb8();
    assert!(pixels("whole.png") == pixels("part.png"), "another image");
    let edit = run(root.path(), &["edit", "part.png", "a boat", "--package", "part"]);
    let said = String::from_utf8_lossy(&edit.stderr).into_owned();
    assert_eq!(edit.status.code(), Some(2), "{said}");
    assert!(said.contains("encoder: expected a package with this stage, found none"), "{said}");
}

#[test]
fn what_cannot_be_packed_is_one_line() {
    let root = tempfile::tempdir().expect("a folder");
    fs::write(root.path().join("text.tar"), "no archive").expect("written");
    fs::create_dir(root.path().join("empty")).expect("made");
    let cases: [(&[&str], i32, &str); 5] = [
        (&["package", "none", "-o", "a"], 1, "error: none: "),
        (&["package", "empty", "-o", "a"], 1, "manifest.json: "),
        (
            &["package", "text.tar", "-o", "a"],
            1,
            "error: text.tar: expected an archive of a package",
        ),
        (&["package", "empty", "-o", "a", "--flavour", "int9"], 2, "error: "),
        (&["package", "empty", "-o", "a", "--without", "decoder"], 2, "error: "),
    ];
    for (words, code, expected) in cases {
        let output = run(root.path(), words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(expected), "{words:?}: {said}");
        let others = said.lines().filter(|line| !line.starts_with("tip: "));
        assert_eq!(others.count(), 1, "{said}");
    }
    assert!(!root.path().join("a").exists());
}
