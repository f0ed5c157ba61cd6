//! Many images with one command, as a box makes them that nobody watches: numbered, told in events,
//! gone on with after a kill.

#[cfg(target_os = "linux")]
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

#[cfg(target_os = "linux")]
use crate::group;
use crate::support::{self, pocketmuse, run, succeed};

/// Small images of one step each.
const QUICK: [&str; 5] =
    ["--num-inference-steps=1", "--height=32", "--width=32", "--threads=1", "--json"];

/// Files by their names.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry"));
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("UTF-8");
        (name, fs::read(entry.path()).expect("readable"))
    };
    entries.map(read).collect()
}

fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn counts(event: &Value) -> [u64; 4] {
    ["made", "skipped", "failed", "total"].map(|key| event[key].as_u64().expect("a number"))
}

#[test]
fn a_batch_is_told_and_gone_on_with() {
    let root = tempfile::tempdir().expect("a folder");
    fs::write(root.path().join("p.txt"), "# trees\na tree\n\na car\n").expect("written");
    let words = ["generate", "--prompts=p.txt", "--seeds=1-2", "--skip-existing"];
    let words = [&words[..], &["-o", "out/{line:03}-{seed}.png"], &QUICK].concat();
    let told = events(&succeed(root.path(), &words));
    let starts: Vec<_> = told.iter().filter(|event| event["event"] == "start").collect();
    let found: Vec<_> = starts
        .iter()
        .map(|start| {
            let number = |key: &str| start[key].as_u64().expect("a number");
            let file = start["files"][0].as_str().expect("a file").to_owned();
            (file, number("line"), number("job"), number("total"))
        })
        .collect();
    let expected = [("002-1", 2, 1), ("002-2", 2, 2), ("004-1", 4, 3), ("004-2", 4, 4)];
    let expected = expected.map(|(name, line, job)| (format!("out/{name}.png"), line, job, 4));
    assert_eq!(found, expected);
    assert_eq!(counts(told.last().expect("events")), [4, 0, 0, 4]);
    let made = files(&root.path().join("out"));
    assert_eq!(made.len(), 4);

    // Again: nothing is left to do. Then one file less, and another prompt for two.
    let told = events(&succeed(root.path(), &words));
    assert_eq!(counts(told.last().expect("events")), [0, 4, 0, 4]);
    assert_eq!(told.iter().filter(|event| event["event"] == "skipped").count(), 4);
    fs::remove_file(root.path().join("out/004-2.png")).expect("removed");
    fs::write(root.path().join("p.txt"), "# trees\na house\n\na car\n").expect("written");
    let told = events(&succeed(root.path(), &words));
    assert_eq!(counts(told.last().expect("events")), [3, 1, 0, 4]);
    let again = files(&root.path().join("out"));
    let same: Vec<_> = made.iter().map(|(name, bytes)| again[name] == *bytes).collect();
    assert_eq!(same, [false, false, true, true]);

    // Names after the prompt, and no seed: what is there is of any seed.
    let words = ["generate", "--prompts=p.txt", "--skip-existing", "-o", "named/"];
    let words = [&words[..], &QUICK].concat();
    for expected in [[2, 0, 0, 2], [0, 2, 0, 2]] {
        let told = events(&succeed(root.path(), &words));
        assert_eq!(counts(told.last().expect("events")), expected);
    }
    let names: Vec<_> = files(&root.path().join("named")).into_keys().collect();
    assert_eq!(names, ["a-car-4.png", "a-house-2.png"]);
}

#[test]
fn people_are_told_how_far_it_is_and_each_warning_once() {
    let root = tempfile::tempdir().expect("a folder");
    fs::write(root.path().join("p.txt"), "a <lora:b:1>\nb <lora:b:1>\nc <lora:b:1>")
        .expect("written");
    let words = [&["generate", "--prompts=p.txt", "-o", "a.png"], &QUICK[..4]].concat();
    let output = run(root.path(), &words);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("does not change the model").count(), 1, "{stderr}");
    assert!(stderr.contains("\n1 of 3, ") && stderr.contains("\n2 of 3, "), "{stderr}");
    let output = run(root.path(), &[&words[..], &["-q"]].concat());
    assert!(output.status.success() && output.stderr.is_empty());
}

