//! What `--explain` predicts is what `generate` then takes, each in a process of its own; and the
//! cache of checked packages is never in the way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support;

/// How long files that were just written may not be trusted: a file system's clock ticks every two
/// seconds, and other tests run beside this one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder to work in, a cache in it, and the bundled model's package in there.
struct Case {
    root: TempDir,
    library: PathBuf,
}

impl Case {
    fn new() -> Self {
        let library =
            pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path().to_owned();
        let case = Self { root: tempfile::tempdir().expect("a folder"), library };
        for flavour in [pocketmuse::Flavour::F32, pocketmuse::Flavour::Int8] {
            support::folders::link_folder(
                &support::folders::flavoured_package(flavour),
                &case.root.path().join(flavour.name()),
            );
        }
        case
    }

    fn run(&self, cache: &Path, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketmuse"));
        let command =
            command.current_dir(self.root.path()).args(words).env("ORT_DYLIB_PATH", &self.library);
        let command = command.envs([support::ONE_THREAD]);
        let output = command.env("XDG_CACHE_HOME", cache).output().expect("started");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Makes images until the package `name`, which was just written, is trusted: a record of it,
    /// in a cache of its own, holds all files.
    fn settle(&self, name: &str) {
        let (cache, started) = (self.root.path().join("settling"), Instant::now());
        let image = ["generate", "a tree", "--num-inference-steps=1", "--height=16", "--width=16"];
        let listed = || self.run(&cache, &["prepared"]).stdout;
        while !String::from_utf8_lossy(&listed()).contains("9 files checked") {
            assert!(started.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&listed()));
            self.run(&cache, &[&image[..], &["--package", name, "-o", "settling.png"]].concat());
        }
    }

    /// The last event that a command prints.
    fn event(&self, words: &[&str]) -> Value {
        let stdout = self.run(self.root.path(), words).stdout;
        let text = String::from_utf8(stdout).expect("UTF-8");
        serde_json::from_str(text.lines().last().expect("an event")).expect("JSON")
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_stage_takes_more_than_was_predicted_nor_half_of_it() {
    let case = Case::new();
    for (flavour, size, memory) in [
        ("f32", "128", "8GB"),
        ("f32", "128", "115MB"),
        ("f32", "128", "89MB"), // the step's weights pass through memory
        ("int8", "128", "8GB"),
        ("int8", "64", "115MB"),
        ("f32", "256", "8GB"),
    ] {
        let words = [
            "generate",
            "a tree",
            "--package",
            flavour,
            "--height",
            size,
            "--width",
            size,
            "--memory",
            memory,
        ];
        let words =
            [&words[..], &["--num-inference-steps=2", "--threads=2", "--json", "-o", "a.png"]]
                .concat();
        let planned = case.event(&[&words[..], &["--explain"]].concat());
        let made = case.event(&words);
        for (planned, made) in planned["stages"]
            .as_array()
            .expect("stages")
            .iter()
            .zip(made["stages"].as_array().expect("stages"))
        {
            assert_eq!(planned["name"], made["name"]);
            for peak in ["peak_rss_bytes", "peak_anonymous_bytes"] {
                let Some(found) = made[peak].as_u64() else { continue }; // the system does not tell
                let predicted = planned[peak].as_u64().expect("a number");
                let what = format!(
                    "{flavour} {size} {memory} {} {peak}: {predicted} predicted, {found} taken",
                    made["name"]
                );
                println!("{what}");
                assert!(found <= predicted, "{what}");
                assert!(peak == "peak_anonymous_bytes" || predicted <= 2 * found, "{what}");
            }
        }
    }
}

#[test]
fn the_cache_is_listed_cleaned_and_never_in_the_way() {
    let case = Case::new();
    case.settle("f32");
    let words =
        ["generate", "a tree", "--package", "f32", "--num-inference-steps=1", "-o", "a.png"];
    let cache = case.root.path().join("cache");
    let listed = |words: &[&str]| String::from_utf8(case.run(&cache, words).stdout).expect("UTF-8");
    assert!(listed(&["prepared"]).starts_with("nothing in "));
    assert!(case.run(&cache, &words).status.success());
    assert!(
        listed(&["prepared"]).contains("f32: 9 files checked, 3 graphs optimised"),
        "{}",
        listed(&["prepared"])
    );
    assert!(listed(&["prepared", "--clean"]).contains("1 removed from "));
    assert!(listed(&["prepared"]).starts_with("nothing in "));

    let file = case.root.path().join("file");
    fs::write(&file, "where the cache should be").expect("written");
    let output = case.run(&file, &words);
    let warning = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(warning.contains("the package is checked again the next time"), "{warning}");
    assert_eq!(warning.matches("graphs are optimised again the next time").count(), 1, "{warning}");
}

/// A file system without room fails as a limit on the size of files does: in the middle of a write.
/// The image is smaller than the limit, the record of a package is not.
#[test]
#[cfg(target_os = "linux")]
fn a_record_that_finds_no_room_is_done_without() {
    let case = Case::new();
    case.settle("int8");
    let words = [
        "generate",
        "a tree",
        "--package",
        "int8",
        "--height=16",
        "--width=16",
        "--num-inference-steps=1",
        "--seed=7",
    ];
    let run = |limit: &str| {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("trap '' XFSZ; {limit} exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_pocketmuse"),
        ]);
        let command = command.args(words).args(["-o", "a.png"]).current_dir(case.root.path());
        let command = command
            .env("ORT_DYLIB_PATH", &case.library)
            .env("XDG_CACHE_HOME", case.root.path().join("cache"));
        let output = command.output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let image = fs::read(case.root.path().join("a.png")).expect("an image");
        (image, String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (image, warning) = run("ulimit -f 4;"); // 2,048 bytes
    assert!(warning.contains("the package is checked again the next time"), "{warning}");
    assert_eq!(warning.matches("graphs are optimised again the next time").count(), 1, "{warning}");
    // Smaller ones, of the first files, found room.
    let listed = case.run(&case.root.path().join("cache"), &["prepared"]).stdout;
    let listed = String::from_utf8(listed).expect("UTF-8");
    assert!(!listed.contains("damaged") && !listed.contains("leftover"), "{listed}");
    let (again, warning) = run("");
    assert!(again == image && !warning.contains("again the next time"), "{warning}");
}
