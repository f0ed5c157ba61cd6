//! A full-size checkpoint is exported and run within the memory that is promised. Needs 8 GB of
//! disk for some minutes.
#![cfg(target_os = "linux")]

#[path = "support/cost.rs"]
mod cost;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use pocketmuse::Flavour;
use serde_json::Value;

use self::cost::{Peaks, size};

const MB: u64 = 1_000_000;

/// What an export of amused-512 may take: private memory (`RLIMIT_DATA`), ONNX Runtime's while it
/// measures included.
const EXPORT_KIB: u64 = 1_500_000;

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
        Flavour::Int8 => Some(limits("600MB", 800, 560, 320, 1200)),
        Flavour::Int4 => Some(limits("450MB", 600, 400, 320, 1200)),
        _ => None,
    }
}

/// The command in `folder`, ended by the system if it asks for more than the shell's `ulimit`
/// allows.
fn pocketmuse(folder: &Path, limit: &str, kib: u64, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} {kib} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_pocketmuse")]).args(words).current_dir(folder);
    command
}

/// Runs a command that must succeed within the memory of an export.
fn export(folder: &Path, words: &[&str]) {
    let output = pocketmuse(folder, "-d", EXPORT_KIB, words).output().expect("a shell");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an image with the package in `folder`. Returns the peaks, as seen from outside and as the
/// command reports.
fn generate(folder: &Path, flavour: Flavour, limits: &Limits, steps: &str) -> Peaks {
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
            limits.memory,
            "--json",
            "-o",
            "picture.png",
        ],
    ]
    .concat();
    let mut command = pocketmuse(folder, "-d", limits.hard_bytes / 1024, &words);
    // What is prepared once goes where the test's files go.
    let library = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("ORT_DYLIB_PATH", library);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let mut peaks = Peaks::of(&mut child);
    let output = child.wait_with_output().expect("ended");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let done: Value = serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
    for stage in done["stages"].as_array().expect("stages") {
        let rss = stage["peak_rss_bytes"].as_u64().unwrap_or(0);
        peaks.rss = peaks.rss.max(rss);
        println!("{}: {} MB, {} ms", stage["name"], rss / MB, stage["run_ms"]);
    }
    peaks
}

/// One test, because all flavours share the checkpoint.
#[test]
#[ignore = "slow: a full-size checkpoint, 8 GB on disk"]
fn amused_512_is_exported_and_run_within_the_promised_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    export(folder, &["synth", "--preset", "amused-512", "-o", "amused-512"]);
    // Both at once, so that the decoder is measured once.
    export(
        folder,
        &["export", "amused-512", "-o", "package", "--flavour", "int8", "--flavour", "int4"],
    );
    export(folder, &["inspect", "package"]);
    for flavour in Flavour::ALL {
        let Some(limits) = limits(flavour) else { continue };
        let bytes = size(&folder.join("package"), flavour);
        println!("{flavour}: {} MB without the encoder", bytes / MB);
        assert!(
            bytes <= limits.package_bytes,
            "{flavour}: expected {} bytes, found {bytes}",
            limits.package_bytes
        );
        generate(folder, flavour, &limits, "1"); // prepares what is prepared once
        let Peaks { rss, anonymous } = generate(folder, flavour, &limits, "2");
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
    }
}
