//! What shells, package managers and newcomers find: versions, completions, manual pages, packages
//! by name, help that fits.

#[cfg(unix)]
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    foreign,
    support::{pocketmuse, run, succeed},
};

/// Lines of a screen, of which help takes two at most.
const SCREEN: usize = 50;

/// Runs another program with a text as its input; returns what it prints. Where it is not there, a
/// line says so: `.ci/run` brings it.
fn piped(program: &str, words: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        writeln!(std::io::stderr(), "skipped: {program} is not here").expect("a terminal");
        return None;
    };
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("taken");
    drop(stdin);
    let output = child.wait_with_output().expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {stderr}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_version_is_told_anywhere() {
    let root = tempfile::tempdir().expect("a folder");
    let version = format!("pocketmuse {}\n", env!("CARGO_PKG_VERSION"));
    for words in [&["--version"][..], &["-V"], &["generate", "--version"], &["setup", "-V"]] {
        assert_eq!(succeed(root.path(), words), version, "{words:?}");
    }
    for words in [["--version", "--verbose"], ["--verbose", "--version"]] {
        let told = succeed(root.path(), &words);
        assert!(told.starts_with(&version), "{told}");
        for line in ["commit ", "target ", "ONNX Runtime ", "instruction sets"] {
            assert_eq!(told.lines().filter(|told| told.starts_with(line)).count(), 1, "{told}");
        }
    }
}

