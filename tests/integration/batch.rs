//! Several jobs in one command: each image is the one it would be alone, and a job that fails
//! loses no other.

use std::fs;

use crate::support::{self, names, package};

fn run(words: &[&str]) -> u8 {
    support::runtime();
    let package = package("tiny-world").to_string_lossy().into_owned();
    let common =
        ["--package", &package, "--num-inference-steps", "2", "--height", "32", "--width", "32"];
    pocketmuse_cli::run(
        ["pocketmuse", "generate"].iter().chain(words).chain(&common).map(Into::into),
    )
}

#[test]
fn every_line_and_seed_gives_its_image_and_one_that_fails_loses_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    fs::write(path("prompts.txt"), b"a tree\n\na ((red:10)) car\n\xff\na car\n").expect("written");
    fs::create_dir(path("images")).expect("a folder");
    let output = path("images/a.png");
    assert_eq!(
        run(&["--prompts", &path("prompts.txt"), "--seeds", "3,4", "-o", &output]),
        1,
        "two lines fail"
    );
    let made = ["a-1-3.png", "a-1-4.png", "a-5-3.png", "a-5-4.png"];
    assert_eq!(names(&folder.path().join("images")), made);

    assert_eq!(run(&["a car", "--seed", "4", "-o", &path("alone.png")]), 0);
    let bytes = |name: &str| fs::read(path(name)).expect("an image");
    assert_eq!(bytes("alone.png"), bytes("images/a-5-4.png"), "pixels and request");
    assert_ne!(bytes("alone.png"), bytes("images/a-5-3.png"));

    assert_eq!(run(&["a car", "--seeds", "4,5", "-o", &path("b.png")]), 0);
    assert_eq!(bytes("alone.png"), bytes("b-4.png"));
    assert_eq!(run(&["--prompts", &path("none.txt")]), 1);
    for words in [
        &["a", "--seeds", "1", "--seed", "2"][..],
        &["a", "--prompts", "x"],
        &["a", "--seeds", "1,x"],
    ] {
        assert_eq!(run(words), 2, "{words:?}");
    }
}
