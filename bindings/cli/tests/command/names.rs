//! Names of files: taken once, of any bytes, through links; and prompts from whatever can be read.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::support::{self, names, pocketmuse, run, succeed};

const QUICK: [&str; 2] = ["--num-inference-steps=1", "--threads=1"];

#[test]
fn commands_side_by_side_take_a_name_each() {
    let root = tempfile::tempdir().expect("a folder");
    succeed(root.path(), &[&["generate", "warm up", "-o", "first.png"], &QUICK[..]].concat());
    fs::remove_file(root.path().join("first.png")).expect("removed");
    let children: Vec<_> = ["1", "2", "3", "4"]
        .map(|seed| {
            let words = [&["generate", "a tree", "--seed", seed], &QUICK[..]].concat();
            pocketmuse(root.path(), &words).spawn().expect("started")
        })
        .into_iter()
        .collect();
    let mut printed: Vec<_> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("ended");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
        })
        .collect();
    printed.sort();
    let expected = ["a-tree-2.png", "a-tree-3.png", "a-tree-4.png", "a-tree.png"];
    assert_eq!(
        (&printed[..], names(root.path())),
        (&expected.map(str::to_owned)[..], expected.map(str::to_owned).to_vec())
    );
    let images: std::collections::HashSet<_> =
        expected.map(|name| fs::read(root.path().join(name)).expect("there")).into();
    assert_eq!(images.len(), 4, "each seed has its image");
}

#[test]
fn previews_of_commands_side_by_side_replace_none() {
    let root = tempfile::tempdir().expect("a folder");
    succeed(root.path(), &[&["generate", "warm up", "-o", "first.png"], &QUICK[..]].concat());
    fs::remove_file(root.path().join("first.png")).expect("removed");
    let children = ["1", "2", "3"].map(|seed| {
        let words = [&["generate", "a", "--preview=files", "--seed", seed], &QUICK[..]].concat();
        pocketmuse(root.path(), &words).spawn().expect("started")
    });
    for child in children {
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (previews, images): (Vec<_>, Vec<_>) =
        names(root.path()).into_iter().partition(|name| name.contains("step"));
    assert_eq!(images, ["a-2.png", "a-3.png", "a.png"]);
    let contents: std::collections::HashSet<_> =
        previews.iter().map(|name| fs::read(root.path().join(name)).expect("there")).collect();
    assert_eq!((previews.len(), contents.len()), (3, 3), "{previews:?}: each seed has its preview");
}

/// Whether a file holds a text, as UTF-8 or UTF-16.
fn holds_text(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).expect("there");
    let wide: Vec<_> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    holds(text.as_bytes()) || holds(&wide)
}