#[test]
fn shells_load_their_completions() {
    let root = tempfile::tempdir().expect("a folder");
    let bash = succeed(root.path(), &["completions", "bash"]);
    let ask = "\nCOMP_WORDS=(pocketmuse gen); COMP_CWORD=1\n_pocketmuse pocketmuse gen pocketmuse\n\
               echo \"${COMPREPLY[@]}\"\n";
    assert_eq!(piped("bash", &["-s"], &(bash + ask)).expect("bash"), "generate\n");
    let fish = succeed(root.path(), &["completions", "fish"]) + "\ncomplete -C'pocketmuse gen'\n";
    if let Some(told) = piped("fish", &["--no-config"], &fish) {
        assert!(told.starts_with("generate\t"), "{told}");
    }
    let zsh = succeed(root.path(), &["completions", "zsh"]);
    assert!(zsh.starts_with("#compdef pocketmuse"), "{zsh}");
    let load = format!("autoload -U compinit; compinit -D\n{zsh}\nwhich _pocketmuse >/dev/null\n");
    piped("zsh", &["-f"], &load);
    assert_eq!(run(root.path(), &["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn an_image_tells_others_and_us_what_made_it() {
    let root = tempfile::tempdir().expect("a folder");
    let words = ["generate", "a cat and an elephant", "-n", "fog", "-s7", "-W", "64", "-H", "64"];
    let words = [&words[..], &["--steps=1", "--cfg-scale=9", "-o", "a.png"]].concat();
    let output = run(root.path(), &words);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{stderr}");
    let warned = [
        "tiny-world does not know: cat, elephant. It draws house, tree, car, ",
        "guidance_scale 9: tiny-world is made",
    ];
    assert!(warned.iter().all(|warning| stderr.contains(warning)), "{stderr}");
    let told = succeed(root.path(), &["inspect", "a.png"]);
    for line in ["prompt a cat and an elephant", "seed 7", "model tiny-world"] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    let told = succeed(root.path(), &["inspect", "a.png", "--json"]);
    let json: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&json["kind"], &json["request"]["seed"]), (&"image".into(), &7.into()));
    let expected = "a cat and an elephant\nNegative prompt: fog\nSteps: 1, Sampler: confidence, CFG \
                    scale: 9, Seed: 7, Size: 64x64, Model: tiny-world, Version: pocketmuse";
    for (name, from) in [("a.png", None), ("a.jpg", Some("a.png")), ("a.webp", Some("a.jpg"))] {
        if let Some(from) = from {
            succeed(root.path(), &["generate", "--from", from, "-o", name]);
            assert_eq!(succeed(root.path(), &["inspect", name, "--json"]), told, "{name}");
        }
    }
    let parameters = json["parameters"].as_str().expect("text");
    assert!(parameters.starts_with(expected), "{parameters}");
    let words = ["grid", "a cat", "a cat in fog", "-W64", "-H64", "--steps=1", "-o", "g.png"];
    let words = [&words[..], &["--columns", "guidance-scale=2,9"]].concat();
    let output = run(root.path(), &words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    for warning in ["does not know: cat, fog. It", "guidance_scale 9: tiny-world is made"] {
        assert_eq!(stderr.matches(warning).count(), 1, "{stderr}");
    }
    let known = ["generate", "a big purple robot in the snow", "--steps=1", "-o", "b.png"];
    let output = run(root.path(), &known);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("warning"), "it knows all of that");
}

/// Prints, of each image that Pillow reads, the text as A1111 writes it: of a PNG, EXIF and XMP.
const PILLOW: &str = "
import json, sys
from xml.etree import ElementTree
from PIL import Image
for path in sys.argv[1:]:
    image = Image.open(path)
    found = [image.info.get('parameters')]
    comment = image.getexif().get_ifd(0x8769).get(0x9286)
    if comment:
        found.append(comment.removeprefix(b'UNICODE\\0').decode('utf-16-be'))
    if 'xmp' in image.info:
        packet = ElementTree.fromstring(image.info['xmp'].decode().strip('\\0'))
        description = packet.find('.//{http://purl.org/dc/elements/1.1/}description')
        found.append(''.join(description.itertext()))
    print(json.dumps([text for text in found if text]))
";

/// Prints the same, as exiftool does.
fn exiftool(root: &Path, name: &str) -> Vec<String> {
    let tags = ["-PNG:Parameters", "-EXIF:UserComment", "-XMP-dc:Description"];
    let text = |tag: &&str| {
        let mut command = Command::new("exiftool");
        foreign::run(command.args(["-b", tag, name]).current_dir(root)).expect("read")
    };
    tags.iter().map(text).filter(|text| !text.is_empty()).collect()
}

/// Pillow and exiftool read it in every format; ours is read from what exiftool leaves.
#[test]
#[ignore = "slow: Pillow and exiftool, which it installs"]
fn other_programs_read_what_made_an_image() {
    let exiftool_there = || foreign::run(Command::new("exiftool").arg("-ver"));
    let brought = exiftool_there().or_else(|_| foreign::debian("libimage-exiftool-perl"));
    let python = match brought.and_then(|_| foreign::python("PIL", "pillow==12.3.0")) {
        Ok(python) => python,
        // Straight to the terminal: the test runner keeps what a passing test prints.
        Err(why) => return writeln!(std::io::stderr(), "skipped: {why}").expect("a terminal"),
    };
    let root = tempfile::tempdir().expect("a folder");
    let prompt = "a red <house> & a \"tree\" \u{1F680}";
    let words = ["-n", "fog", "-s7", "-W64", "-H64", "--steps=1", "--cfg-scale=2", "-o", "a.png"];
    succeed(root.path(), &[&["generate", prompt][..], &words].concat());
    let names = ["a.png", "a.jpg", "a.webp"];
    for name in &names[1..] {
        succeed(root.path(), &["generate", "--from", "a.png", "-o", name]);
    }
    let told = succeed(root.path(), &["inspect", "a.png", "--json"]);
    let expected: Value = serde_json::from_str(&told).expect("JSON");
    let expected = expected["parameters"].as_str().expect("text");
    assert!(expected.starts_with(&format!("{prompt}\nNegative prompt: fog\nSteps: 1, ")));
    let mut command = Command::new(python);
    let found = foreign::run(command.args(["-c", PILLOW]).args(names).current_dir(root.path()));
    let found = found.expect("read");
    for ((name, found), places) in names.into_iter().zip(found.lines()).zip([1, 2, 2]) {
        let pillow: Vec<String> = serde_json::from_str(found).expect("JSON");
        let expected = vec![expected; places];
        assert_eq!(pillow, expected, "Pillow, {name}");
        assert_eq!(exiftool(root.path(), name), expected, "exiftool, {name}");
    }
    for name in &names[1..] {
        for lost in ["-EXIF:all=", "-XMP:all="] {
            let kept = format!("kept-{name}");
            fs::copy(root.path().join(name), root.path().join(&kept)).expect("copied");
            let mut command = Command::new("exiftool");
            command.args(["-q", "-overwrite_original", lost, &kept]).current_dir(root.path());
            foreign::run(&mut command).expect("written");
            assert_eq!(exiftool(root.path(), &kept).len(), 1, "{name}, {lost}");
            let left = succeed(root.path(), &["inspect", &kept, "--json"]);
            assert_eq!(left, told, "{name}, {lost}");
        }
    }
    for name in ["private.png", "private.jpg", "private.webp"] {
        succeed(root.path(), &["generate", "--from", "a.png", "--private", "-o", name]);
        assert_eq!(exiftool(root.path(), name), [""; 0], "{name}");
        let bytes = fs::read(root.path().join(name)).expect("made");
        assert!(!bytes.windows(5).any(|five| five == b"house" || five == b"pocke"), "{name}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let root = tempfile::tempdir().expect("a folder");
    let written = succeed(root.path(), &["man", "-o", "man1"]);
    assert!(written.lines().count() > 14, "{written}");
    let page = fs::read_to_string(root.path().join("man1/pocketmuse-generate.1")).expect("there");
    assert_eq!(succeed(root.path(), &["man", "generate"]), page);
    if let Some(shown) = piped("man", &["--warnings", "-l", "-"], &page) {
        assert!(shown.contains("--num-inference-steps"), "{shown}");
    }
    assert_eq!(run(root.path(), &["man", "draw"]).status.code(), Some(2));
}

#[test]
fn help_fits_on_two_screens() {
    let root = tempfile::tempdir().expect("a folder");
    let commands = succeed(root.path(), &["--help"]);
    let (_, commands) = commands.split_once("Commands:\n").expect("a list");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // Deeper ones go on with what a command is for.
    let commands = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<_> = commands.filter(|command| !["", "help"].contains(command)).collect();
    assert!(commands.contains(&"generate") && commands.len() > 14, "{commands:?}");
    let long: Vec<_> = commands
        .into_iter()
        .map(|command| (command, succeed(root.path(), &[command, "--help"]).lines().count()))
        .filter(|(_, lines)| *lines > 2 * SCREEN)
        .collect();
    assert!(long.is_empty(), "{long:?}");
    let edit = succeed(root.path(), &["edit", "--help"]);
    for refused in ["--tileable", "--variation", "--skip-existing"] {
        assert!(!edit.contains(refused), "{refused}");
    }
}

#[test]
fn a_package_goes_by_its_name() {
    let (root, data) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("data"));
    let packages = data.path().join("pocketmuse");
    fs::create_dir(&packages).expect("made");
    succeed(root.path(), &["synth", "--preset=tiny", "-o", "checkpoint"]);
    let noise = packages.join("noise");
    let noise = noise.to_str().expect("UTF-8");
    succeed(root.path(), &["export", "checkpoint", "-o", noise, "--flavour=f32", "--name=tiny"]);
    let with_data = |words: &[&str]| {
        let mut command = pocketmuse(root.path(), words);
        command.env("XDG_DATA_HOME", data.path());
        command
    };
    let text = |mut command: Command| {
        let output = command.output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(text(with_data(&["ls"])).starts_with("noise  tiny, f32, "));
    let listed: Value = serde_json::from_str(&text(with_data(&["ls", "--json"]))).expect("JSON");
    assert_eq!((&listed["name"], &listed["package"]), (&"noise".into(), &noise.into()));
    let words = ["generate", "a", "--seed=3", "--num-inference-steps=1", "-o"];
    text(with_data(&[&words[..], &["a.png", "--package=noise"]].concat()));
    text(with_data(&[&words[..], &["b.png", "--model", noise]].concat()));
    let mut command = with_data(&[&words[..], &["c.png"]].concat());
    command.env("POCKETMUSE_PACKAGE", "noise");
    text(command);
    text(with_data(&["inspect", "noise"]));
    let read = |name: &str| fs::read(root.path().join(name)).expect(name);
    assert!(read("a.png") == read("b.png") && read("a.png") == read("c.png"));
    // What is there as a path is no name.
    fs::create_dir(root.path().join("noise")).expect("made");
    let output = with_data(&["inspect", "noise"]).output().expect("started");
    assert_eq!(output.status.code(), Some(1));
}