/// What a batch may hold more than after its first images.
const GROWTH_BYTES: u64 = 8 << 20;

/// What the process of a batch of 200 may hold, all in all, where a control group can bound it.
#[cfg(target_os = "linux")]
const GROUP_BYTES: u64 = 128_000_000;

/// Runs a batch to its end. Returns its events and, on Linux, its resident bytes after each image.
fn watched(mut command: Command) -> (Vec<Value>, Vec<u64>) {
    let mut child = command.stderr(Stdio::null()).spawn().expect("started");
    let status = format!("/proc/{}/status", child.id());
    let (mut told, mut held) = (Vec::new(), Vec::new());
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        told.extend(events(&line.expect("UTF-8")));
        let is_done = told.last().is_some_and(|event| event["event"] == "done");
        if let (true, Ok(status)) = (is_done, fs::read_to_string(&status)) {
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kibibytes = resident.and_then(|text| text.trim().strip_suffix(" kB"));
            held.extend(kibibytes.and_then(|number| number.parse::<u64>().ok()).map(|kb| kb << 10));
        }
    }
    assert!(child.wait().expect("ended").success());
    (told, held)
}

/// A small disk, mounted for one command alone, so that nothing is left of it.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_a_batch_and_the_same_line_goes_on() {
    let root = tempfile::tempdir().expect("a folder");
    for folder in ["out", "kept"] {
        fs::create_dir(root.path().join(folder)).expect("made");
    }
    fs::write(root.path().join("p.txt"), "a tree\na car\n".repeat(6)).expect("written");
    let words = ["generate", "--prompts=p.txt", "--seed=3", "--skip-existing", "-o", "out/a.png"];
    let words = [&words[..], &QUICK].concat();
    let on_small_disk = |then: &str, words: &[&str]| {
        let line = format!("mount -t tmpfs -o size=16k tmpfs out && {then}");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &line, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_pocketmuse")).args(words).current_dir(root.path());
        command.envs([support::ONE_THREAD]).output()
    };
    if !on_small_disk("true", &[]).is_ok_and(|output| output.status.success()) {
        return writeln!(std::io::stderr(), "skipped: nothing can be mounted").expect("a terminal");
    }
    let then = "{ \"$@\"; status=$?; cp -a out/. kept && exit $status; }";
    let output = on_small_disk(then, &words).expect("started");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let told = events(&String::from_utf8(output.stdout).expect("UTF-8"));
    let errors: Vec<_> = told.iter().filter(|event| event["event"] == "error").collect();
    assert!(errors.len() == 1 && errors[0]["kind"] == "no_space", "{errors:?}");
    let there = files(&root.path().join("kept"));
    assert!((1..12).contains(&there.len()), "{:?}", there.keys());
    assert!(there.keys().all(|name| name.ends_with(".png")), "{:?}", there.keys());

    fs::remove_dir(root.path().join("out")).expect("empty");
    fs::rename(root.path().join("kept"), root.path().join("out")).expect("renamed");
    let told = events(&succeed(root.path(), &words));
    let made = 12 - there.len() as u64;
    assert_eq!(counts(told.last().expect("events")), [made, there.len() as u64, 0, 12]);
}

