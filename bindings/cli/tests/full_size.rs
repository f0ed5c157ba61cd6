//! A full-size checkpoint is exported and run within the memory that is promised. Needs 8 GB of
//! disk for some minutes.
#![cfg(target_os = "linux")]

#[path = "support/cost.rs"]
mod cost;
#[path = "support/group.rs"]
mod group;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use pocketmuse::{Budget, Flavour};
use pocketmuse_measure::bench::forget;
use serde_json::Value;

use self::{
    cost::{Peaks, size},
    group::Group,
};

const MB: u64 = 1_000_000;

/// What an export of amused-512 may take: private memory (`RLIMIT_DATA`), ONNX Runtime's while it
/// measures included.
const EXPORT_KIB: u64 = 1_500_000;

/// What a control group allows that int8 runs in, pages of its files included.
const GROUP_BYTES: u64 = 330 * MB;

/// What a flavour of amused-512 may take, at most, at 512 x 512 pixels, stage by stage. All are of
/// the second image of a package, when what the first one prepares is there.
struct Limits {
    /// The budget that is asked for.
    memory: &'static str,
    /// The package, without the encoder, which only editing needs.
    package_bytes: u64,
    /// Memory in use, file pages included: `VmHWM`.
    rss_bytes: u64,
    /// Of these, memory that no file backs: `RssAnon`.
    anonymous_bytes: u64,
    /// Address space that is private and writable, mapped weights included (`RLIMIT_DATA`): the
    /// system refuses more. The memory in use and room for what an allocator reserves.
    hard_bytes: u64,
}

/// The promise for a flavour, if there is one.
fn limits(flavour: Flavour) -> Option<Limits> {
    let limits = |memory, package, rss, anonymous, hard| Limits {
        memory,
        package_bytes: package * MB,
        rss_bytes: rss * MB,
        anonymous_bytes: anonymous * MB,
        hard_bytes: hard * MB,
    };
    match flavour {
        Flavour::Int8 => Some(limits("235MB", 800, 215, 160, 800)),
        Flavour::Int4 => Some(limits("450MB", 600, 400, 320, 1200)),
        _ => None,
    }
}

/// The command in `folder`, after what `shell` runs `first`.
fn pocketmuse((mut shell, first): (Command, &str), folder: &Path, words: &[&str]) -> Command {
    let script = format!("{first} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_pocketmuse")]).args(words).current_dir(folder);
    shell
}

fn shell() -> Command {
    Command::new("sh")
}

/// Has the system end a command that asks for more.
fn ulimit(bytes: u64) -> String {
    format!("ulimit -d {}", bytes / 1024)
}

