//! The command as scripts see it: exit codes, what goes to stdout and stderr,
//! and which files are there afterwards. Where a test makes an image, ONNX
//! Runtime is brought as a user's first call would.

use std::{fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, names, pocketmuse, run, succeed};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn what_cannot_work_fails_before_any_work_with_one_line() {
    let root = folder();
    fs::write(root.path().join("text.png"), "no image").expect("written");
    let cases: [(&[&str], i32, &str); 18] = [
        (&["generate"], 2, "error: the following required arguments were not provided: <PROMPT>"),
        (&["generate", "a", "--seeds", "1,18446744073709551616"], 2, "number too large to fit"),
        (
            &["generate", "a", "--preview=jpeg"],
            2,
            "[possible values: auto, kitty, iterm, sixel, blocks, files]",
        ),
        (
            &["edit", "text.png", "a", "--box", "-1,0,2,2"],
            2,
            "expected four whole numbers with commas between",
        ),
        (&["generate", "a", "-o", "a.gif"], 2, "error: a.gif: expected a file ending in .png"),
        (&["generate", "a", "-o", "none/a.png"], 1, "error: none: expected a folder, found none"),
        (
            &["generate", "a", "--save-tokens", "none/a.json"],
            1,
            "error: none: expected a folder, found none",
        ),
        (&["generate", "a", "--height", "17"], 2, "error: height: expected a multiple of 16"),
        (
            &["generate", "a", "--num-inference-steps", "0"],
            2,
            "error: num_inference_steps: expected 1 to",
        ),
        (
            &["generate", "a", "--guidance-scale", "nan"],
            2,
            "error: guidance_scale: expected a finite number",
        ),
        (
            &["generate", "a", "--num-images-per-prompt", "99"],
            2,
            "error: num_images_per_prompt: expected 1 to",
        ),
        (&["generate", "a", "--package", "none"], 1, "error: none"),
        (&["generate", "--from", "text.png"], 1, "error: text.png: expected a PNG"),
        (&["bench", "--size", "17"], 2, "error: height: expected a multiple of 16"),
        (&["bench", "--runs", "0"], 2, "0 is not in 1..=1000"),
        (&["bench", "--package", "none"], 1, "error: none"),
        (&["inspect", "."], 1, "error: "),
        (&["setup", "--offline", "--force"], 2, "error: setup: "),
    ];
    for (words, code, message) in cases {
        let output = run(root.path(), words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(message), "{words:?}: expected {message:?}, found {stderr:?}");
        assert!(output.stdout.is_empty() && stderr.lines().count() == 1, "{words:?}: {stderr}");
        assert_eq!(names(root.path()), ["text.png"], "{words:?}");
    }
}

