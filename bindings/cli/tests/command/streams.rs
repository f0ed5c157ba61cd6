//! What reaches stdout, stderr and a terminal: a full disk is told, text from files stays text.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{pocketmuse, run, succeed};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn fault(name: &str) -> PathBuf {
    fixture("faults").join(name)
}

/// A checkpoint and the package that is made of it. A bench of floats writes a tenth of what one of
/// int8 does, whose graphs have many more nodes to tell of.
fn package(root: &Path, flavour: &str) {
    succeed(root, &["synth", "--preset", "tiny", "-o", "random"]);
    let words = ["export", "random", "-o", "package", "--name=noise", "--flavour", flavour];
    succeed(root, &words);
}

#[test]
#[cfg(target_os = "linux")]
fn a_stdout_that_is_full_is_an_error_everywhere() {
    let root = tempfile::tempdir().expect("a folder");
    package(root.path(), "int8");
    let run = ["--package", "package", "--num-inference-steps=2", "-o"];
    let with = |words: &[&'static str]| [words, &run].concat();
    let [checkpoint, golden] = ["tiny-512", "tiny-512/golden.safetensors"].map(fixture);
    let [checkpoint, golden] = [&checkpoint, &golden].map(|path| path.to_str().expect("UTF-8"));
    succeed(root.path(), &["export", checkpoint, "-o", "tiny", "--flavour=f32"]);
    let quick = ["--num-inference-steps=1", "--package", "package"];
    let job = ["generate", "a", "--job=job.json", "-o", "job.png"];
    succeed(root.path(), &[&job[..], &quick].concat());
    let commands: [Vec<&str>; 28] = [
        vec!["--help"],
        vec!["--version"],
        vec!["generate", "--help"],
        vec!["inspect", "package"],
        vec!["inspect", "package", "--json"],
        vec!["inspect", "random"],
        vec!["generate", "a", "--package", "package", "--explain"],
        vec!["generate", "a", "--package", "package", "--explain", "--json"],
        vec!["prepared"],
        vec!["synth", "--preset", "tiny", "-o", "again"],
        [with(&["generate", "a tree"]), vec!["a.png"]].concat(),
        [with(&["generate", "a tree", "--json"]), vec!["b.png"]].concat(),
        [with(&["grid", "a tree"]), vec!["c.png"]].concat(),
        [with(&["generate", "a tree", "--seeds", "1,2,3"]), vec!["d.png"]].concat(),
        [with(&["grid", "a tree", "--json"]), vec!["e.png"]].concat(),
        [with(&["edit", "job.png", "a tree"]), vec!["f.png"]].concat(),
        [with(&["edit", "job.png", "a tree", "--json"]), vec!["g.png"]].concat(),
        [with(&["video", "a tree", "--frames=2"]), vec!["h.gif"]].concat(),
        [with(&["video", "a tree", "--frames=2", "--json"]), vec!["i.gif"]].concat(),
        vec!["resume", "job.json"],
        vec!["resume", "job.json", "--json"],
        vec!["inspect", "random", "--json"],
        vec!["export", checkpoint, "-o", "exported", "--flavour=f32"],
        vec!["package", "package", "-o", "one.pocketmuse"],
        vec!["package", "package", "-o", "two.pocketmuse", "--json"],
        vec!["verify", "tiny", "--golden", golden],
        vec!["bench", "--package", "tiny", "--steps=1", "--runs=1", "--json"],
        vec!["setup"],
    ];
    for words in commands {
        let mut command = pocketmuse(root.path(), &words);
        command.stdout(File::create("/dev/full").expect("a full disk"));
        let output = command.output().expect("started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        let told = stderr.lines().filter(|line| line.starts_with("error: stdout: ")).count();
        assert_eq!(told, 1, "{words:?}: {stderr}");
    }
    assert!(!root.path().join("b.png").exists(), "nothing is made that cannot be told");
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let root = tempfile::tempdir().expect("a folder");
    package(root.path(), "int8");
    let commands: [&[&str]; 6] = [
        &["inspect", "package"],
        &["inspect", "random", "--json"],
        &["--help"],
        &["--version"],
        &["package", "package", "-o", "one.pocketmuse", "--json"],
        &["prepared"],
    ];
    for words in commands {
        let mut child = pocketmuse(root.path(), words).spawn().expect("started");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{words:?}: {stderr}");
    }
}

/// Small images of one step.
const QUICK: [&str; 3] = ["--num-inference-steps=1", "--height=32", "--width=32"];

#[test]
#[cfg(unix)]
fn closed_descriptors_change_no_image() {
    let root = tempfile::tempdir().expect("a folder");
    let words = [&["generate", "a tree", "--seed=3", "-o", "a.png"], &QUICK[..]].concat();
    succeed(root.path(), &words);
    let image = root.path().join("a.png");
    let expected = fs::read(&image).expect("made");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        fs::remove_file(&image).expect("there");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$@\" {closed}"), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_pocketmuse")).args(&words).current_dir(root.path());
        let output = command.output().expect("started");
        assert!(output.status.success(), "{closed}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(&image).expect("made") == expected, "{closed}");
    }
    assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
}

/// `| head -c 4` of an image, `| head -1` of the events of a batch, which is made to its end.
#[test]
fn a_batch_goes_on_when_its_reader_went_away() {
    use std::io::Read;

    let root = tempfile::tempdir().expect("a folder");
    let words = [&["generate", "a tree", "--seeds=1-3", "--json", "-o", "a.png"], &QUICK[..]];
    let stdout = [&["generate", "a tree", "-o", "-"], &QUICK[..]].concat();
    for (words, start) in [(words.concat(), b"{\""), (stdout, b"\x89P")] {
        let mut child = pocketmuse(root.path(), &words).spawn().expect("started");
        let mut first = [0; 2];
        let mut reader = child.stdout.take().expect("piped");
        reader.read_exact(&mut first).expect("two bytes");
        drop(reader);
        let output = child.wait_with_output().expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains("error"), "{stderr}");
        assert_eq!(&first, start);
    }
    assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 3);
}