/// Runs a command that must succeed within the memory of an export.
fn export(folder: &Path, words: &[&str]) {
    let bounded = (shell(), &*ulimit(EXPORT_KIB * 1024));
    let output = pocketmuse(bounded, folder, words).output().expect("a shell");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an image with the package in `folder` within a budget, after what a shell runs first.
/// Returns it and the peaks, as seen from outside and as the command reports.
fn generate(
    folder: &Path,
    (flavour, steps): (Flavour, &str),
    memory: &str,
    begin: (Command, &str),
) -> (Vec<u8>, Peaks) {
    let words = [
        "generate",
        "a red lighthouse",
        "--package=package",
        "--seed=7",
        "--num-inference-steps",
        steps,
    ];
    let words = [
        &words[..],
        &[
            "--flavour",
            flavour.name(),
            "--threads=2",
            "--memory",
            memory,
            "--json",
            "-o",
            "picture.png",
        ],
    ]
    .concat();
    let mut command = prepared(pocketmuse(begin, folder, &words), folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let mut peaks = Peaks::of(&mut child);
    let output = child.wait_with_output().expect("ended");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let done: Value = serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
    for stage in done["stages"].as_array().expect("stages") {
        let rss = stage["peak_rss_bytes"].as_u64().unwrap_or(0);
        peaks.rss = peaks.rss.max(rss);
        let name = stage["name"].as_str().expect("a name");
        let run_ms = stage["run_ms"].as_f64().expect("a time");
        println!("  {name}: {} MB, {run_ms:.0} ms", rss / MB);
    }
    (fs::read(folder.join("picture.png")).expect("an image"), peaks)
}

/// The same command, which keeps what is prepared once where the test's files go.
fn prepared(mut command: Command, folder: &Path) -> Command {
    let library = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("ORT_DYLIB_PATH", library);
    command
}

/// A budget that is too small is refused before anything is loaded, with the smallest that does:
/// what was promised, or less.
fn assert_refused_below(folder: &Path, flavour: Flavour, promised: &str) {
    let words =
        ["generate", "a", "--package=package", "--flavour", flavour.name(), "--memory=64MB"];
    let words = [&words[..], &["--threads=2"]].concat();
    let mut command = prepared(pocketmuse((shell(), "true"), folder, &words), folder);
    let output = command.output().expect("a shell");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let least = said.split_once("expected a budget of at least ").map(|(_, rest)| rest);
    let least = least.and_then(|rest| rest.split_once(' ')).expect(&said).0;
    println!("{flavour}: the smallest budget is {least}");
    let [least, promised] = [least, promised].map(|budget| match budget.parse() {
        Ok(Budget::Bytes(bytes)) => bytes,
        _ => panic!("expected a size, found {budget}"),
    });
    assert!(!output.status.success() && least <= promised, "{flavour}: {said}");
}

/// One test, because all flavours share the checkpoint.
#[test]
#[ignore = "slow: a full-size checkpoint, 8 GB on disk"]
fn amused_512_is_exported_and_run_within_the_promised_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    export(folder, &["synth", "--preset", "amused-512", "-o", "amused-512"]);
    // Random weights make the same of any prompt.
    fs::write(folder.join("amused-512/calibration.txt"), "a house\na tree\n").expect("written");
    // Both at once, so that the decoder is measured once.
    export(
        folder,
        &["export", "amused-512", "-o", "package", "--flavour", "int8", "--flavour", "int4"],
    );
    export(folder, &["inspect", "package"]);
    let mut image_of_int8 = None;
    for flavour in Flavour::ALL {
        let Some(limits) = limits(flavour) else { continue };
        let bytes = size(&folder.join("package"), flavour);
        println!("{flavour}: {} MB without the encoder", bytes / MB);
        assert!(
            bytes <= limits.package_bytes,
            "{flavour}: expected {} bytes, found {bytes}",
            limits.package_bytes
        );
        assert_refused_below(folder, flavour, limits.memory);
        let (memory, limit) = (limits.memory, ulimit(limits.hard_bytes));
        let bounded = || (shell(), &*limit);
        generate(folder, (flavour, "1"), memory, bounded()); // prepares what is prepared once
        let (image, Peaks { rss, anonymous }) = generate(folder, (flavour, "2"), memory, bounded());
        let (packed, _) = generate(folder, (flavour, "2"), "4GB", (shell(), "true"));
        assert!(packed == image, "{flavour}: another image with another budget");
        println!("{flavour}: peak {} MB, {} MB of it anonymous", rss / MB, anonymous / MB);
        assert!(
            rss <= limits.rss_bytes,
            "{flavour}: expected {} bytes, found {rss}",
            limits.rss_bytes
        );
        let expected = limits.anonymous_bytes;
        assert!(
            0 < anonymous && anonymous <= expected,
            "{flavour}: expected {expected} bytes, found {anonymous}"
        );
        if flavour == Flavour::Int8 {
            image_of_int8 = Some(image);
        }
    }
    in_a_control_group(folder, &image_of_int8.expect("it was made"));
}

/// Where the system lets no page of the package stay, either: in a control group, from a disk that
/// was not read before.
fn in_a_control_group(folder: &Path, expected: &[u8]) {
    let group = match Group::new(GROUP_BYTES) {
        Ok(group) => group,
        Err(error) => return println!("no control group can be made here: {error}"),
    };
    for file in fs::read_dir(folder.join("package/int8")).expect("a package") {
        assert!(forget(&file.expect("a file").path()), "its pages stay");
    }
    let started = Instant::now();
    let begin = (group.command("sh"), "true");
    let (image, _) = generate(folder, (Flavour::Int8, "2"), "235MB", begin);
    assert!(image == expected, "another image in a control group");
    println!(
        "int8: in a control group of {} MB, cold: {:.1} s",
        GROUP_BYTES / MB,
        started.elapsed().as_secs_f64()
    );
}