/// A tip stands on a line of its own.
#[test]
fn whoever_comes_from_another_program_is_told_what_to_type() {
    let root = folder();
    let cases: [(&[&str], &str, &str); 9] = [
        (&["draw"], "error: unrecognized subcommand 'draw'", "tip: pocketmuse generate \"draw\""),
        (
            &["generat", "a"],
            "error: unrecognized subcommand 'generat'",
            "tip: a similar subcommand",
        ),
        (
            &["generate", "a", "--sampler_name", "Euler a"],
            "error: unexpected argument '--sampler-name' found",
            "tip: --sampler confidence or --sampler halton",
        ),
        (
            &["-p", "a", "--device=cuda"],
            "error: unexpected argument '--device' found",
            "tip: it runs",
        ),
        (&["generate", "a", "--tiling"], "error: unexpected argument", "tip: --tileable both"),
        (
            &["generate", "a", "--hight", "3"],
            "error: unexpected argument",
            "tip: a similar argument",
        ),
        (
            &["generate", "a", "-i", "x.png"],
            "error: unexpected argument '-i'",
            "tip: `pocketmuse edit",
        ),
        (
            &["generate", "a", "--image=x.png"],
            "error: unexpected argument",
            "tip: `pocketmuse edit",
        ),
        (&["generate", "a", "--lora", "x"], "error: unexpected argument", "tip: a package is all"),
    ];
    for (words, error, tip) in cases {
        let output = run(root.path(), words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!((output.status.code(), lines.len()), (Some(2), 2), "{words:?}: {stderr}");
        assert!(lines[0].starts_with(error) && lines[1].starts_with(tip), "{words:?}: {stderr}");
    }
}

/// Each line makes the image that our own words make.
#[test]
fn lines_of_other_programs_make_the_same_image() {
    let root = folder();
    let read = |name: &str| fs::read(root.path().join(name)).expect(name);
    let ours = ["generate", "a red house", "--negative-prompt=fog", "--seed=3", "--width=64"];
    let size = ["--height=64", "--num-inference-steps=2", "--guidance-scale=2", "--threads=1"];
    succeed(root.path(), &[&ours[..], &size, &["-o", "ours.png"]].concat());
    let lines = [
        "-p|a red house|-n|fog|-s|3|-W|64|-H|64|--steps|2|--cfg-scale|2|-t|1|-b|1|-v|-o|theirs.png",
        "a red house|--negative_prompt=fog|-s3|-W64|-H64|--num_inference_steps=2|--guidance_scale|2\
         |--batch_size|1|--output|theirs.png|-q",
    ];
    for line in lines {
        succeed(root.path(), &line.split('|').collect::<Vec<_>>());
        assert!(read("theirs.png") == read("ours.png"), "{line}");
        fs::remove_file(root.path().join("theirs.png")).expect("there");
    }
    let edits = [
        "edit|ours.png|a blue house|--strength=0.5|--seed=3|--num-inference-steps=2|-o|a.png",
        "-i|ours.png|-p|a blue house|--denoising_strength|0.5|-s|3|--steps|2|-o|b.png",
        "edit|--init-img|ours.png|a blue house|--strength|0.5|-s|3|--steps|2|-o|b.png",
    ];
    for line in edits {
        succeed(root.path(), &line.split('|').collect::<Vec<_>>());
    }
    assert!(read("a.png") == read("b.png"));
}

#[test]
fn without_onnx_runtime_and_offline_it_says_where_it_looked() {
    let (root, nowhere) = (folder(), folder());
    let library = nowhere.path().join("libonnxruntime.so");
    let mut command = pocketmuse(root.path(), &["generate", "a tree", "--offline"]);
    let output = command.env("ORT_DYLIB_PATH", &library).output().expect("started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains(&library.display().to_string()) && stderr.contains("run: pocketmuse setup"),
        "{stderr}"
    );
    assert!(names(root.path()).is_empty());
}

#[test]
fn an_image_remembers_how_it_was_made() {
    let root = folder();
    let made = ["generate", "a red house in the snow", "--seed", "3", "--num-inference-steps", "2"];
    assert_eq!(succeed(root.path(), &made), "a-red-house-in-the-snow.png\n");
    let read = |name: &str| fs::read(root.path().join(name)).expect(name);
    succeed(root.path(), &["generate", "--from", "a-red-house-in-the-snow.png", "-o", "again.png"]);
    assert_eq!(read("a-red-house-in-the-snow.png"), read("again.png"));

    let several =
        [&made[..], &["--num-images-per-prompt", "2", "-o", "several.png", "--threads", "1"]]
            .concat();
    assert_eq!(succeed(root.path(), &several), "several-0.png\nseveral-1.png\n");
    succeed(root.path(), &["generate", "--from", "several-1.png", "-o", "second.png"]);
    assert_eq!(read("several-1.png"), read("second.png"));

    succeed(root.path(), &["generate", "--from", "again.png", "--seed", "4", "-o", "other.png"]);
    assert_ne!(read("other.png"), read("again.png"));
}

#[test]
fn a_damaged_package_in_the_cache_is_made_again() {
    let (root, cache) = (folder(), folder());
    let library = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path().to_owned();
    let generate = |name: &str| {
        let mut command = pocketmuse(
            root.path(),
            &[
                "generate",
                "a tree",
                "--seed=3",
                "--flavour=int8",
                "--num-inference-steps=1",
                "-o",
                name,
            ],
        );
        let output = command
            .env("XDG_CACHE_HOME", cache.path())
            .env("ORT_DYLIB_PATH", &library)
            .output()
            .expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let package = support::fill_cache(cache.path(), pocketmuse::Flavour::Int8);
    assert!(!generate("a.png").contains("damaged"));
    let weights = package.join("int8/decoder.data");
    let mut bytes = fs::read(&weights).expect("weights");
    bytes[1000] ^= 1;
    fs::remove_file(&weights).expect("a link");
    fs::write(&weights, bytes).expect("written");
    assert!(generate("b.png").contains("made again, since its package is damaged"));
    let read = |name: &str| fs::read(root.path().join(name)).expect(name);
    assert_eq!(read("a.png"), read("b.png"));
    assert!(!generate("c.png").contains("damaged"));
}

#[test]
fn json_is_one_object_per_line() {
    let root = folder();
    let long = "a red house and ".repeat(40);
    let words = [
        "generate",
        &long,
        "--num-inference-steps=3",
        "--json",
        "-o",
        "a.webp",
        "--save-tokens",
        "a.json",
    ];
    let stdout = succeed(root.path(), &words);
    let events: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let kinds: Vec<_> =
        events.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["start", "step", "step", "step", "warning", "done"]);
    let done = events.last().expect("six");
    assert_eq!((&done["files"][0], &done["seed"]), (&Value::from("a.webp"), &events[0]["seed"]));
    let stages: Vec<_> =
        done["stages"].as_array().expect("stages").iter().map(|stage| &stage["name"]).collect();
    assert_eq!(stages, ["text_encoder", "prologue", "step", "decoder"]);
    let tokens: Value =
        serde_json::from_slice(&fs::read(root.path().join("a.json")).expect("read")).expect("JSON");
    assert_eq!(
        (tokens["steps"].as_array().expect("steps").len(), names(root.path()).len()),
        (3, 2)
    );

    let output = run(root.path(), &["generate", "a", "--height", "17", "--json"]);
    let event: Value = serde_json::from_slice(&output.stdout).expect("one line");
    assert_eq!(
        (&event["event"], &event["at"], output.status.code()),
        (&"error".into(), &"height".into(), Some(2))
    );
}

#[test]
fn a_bench_has_a_number_for_every_stage() {
    let root = folder();
    let words = ["bench", "--steps=1", "--size=64", "--threads=1", "--runs=1"];
    let json: Value =
        serde_json::from_str(&succeed(root.path(), &[&words[..], &["--json"]].concat()))
            .expect("JSON");
    let stages = json["stages"].as_array().expect("stages");
    let names: Vec<_> =
        stages.iter().map(|stage| stage["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["text_encoder", "prologue", "step", "decoder"]);
    for stage in stages {
        for name in [
            "warm_load_ms",
            "run_ms",
            "operations",
            "gops",
            "share_of_int8_peak",
            "share_of_f32_peak",
        ] {
            assert!(stage[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {stage}");
        }
    }
    for name in ["int8_peak_gops", "f32_peak_gops", "threads"] {
        assert!(
            json["machine"][name].as_f64().is_some_and(|number| number > 0.0),
            "{name}: {json}"
        );
    }
    assert_eq!(
        (&json["request"]["height"], &json["request"]["num_inference_steps"]),
        (&64.into(), &1.into())
    );

    let table = succeed(root.path(), &words);
    assert!(names.iter().all(|name| table.lines().any(|line| line.starts_with(name))), "{table}");
    assert!(table.contains("64 x 64, 1 steps, median of 1"), "{table}");
    assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let root = folder();
    let mut child = pocketmuse(
        root.path(),
        &["generate", "a tree", "--num-inference-steps=2", "--json", "-o", "a.png"],
    )
    .spawn()
    .expect("started");
    drop(child.stdout.take());
    assert!(child.wait().expect("ended").success());
    assert_eq!(names(root.path()), ["a.png"]);
}

#[test]
fn a_random_checkpoint_goes_all_the_way() {
    let root = folder();
    let synth = ["synth", "--preset", "tiny", "-o", "random"];
    assert!(succeed(root.path(), &synth).contains("transformer"));
    assert_eq!(run(root.path(), &synth).status.code(), Some(2), "it is there");
    succeed(root.path(), &[&synth[..], &["--force", "--dtype", "bf16"]].concat());
    succeed(root.path(), &["export", "random", "-o", "package", "--name", "noise"]);
    for path in ["random", "package"] {
        let inspected: Value =
            serde_json::from_str(&succeed(root.path(), &["inspect", path, "--json"]))
                .expect("JSON");
        assert!(
            inspected["networks"].as_array().is_some_and(|networks| networks.len() >= 3),
            "{inspected}"
        );
    }
    succeed(
        root.path(),
        &["generate", "a tree", "--package", "package", "--num-inference-steps=4", "-o", "a.png"],
    );
    let image = image::open(root.path().join("a.png")).expect("an image").to_rgb8();
    assert_eq!(image.dimensions(), (32, 32));
    assert!(image.pixels().any(|pixel| pixel != image.get_pixel(0, 0)), "one colour everywhere");
    assert_eq!(names(root.path()), ["a.png", "package", "random"]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_stops_between_steps_and_leaves_nothing() {
    use std::io::{BufRead, BufReader};

    let root = folder();
    let words = [
        "generate",
        "a tree",
        "--num-inference-steps=5000",
        "--json",
        "-o",
        "a.png",
        "--save-tokens",
        "a.json",
    ];
    let mut child = pocketmuse(root.path(), &words).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut interrupted = false;
    for line in lines {
        if line.expect("UTF-8").contains("\"step\"") && !interrupted {
            let pid = child.id().to_string();
            interrupted =
                Command::new("kill").args(["-INT", &pid]).status().expect("started").success();
        }
    }
    assert_eq!((interrupted, child.wait().expect("ended").code()), (true, Some(130)));
    assert!(names(root.path()).is_empty(), "{:?}", names(root.path()));
}