/// Whether a byte is a control character that a terminal would act on.
fn is_control(byte: &u8) -> bool {
    *byte == 0x7f || (*byte < 0x20 && *byte != b'\n')
}

#[test]
fn text_from_files_reaches_no_terminal_raw() {
    let root = tempfile::tempdir().expect("a folder");
    let evil = "\x1b]0;owned\x07\x1b[2J\nerror: forged\u{9b}2J\u{202e}\u{200b}\u{feff}";
    package(root.path(), "f32");
    let manifest = root.path().join("package/manifest.json");
    let text = fs::read_to_string(&manifest).expect("read");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json["model"]["name"] = evil.into();
    fs::write(&manifest, json.to_string()).expect("written");
    fs::write(root.path().join("prompts.txt"), "a\x1b[2J tree\n\u{202e}\x1b").expect("written");
    let stranger = fault("control-characters/stranger.png");
    let origin = fault("terminal-escapes/origin.png");
    let [stranger, origin] = [&stranger, &origin].map(|path| path.to_str().expect("UTF-8"));
    let steps = "--num-inference-steps=1";
    let long = format!("{evil} {}", "many words ".repeat(80));
    fs::write(root.path().join("named\x1b[2J.png"), "no image").expect("written");
    fs::write(root.path().join("job.json"), r#"{"pocketmuse_job":1,"\u001b[2J\u202e":1}"#)
        .expect("written");
    let lora = format!("<lora:{evil}:1>");
    let commands: [&[&str]; 18] = [
        &["inspect", "package"],
        &["inspect", "package", "--json"],
        &["generate", "--from", stranger, "-o", "a.png"],
        &["generate", "--from", origin, "--package", "package", steps, "-o", "b.png"],
        &["generate", "--from", origin, "--package", "package", steps, "-o", "b.png", "--json"],
        &["generate", &long, "--package", "package", steps, "-o", "c.png"],
        &["generate", "a", "--package", evil],
        &["generate", "a", "--flavour", evil],
        &["generate", "--prompts", "prompts.txt", "--package", "package", steps, "-o", "d.png"],
        &["grid", "a", "-o", "e.png", "--columns", evil],
        &["grid", "a", evil, "--package", "package", steps, "-o", "e.png"],
        &["grid", "a", evil, "--package", "package", steps, "-o", "e.png", "--json"],
        &["generate", &lora, "--package", "package", steps, "-o", "f.png"],
        &["video", &long, "--package", "package", steps, "--frames=2", "-o", "g.gif"],
        &["edit", "named\x1b[2J.png", "a", "--package", "package", "-o", "h.png"],
        &["resume", "job.json"],
        &["bench", "--package", "package", "--steps=1", "--runs=1"],
        &["package", "package", "-o", "named\x1b[2J.pocketmuse"],
    ];
    for words in commands {
        let output = run(root.path(), words);
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!bytes.iter().any(is_control), "{words:?}: {name}: {text:?}");
            let hidden = ['\u{9b}', '\u{202e}', '\u{200b}', '\u{feff}'];
            assert!(!text.contains(hidden), "{words:?}: {name}: {text:?}");
            assert!(!text.contains("\nerror: forged"), "{words:?}: {name}: {text:?}");
        }
    }
    let inspected = succeed(root.path(), &["inspect", "package"]);
    assert!(inspected.contains("\\u{1b}]0;owned\\u{7}"), "{inspected}");
}
