//! SIGTERM and SIGHUP leave as little behind as Ctrl-C does, and `--force` removes only what the
//! same command made.
#![cfg(unix)]

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

use crate::support::{self, names, pocketmuse, run, succeed};

/// How long a busy machine may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a folder is looked at.
const PAUSE: Duration = Duration::from_millis(5);

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

/// A video's bytes: its one file, or all its frames.
fn film(root: &Path, name: &str) -> Vec<Vec<u8>> {
    let (stem, ending) = name.split_once('.').expect("an ending");
    let is_part = |file: &String| file.starts_with(stem) && file.ends_with(ending);
    let files = names(root).into_iter().filter(is_part);
    files.map(|file| fs::read(root.join(file)).expect("there")).collect()
}

#[test]
fn a_killed_video_is_resumed_to_the_same_bytes() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    const PLAIN: [&str; 5] =
        ["video", "a red tree", "--seed=3", "--frames=2", "--num-inference-steps=2"];
    const SMALL: [&str; 5] =
        ["--width=64", "--height=64", "--motion=-20,0", "--remask=0.3", "--json"];
    // Killed after the start, after each of two steps, after the frame, after the steps of another.
    for (ending, kills) in [("webp", &[1, 2, 3, 4, 5, 6][..]), ("gif", &[5]), ("png", &[5])] {
        let [whole, name] = ["whole", "a"].map(|stem| format!("{stem}.{ending}"));
        succeed(root, &[&PLAIN[..], &SMALL, &["-o", &whole]].concat());
        for &events in kills {
            let words = [&PLAIN[..], &SMALL, &["-o", &name, "--job", "job.json"]].concat();
            let mut child = pocketmuse(root, &words).spawn().expect("started");
            let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            assert_eq!(lines.take(events).filter(|line| line.is_ok()).count(), events);
            child.kill().expect("killed");
            child.wait().expect("ended");
            assert_eq!(film(root, &name), [b""; 0], "it is not finished");
            succeed(root, &["resume", "job.json"]);
            assert_eq!(film(root, &name), film(root, &whole), "{ending}: after {events} events");
            assert!(!root.join("job.json.frames").exists(), "{ending}: frames are left");
            names(root).iter().filter(|file| file.starts_with("a")).for_each(|file| {
                fs::remove_file(root.join(file)).expect("removed");
            });
            fs::remove_file(root.join("job.json")).expect("removed");
        }
    }
}

#[test]
fn a_video_that_goes_on_replaces_nothing_of_others_and_takes_no_other_frames() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    let words = ["video", "a tree", "--frames=3", "--num-inference-steps=1", "--width=64"];
    let more = ["--height=64", "--remask=0.9", "--json", "--job=job.json", "-o=a.webp"];
    let mut child = pocketmuse(root, &[&words[..], &more].concat()).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.take(4).count(), 4, "the start, a frame, the next one's step");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let refused = |words: &[&str], expected: &str| {
        let output = run(root, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "{words:?}: {stderr}");
    };
    refused(&["resume", "job.json", "--preview"], "preview: expected images to look at");
    refused(&["resume", "job.json", "--trace=why"], "trace: expected images to look at");
    let other = [&words[..], &more, &["--remask=0.8"]].concat();
    let other: Vec<_> = other.into_iter().filter(|word| *word != "--remask=0.9").collect();
    refused(&other, "expected no unfinished job, or this one, found another");
    fs::write(root.join("a.webp"), "a letter").expect("written");
    refused(&["resume", "job.json"], "found something else: move it away");
    let frame = root.join("job.json.frames/0000.png");
    let kept = fs::read(&frame).expect("a frame");
    image::RgbImage::new(64, 64).save(&frame).expect("written");
    refused(&["resume", "job.json", "--force"], "expected the frames that the job made");
    fs::write(&frame, kept).expect("written");
    succeed(root, &[&words[..], &more].concat()); // the same line goes on
    let film = fs::read(root.join("a.webp")).expect("made");
    succeed(root, &["resume", "job.json"]); // once more, from the first frame
    assert_eq!(fs::read(root.join("a.webp")).expect("made"), film);
}

#[test]
fn nohup_is_heeded() {
    let root = tempfile::tempdir().expect("a folder");
    let words = "generate 'a tree' --num-inference-steps=40 --json -o a.png";
    let line = format!("trap '' HUP; exec \"$0\" {words}");
    let mut child = Command::new("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_pocketmuse")])
        .current_dir(root.path())
        .envs([support::ONE_THREAD])
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