/// Kills a batch after some images and starts it again, with the same line. `command` is
/// [`pocketmuse`], or what bounds its memory, too.
fn kill_and_go_on(images: usize, killed_after: usize, command: impl Fn(&Path, &[&str]) -> Command) {
    let root = tempfile::tempdir().expect("a folder");
    let lines: Vec<_> = (1..=images).map(|line| format!("a tree of {line} leaves")).collect();
    fs::write(root.path().join("p.txt"), lines.join("\n")).expect("written");
    let words = ["generate", "--prompts=p.txt", "--seed=3", "--skip-existing", "-o", "out/a.png"];
    let words = [&words[..], &QUICK].concat();
    fs::create_dir(root.path().join("out")).expect("made");
    let mut child = command(root.path(), &words).spawn().expect("started");
    let mut done = 0;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        done += usize::from(line.expect("UTF-8").contains("\"event\":\"done\""));
        if done == killed_after {
            child.kill().expect("killed");
            break;
        }
    }
    child.wait().expect("ended");
    let before = files(&root.path().join("out"));
    let is_image = |name: &&String| !name.starts_with('.');
    let there = before.keys().filter(is_image).count();
    assert!((killed_after..images).contains(&there), "{there}");
    let (told, held) = watched(command(root.path(), &words));
    let [made, skipped, failed, total] = counts(told.last().expect("events"));
    assert_eq!((made + skipped, failed, total), (images as u64, 0, images as u64));
    assert_eq!(skipped, there as u64, "none is made twice");
    let (first, rest) = held.split_at(held.len() / 4);
    let most = |held: &[u64]| held.iter().copied().max();
    assert!(most(rest) <= most(first).map(|bytes| bytes + GROWTH_BYTES), "{held:?}");
    let after = files(&root.path().join("out"));
    let digits = images.to_string().len();
    let expected = (1..=images).map(|line| format!("a-{line:0digits$}.png"));
    assert!(after.keys().filter(is_image).cloned().eq(expected), "{:?}", after.keys());
    for (name, bytes) in before.iter().filter(|(name, _)| is_image(name)) {
        assert!(after[name] == *bytes, "{name}");
    }
}

#[test]
fn a_batch_that_was_killed_goes_on_by_the_same_line() {
    kill_and_go_on(12, 5, pocketmuse);
}

#[test]
#[ignore = "slow: makes two hundred images"]
fn two_hundred_images_survive_a_kill() {
    #[cfg(target_os = "linux")]
    match group::Group::new(GROUP_BYTES) {
        Ok(group) => {
            let bounded = |folder: &Path, words: &[&str]| {
                let mut command = group.command(env!("CARGO_BIN_EXE_pocketmuse"));
                command.args(words).current_dir(folder).stdin(Stdio::null());
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command
            };
            return kill_and_go_on(200, 90, bounded);
        }
        Err(why) => {
            let told = writeln!(std::io::stderr(), "skipped: memory is not bounded: {why}");
            told.expect("a terminal");
        }
    }
    kill_and_go_on(200, 90, pocketmuse);
}

#[test]
fn an_image_goes_to_stdout() {
    let root = tempfile::tempdir().expect("a folder");
    let words = |output| [&["generate", "a tree", "--seed=3", "-o", output], &QUICK[..4]].concat();
    succeed(root.path(), &words("a.png"));
    let output = run(root.path(), &words("-"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == files(root.path())["a.png"]);
    for more in ["--json", "--num-images-per-prompt=2", "--seeds=1-2", "--preview", "--job=j.json"]
    {
        let words: Vec<_> = words("-").into_iter().filter(|word| *word != "--seed=3").collect();
        let refused = run(root.path(), &[&words[..], &[more]].concat());
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && stderr.contains("stdout"), "{more}: {stderr}");
    }
    assert_eq!(files(root.path()).len(), 1);
}

#[test]
fn a_job_file_goes_on_with_its_own_job_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let job = |prompt: &'static str, more: &[&'static str]| {
        [&["generate", prompt, "--job=j.json", "-o", "a.png"], &QUICK[..3], more].concat()
    };
    let long = ["--num-inference-steps=300", "--json"];
    let long =
        [&["generate", "a tree", "--job=j.json", "-o", "a.png"], &QUICK[1..3], &long].concat();
    let mut child = pocketmuse(root.path(), &long).spawn().expect("started");
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        if line.expect("UTF-8").contains("\"step\":7}") {
            child.kill().expect("killed");
            break;
        }
    }
    child.wait().expect("ended");
    let other = run(root.path(), &job("a car", &[]));
    let stderr = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("j.json: expected no unfinished job, or this one"), "{stderr}");
    let told = events(&succeed(root.path(), &long));
    let first = told.iter().find(|event| event["event"] == "step").expect("steps");
    assert!(first["step"].as_u64().is_some_and(|step| step > 7), "it went on: {first}");
    // It is finished: the file may be another job's.
    succeed(root.path(), &job("a car", &["--seed=4"]));
    fs::write(root.path().join("j.json"), "a letter").expect("written");
    let refused = run(root.path(), &job("a car", &[]));
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(files(root.path())["j.json"], b"a letter");
}
