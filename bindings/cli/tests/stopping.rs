//! SIGTERM and SIGHUP leave as little behind as Ctrl-C does, and `--force` removes only what the
//! same command made.
#![cfg(unix)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigHandler, Signal};
use support::{pocketmuse, run, succeed};

/// How long a busy machine may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a folder is looked at.
const PAUSE: Duration = Duration::from_millis(5);

fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("started");
    assert!(status.success());
}

/// A command that a hangup reaches, also where these tests are run by what ignores it, as `nohup`
/// does: a child inherits that.
fn pocketmuse_in_a_terminal(folder: &Path, words: &[&str]) -> Command {
    let mut command = pocketmuse(folder, words);
    #[expect(unsafe_code, reason = "a child's signals are its own only between fork and exec")]
    // SAFETY: the closure makes one system call that is allowed there, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            nix::sys::signal::signal(Signal::SIGHUP, SigHandler::SigDfl)?;
            Ok(())
        });
    }
    command
}

/// Waits until `child` begins to write into `folder`. An export prints nothing before its end, and
/// not every Unix tells of new files: the folder is looked at until it has one.
fn wait_for_a_file(folder: &Path, child: &mut Child) {
    let started = Instant::now();
    while names(folder).is_empty() {
        assert_eq!(child.try_wait().expect("a child"), None, "it begins to write");
        assert!(started.elapsed() < PATIENCE, "it begins to write");
        thread::sleep(PAUSE);
    }
}

#[test]
fn an_export_leaves_nothing_however_it_is_stopped() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-world");
    let checkpoint = checkpoint.to_str().expect("UTF-8");
    for signals in [&["-TERM"][..], &["-HUP"], &["-TERM", "-HUP"]] {
        let root = tempfile::tempdir().expect("a folder");
        let words = ["export", checkpoint, "-o", "package"];
        let mut child = pocketmuse_in_a_terminal(root.path(), &words).spawn().expect("started");
        wait_for_a_file(root.path(), &mut child);
        signals.iter().for_each(|name| signal(child.id(), name));
        assert_eq!(child.wait().expect("ended").code(), Some(130), "{signals:?}");
        assert_eq!(names(root.path()), [""; 0], "{signals:?}");
    }
}

#[test]
fn a_job_leaves_nothing_when_its_terminal_is_closed() {
    let root = tempfile::tempdir().expect("a folder");
    let words = ["generate", "a tree", "--num-inference-steps=5000", "--json", "-o", "a.png"];
    for name in ["-TERM", "-HUP"] {
        let mut child = pocketmuse_in_a_terminal(root.path(), &words).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut sent = false;
        for line in lines {
            if line.expect("UTF-8").contains("\"step\"") && !sent {
                signal(child.id(), name);
                sent = true;
            }
        }
        assert_eq!((sent, child.wait().expect("ended").code()), (true, Some(130)), "{name}");
        assert_eq!(names(root.path()), [""; 0], "{name}");
    }
}

#[test]
fn nohup_is_heeded() {
    let root = tempfile::tempdir().expect("a folder");
    let words = "generate 'a tree' --num-inference-steps=40 --json -o a.png";
    let line = format!("trap '' HUP; exec \"$0\" {words}");
    let mut child = Command::new("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_pocketmuse")])
        .current_dir(root.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        if line.expect("UTF-8").contains("\"step\":1}") {
            signal(child.id(), "-HUP");
        }
    }
    assert!(child.wait().expect("ended").success());
    assert_eq!(names(root.path()), ["a.png"]);
}

#[test]
fn synth_replaces_only_what_it_made() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("d")).expect("made");
    fs::write(root.path().join("d/mine"), "x").expect("written");
    let force = ["synth", "--preset", "tiny", "-o", "d", "--force"];
    let output = run(root.path(), &force);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(root.path().join("d/mine")).expect("still there"), "x");
    fs::remove_file(root.path().join("d/mine")).expect("removed");
    fs::remove_dir(root.path().join("d")).expect("removed");
    succeed(root.path(), &force);
    succeed(root.path(), &force);
    assert_eq!(names(root.path()), ["d"]);
}