#[test]
fn a_private_image_tells_nothing_of_its_request() {
    let root = tempfile::tempdir().expect("a folder");
    let secret = "zebra";
    let at = |name: &str| root.path().join(name);
    let quick = |words: &[&'static str]| [words, &QUICK[..]].concat();
    assert_eq!(
        succeed(root.path(), &quick(&["generate", "a zebra", "--seed=3", "--private"])),
        "picture.png\n"
    );
    succeed(root.path(), &quick(&["generate", "a zebra", "--seed=3", "-o", "told.png"]));
    let pixels = |name: &str| image::open(at(name)).expect("an image").into_rgb8();
    assert!(pixels("picture.png") == pixels("told.png") && holds_text(&at("told.png"), secret));
    let commands: [&[&str]; 7] = [
        &["generate", "a zebra", "--private", "--seeds=1,2", "-o", "b.jpg"],
        &["generate", "--from", "told.png", "--private", "-o", "c.webp"],
        &["edit", "told.png", "a zebra", "--private", "--box=0,0,16,16", "-o", "d.png"],
        &["grid", "a zebra", "--private", "--columns=seed=1,2", "-o", "e.png"],
        &["video", "a zebra", "--private", "--frames=2", "-o", "f.png"],
        &["video", "a zebra", "--private", "--frames=2", "-o", "g.gif"],
        &["generate", "a zebra", "--private", "--job=job.json", "-o", "h.png"],
    ];
    for words in commands {
        succeed(root.path(), &quick(words));
    }
    fs::remove_file(at("h.png")).expect("removed");
    succeed(root.path(), &["resume", "job.json"]);
    succeed(root.path(), &quick(&["generate", "a zebra", "--job=open.json", "-o", "i.png"]));
    assert!(holds_text(&at("i.png"), secret));
    succeed(root.path(), &["resume", "open.json", "--private"]);
    for name in names(root.path()) {
        let told = ["told.png", "job.json", "open.json"].contains(&name.as_str());
        assert_eq!(holds_text(&at(&name), secret), told, "{name}");
    }
    let output = run(root.path(), &["generate", "--from", "h.png"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("found no request in it") && output.status.code() == Some(1));
}

#[cfg(target_os = "linux")]
mod not_utf8 {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Output};

    use super::*;

    /// Runs a command that takes the package at `package` where none is given.
    fn run_at(folder: &Path, package: &OsStr, words: &[&OsStr]) -> Output {
        let mut command = pocketmuse(folder, &[]);
        command.args(words).env("POCKETMUSE_PACKAGE", package).output().expect("started")
    }

    /// One line that says why, or success; never a panic.
    fn holds(words: &[&OsStr], output: &Output) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0..=2)) && !stderr.contains("panicked"), "{words:?}: {stderr}");
        if code != Some(0) {
            let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(errors, 1, "{words:?}: {stderr}");
        }
    }

    #[test]
    fn every_command_works_there_or_says_why_not() {
        let root = tempfile::tempdir().expect("a folder");
        let odd = root.path().join(OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&odd).expect("made");
        let at = |name: &str| odd.join(name).into_os_string();
        let (checkpoint, package, image) = (at("random"), at("package"), at("a.png"));
        let plain = root.path().join("plain").into_os_string(); // whose path a job's file can hold
        let (trace, tokens, job) = (at("trace"), at("tokens.json"), at("job.json"));
        let (sheet, video, prompts) = (at("sheet.png"), at("video.gif"), at("prompts.txt"));
        let (archive, part, frames) = (at("small.pocketmuse"), at("part"), at("frames.png"));
        fs::write(odd.join("prompts.txt"), "a tree\n").expect("written");
        let golden = at("golden.safetensors");
        let os = OsStr::new;
        let steps = os("--num-inference-steps=1");
        let f32 = os("--flavour=f32"); // a bench of integers writes megabytes of profiles
        let cases: [(&[&OsStr], bool); 23] = [
            (&[os("synth"), os("--preset=tiny"), os("-o"), &checkpoint], true),
            (&[os("export"), &checkpoint, os("-o"), &package, f32, os("--name=noise")], true),
            (&[os("package"), &package, os("-o"), &plain], true),
            (&[os("inspect"), &checkpoint, os("--json")], true),
            (&[os("inspect"), &package], true),
            (&[os("verify"), &package, os("--golden"), &golden], false),
            (&[os("generate"), os("a"), steps, os("--package"), &package, os("-o"), &image], true),
            (&[os("generate"), os("a"), steps, os("--json"), os("-o"), &image], true),
            (
                &[
                    os("generate"),
                    os("a"),
                    steps,
                    os("--trace"),
                    &trace,
                    os("--save-tokens"),
                    &tokens,
                    os("--preview=files"),
                    os("-o"),
                    &image,
                ],
                true,
            ),
            (&[os("generate"), os("--from"), &image, os("-o=e.png")], true),
            (&[os("generate"), os("a"), steps, os("--job=job.json"), os("-o"), &image], false),
            (&[os("generate"), os("a"), steps, os("--job"), &job, os("-o=b.png")], true),
            (&[os("edit"), &image, os("a"), steps, os("--job=job.json"), os("-o=c.png")], false),
            (&[os("edit"), &image, os("a"), steps, os("--box=0,0,16,16"), os("-o"), &image], true),
            (&[os("grid"), os("a"), steps, os("--json"), os("-o"), &sheet], true),
            (
                &[os("video"), os("a"), steps, os("--frames=2"), os("--json"), os("-o"), &video],
                true,
            ),
            (&[os("video"), os("a"), steps, os("--frames=2"), os("-o"), &frames], true),
            (
                &[
                    os("video"),
                    os("a"),
                    steps,
                    os("--frames=2"),
                    os("--end"),
                    &image,
                    os("-o"),
                    &video,
                ],
                true,
            ),
            (&[os("package"), &package, os("-o"), &archive], true),
            (&[os("package"), &archive, os("--json"), os("-o"), &part], true),
            (
                &[
                    os("edit"),
                    &image,
                    os("a"),
                    steps,
                    os("--mask"),
                    &image,
                    os("--preview=files"),
                    os("-o"),
                    &image,
                ],
                true,
            ),
            (&[os("grid"), os("a"), steps, os("--image"), &image, os("-o"), &sheet], true),
            (&[os("prepared")], true),
        ];
        for (words, works) in cases {
            let output = run_at(root.path(), &plain, words);
            holds(words, &output);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), works, "{words:?}: {stderr}");
        }
        let many = [os("generate"), os("--prompts"), &prompts, steps, os("-o"), odd.as_os_str()];
        let output = run_at(root.path(), &plain, &many);
        holds(&many, &output);
        assert!(output.stdout.windows(4).any(|bytes| bytes == b"caf\xe9"), "the name as it is");
        let bench = [os("bench"), os("--package"), &package, os("--steps=1"), os("--runs=1")];
        holds(&bench, &run_at(root.path(), &plain, &bench));
        let here = [os("generate"), os("a"), steps, os("--package=package"), os("-o=d.png")];
        let output = run_at(&odd, &plain, &here);
        holds(&here, &output);
        assert!(output.status.success() && odd.join("d.png").exists());
        let [damaged, resumed] = [os("resume"), &job].map(ToOwned::to_owned);
        let resume = [damaged.as_os_str(), &resumed];
        holds(&resume, &run_at(root.path(), &plain, &resume));
    }

    #[test]
    fn json_marks_a_path_that_is_no_text() {
        let root = tempfile::tempdir().expect("a folder");
        let image = root.path().join(OsStr::from_bytes(b"caf\xe9.png"));
        let mut command = pocketmuse(root.path(), &["generate", "a tree", "--json", "-o"]);
        let output = command.arg(&image).args(QUICK).output().expect("started");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        let done: serde_json::Value =
            serde_json::from_str(lines.lines().last().expect("done")).expect("JSON");
        assert_eq!(done["lossy_paths"], true, "{lines}");
        assert!(done["files"][0].as_str().expect("a path").ends_with("caf\u{fffd}.png"), "{lines}");
        assert!(!lines.lines().nth(1).expect("a step").contains("lossy_paths"), "{lines}");
        assert!(image.exists());
    }

    #[test]
    fn a_home_of_such_a_name_is_a_home() {
        let root = tempfile::tempdir().expect("a folder");
        let home = root.path().join(OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&home).expect("made");
        support::fill_cache(&home, pocketmuse::Flavour::F32);
        let library = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
        let mut command = pocketmuse(root.path(), &["generate", "a tree", "-o", "a.png"]);
        command.args(QUICK).env("XDG_CACHE_HOME", &home).env("ORT_DYLIB_PATH", library);
        let output = command.output().expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[cfg(unix)]
fn what_is_written_to_a_link_goes_to_its_target() {
    use std::os::unix::fs::symlink;

    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("far")).expect("made");
    let far = |name: &str| root.path().join("far").join(name);
    for (link, target) in [("a.png", "a"), ("t.json", "t"), ("s.png", "s"), ("v.gif", "v")] {
        symlink(Path::new("far").join(target), root.path().join(link)).expect("linked");
    }
    fs::write(far("a"), "old").expect("written");
    let words = [&["generate", "a tree", "-o", "a.png", "--save-tokens", "t.json"], &QUICK[..]];
    assert_eq!(succeed(root.path(), &words.concat()), "a.png\n");
    succeed(root.path(), &[&["grid", "a tree", "-o", "s.png"], &QUICK[..]].concat());
    succeed(root.path(), &[&["video", "a", "--frames=2", "-o", "v.gif"], &QUICK[..]].concat());
    assert!(
        names(root.path())
            .iter()
            .all(|name| { name == "far" || root.path().join(name).is_symlink() })
    );
    assert_eq!(names(&root.path().join("far")), ["a", "s", "t", "v"]);
    assert!(fs::read(far("a")).expect("there").starts_with(b"\x89PNG"));
}

#[test]
fn prompts_come_from_files_pipes_and_stdin() {
    let root = tempfile::tempdir().expect("a folder");
    let images = |printed: &str| -> Vec<String> { printed.lines().map(str::to_owned).collect() };
    let expected = ["a-1.png", "a-3.png"].map(str::to_owned);
    let words = |file: &'static str| {
        [&["generate", "--prompts", file, "--seed=3", "-o", "a.png"], &QUICK[..]].concat()
    };
    fs::write(root.path().join("prompts.txt"), "a tree\r\ra car\r").expect("written");
    assert_eq!(images(&succeed(root.path(), &words("prompts.txt"))), expected);

    let mut child =
        pocketmuse(root.path(), &words("-")).stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"a tree\n\na car").expect("taken");
    drop(stdin);
    let output = child.wait_with_output().expect("ended");
    assert_eq!(images(&String::from_utf8_lossy(&output.stdout)), expected);

    if cfg!(target_os = "linux") {
        let mut shell = std::process::Command::new("bash");
        let line = "exec \"$0\" generate --prompts <(printf 'a tree\\n\\na car') --seed=3 -o a.png \
                    --num-inference-steps=1 --threads=1";
        let shell = shell.args(["-c", line, env!("CARGO_BIN_EXE_pocketmuse")]);
        let output = shell.current_dir(root.path()).output().expect("a shell");
        assert_eq!(images(&String::from_utf8_lossy(&output.stdout)), expected);
        let output = run(root.path(), &words("/dev/zero"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
    }
}

/// Each of the seeds used to hold all lines once more.
#[test]
#[cfg(target_os = "linux")]
fn a_long_file_of_prompts_takes_no_more_memory_than_it_is_long() {
    let root = tempfile::tempdir().expect("a folder");
    // Few, but enough that a pipe does not hold what is said of them: the process is still there.
    let few = peak_with_prompts(root.path(), &"a\n".repeat(10_000).into_bytes());
    let mut text = "a\n".repeat(4_000_000).into_bytes();
    text.extend_from_slice(b"\xff\n");
    let many = peak_with_prompts(root.path(), &text);
    let (taken, length) = (many - few, text.len() as u64);
    println!("{taken} bytes for {length} of prompts, beside {few}");
    // What is not the text: the pages that differ from one process to the next.
    assert!(taken <= length + (1 << 20), "{taken} bytes for {length} of prompts");
}

/// The most memory that `generate` had in use, in bytes, when the first lines of a file of prompts
/// had failed: the output folder is missing, so that each does at once.
#[cfg(target_os = "linux")]
fn peak_with_prompts(folder: &Path, text: &[u8]) -> u64 {
    use std::io::{BufRead, BufReader};

    fs::write(folder.join("prompts.txt"), text).expect("written");
    let words = ["generate", "--prompts=prompts.txt", "--seeds=1,2,3", "--package=none"];
    let words = [&words[..], &["-o", "none/a.png"]].concat();
    let mut child = pocketmuse(folder, &words).spawn().expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    for seed in 1..=3 {
        let line = lines.next().expect("a line").expect("UTF-8");
        assert!(line.starts_with(&format!("error: line 1, seed {seed}: ")), "{line}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a process");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kibibytes = peak.trim().strip_suffix("kB").expect("a unit").trim().parse::<u64>();
    kibibytes.expect("a number") * 1024
}

#[test]
fn an_image_named_by_no_letter_has_a_name() {
    let root = tempfile::tempdir().expect("a folder");
    let printed = succeed(root.path(), &[&["generate", "!?"], &QUICK[..]].concat());
    assert_eq!(printed, "picture.png\n");
    assert_eq!(PathBuf::from(printed.trim_end()).extension().expect("an ending"), "png");
}
