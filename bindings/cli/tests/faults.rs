//! Kills at any moment, caches that are damaged in any way and disks that are full leave what was
//! there or what was wanted, whole, and nothing else.
#![cfg(target_os = "linux")]

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use pocketmuse::{Flavour, library};
use tempfile::TempDir;

/// How often a child that is to be killed is looked at.
const PAUSE: Duration = Duration::from_millis(1);

/// A folder to work in with a package, a cache of its own, and ONNX Runtime from the user's.
struct Case {
    root: TempDir,
    library: PathBuf,
}

impl Case {
    fn new() -> Self {
        let library = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
        let cache = pocketmuse_cli::bundled::cache_folder().expect("a cache of this user");
        let package =
            pocketmuse_cli::bundled::package(&cache, Flavour::F32, |_| ControlFlow::Continue(()));
        let case =
            Self { root: tempfile::tempdir().expect("a folder"), library: library.to_owned() };
        copy(&package.expect("exported"), &case.at("package"));
        fs::create_dir(case.at("out")).expect("made");
        case
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A command in the folder `out`.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketmuse"));
        command.current_dir(self.at("out")).args(words).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.at("cache")).env(library::VARIABLE, &self.library);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("started")
    }

    fn succeed(&self, words: &[&str]) {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a command whose words nobody reads.
    fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at("out").join(name)).expect(name)
    }

    /// What lies in `out`.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("out")).expect("readable");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Removes from `out` all but `kept`.
    fn clear(&self, kept: &[&str]) {
        for name in self.names().iter().filter(|name| !kept.contains(&name.as_str())) {
            let path = self.at("out").join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                .expect("removed");
        }
    }

    /// What the cache says of its packages.
    fn prepared(&self) -> String {
        String::from_utf8(self.run(&["prepared"]).stdout).expect("UTF-8")
    }

    /// Lets the package be old enough to be trusted when it was checked: a file of a second ago may
    /// change again without a new time.
    fn settle(&self) {
        let started = Instant::now();
        while !self.prepared().contains("9 files checked") {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.prepared());
            self.succeed(&words("settling.png"));
        }
        self.clear(&[]);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).expect("copied");
        }
    }
}

/// A small image of few steps.
fn words(output: &str) -> Vec<&str> {
    let image = ["generate", "a tree", "--seed=3", "--num-inference-steps=3", "--threads=1"];
    let small = ["--height=64", "--width=64", "--package=../package", "-o", output];
    [&image[..], &small].concat()
}

/// Runs `start` to its end, and then kills it `kills` times at moments spread over as long, each
/// time looking at what is left.
fn kill_at_every_moment(kills: u32, start: impl Fn() -> Child, look: impl Fn(&str)) {
    let started = Instant::now();
    assert!(start().wait().expect("ended").success());
    let whole = started.elapsed();
    look("not killed");
    for moment in 0..kills {
        let (mut child, started) = (start(), Instant::now());
        while started.elapsed() < whole * moment / kills
            && child.try_wait().expect("a child").is_none()
        {
            thread::sleep(PAUSE);
        }
        let _ = child.kill(); // which may be done
        child.wait().expect("ended");
        look(&format!("killed at moment {moment} of {kills}"));
    }
}

/// What killed processes leave has a temporary name.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".part")
}

#[test]
#[ignore = "slow: kills twenty jobs"]
fn jobs_that_were_killed_go_on_to_the_same_bytes() {
    let case = Case::new();
    case.succeed(&words("whole.png"));
    let whole = case.read("whole.png");
    let start = || {
        case.clear(&["whole.png"]);
        case.start(&[&words("a.png")[..], &["--job", "job.json"]].concat())
    };
    kill_at_every_moment(20, start, |moment| {
        if case.at("out").join("job.json").exists() {
            case.succeed(&["resume", "job.json", "--threads=1"]);
            assert!(case.read("a.png") == whole, "{moment}");
            case.succeed(&["resume", "job.json", "--threads=1"]); // its own image may be replaced
        }
        let others = case.names().into_iter().filter(|name| !is_leftover(name));
        let known = ["a.png", "job.json", "whole.png"];
        assert!(others.into_iter().all(|name| known.contains(&name.as_str())), "{moment}");
    });
}

#[test]
fn resume_replaces_nothing_of_others() {
    let case = Case::new();
    case.succeed(&[&words("a.jpg")[..], &["--job", "job.json"]].concat());
    let made = case.read("a.jpg");
    case.succeed(&["resume", "job.json"]);
    assert!(case.read("a.jpg") == made, "its own may be replaced, whatever the format");
    fs::write(case.at("out/a.jpg"), "a letter").expect("written");
    let refused = case.run(&["resume", "job.json"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("found something else: move it away, or give --force"), "{stderr}");
    assert_eq!(case.read("a.jpg"), b"a letter");
    case.succeed(&["resume", "job.json", "--force"]);
    assert!(case.read("a.jpg") == made);
}

#[test]
#[ignore = "slow: kills one of two processes a dozen times"]
fn two_that_prepare_a_package_and_one_killed_leave_a_sound_cache() {
    let case = Case::new();
    case.succeed(&words("whole.png"));
    let whole = case.read("whole.png");
    case.settle();
    let start = || {
        let _ = fs::remove_dir_all(case.at("cache"));
        case.start(&words("killed.png"))
    };
    let start_two = || {
        let child = start();
        let mut other = case.start(&words("other.png"));
        assert!(other.wait().expect("ended").success());
        child
    };
    kill_at_every_moment(6, start_two, |moment| {
        assert!(case.read("other.png") == whole, "{moment}");
    });
    kill_at_every_moment(6, start, |moment| {
        case.succeed(&words("next.png"));
        assert!(case.read("next.png") == whole, "{moment}");
        let listed = case.prepared();
        assert!(listed.contains("9 files checked, 3 graphs optimised"), "{listed}");
    });
}

#[test]
#[ignore = "slow: kills a dozen grids"]
fn a_grid_that_is_killed_is_there_whole_or_not_at_all() {
    let case = Case::new();
    let grid = ["grid", "a tree", "a boat", "--columns=seed=1,2", "--seed=1"];
    let small = ["--num-inference-steps=1", "--height=64", "--width=64", "--threads=1"];
    let words = [&grid[..], &small, &["--package=../package", "-o", "g.png"]].concat();
    case.succeed(&words);
    let whole = case.read("g.png");
    let start = || {
        case.clear(&[]);
        case.start(&words)
    };
    kill_at_every_moment(12, start, |moment| {
        for name in case.names().iter().filter(|name| !is_leftover(name)) {
            assert_eq!(name, "g.png", "{moment}");
            assert!(case.read("g.png") == whole, "{moment}");
        }
    });
}

#[test]
#[ignore = "slow: damages each file of a cache in eight ways"]
fn a_damaged_cache_changes_no_image() {
    use std::os::unix::fs::symlink;
    type Damage = fn(&Path, &[u8]);
    let damages: [(&str, Damage); 8] = [
        ("cut", |path, bytes| fs::write(path, &bytes[..bytes.len() / 2]).expect("written")),
        ("empty", |path, _| fs::write(path, "").expect("written")),
        ("of others", |path, _| fs::write(path, "{\"a\": [").expect("written")),
        ("one bit", |path, bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("written");
        }),
        ("a folder", |path, _| {
            fs::remove_file(path).and_then(|()| fs::create_dir(path)).expect("made")
        }),
        ("a link to nothing", |path, _| {
            fs::remove_file(path).and_then(|()| symlink("nowhere", path)).expect("linked")
        }),
        ("a link to what never ends", |path, _| {
            fs::remove_file(path).and_then(|()| symlink("/dev/zero", path)).expect("linked")
        }),
        ("huge", |path, _| {
            fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("sparse")
        }),
    ];
    let case = Case::new();
    case.settle();
    case.succeed(&words("whole.png"));
    let whole = case.read("whole.png");
    let cache = case.at("cache/pocketmuse/prepared");
    let kept = case.at("kept");
    copy(&cache, &kept);
    let mut tried = 0;
    for entry in fs::read_dir(&kept).expect("readable") {
        let source = entry.expect("an entry").path();
        let bytes = fs::read(&source).expect("a file");
        for (name, damage) in damages {
            fs::remove_dir_all(&cache).expect("removed");
            copy(&kept, &cache);
            let path = cache.join(source.file_name().expect("a name"));
            damage(&path, &bytes);
            case.succeed(&words("a.png"));
            assert!(case.read("a.png") == whole, "{} is {name}", path.display());
            tried += 1;
        }
    }
    assert!(tried >= 16, "{tried}");
}

/// Little address space is an error of one line, wherever it ends.
#[test]
fn too_little_address_space_is_said() {
    let case = Case::new();
    let image = words("a.png");
    for kibibytes in [64_000, 80_000, 90_000, 100_000] {
        let mut command = Command::new("sh");
        let line = format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\"");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_pocketmuse")]).args(&image);
        command.current_dir(case.at("out")).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", case.at("cache")).env(library::VARIABLE, &case.library);
        let output = command.output().expect("a shell");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{kibibytes}: {stderr}");
        assert!(stderr.contains("MiB of address space for ONNX Runtime"), "{kibibytes}: {stderr}");
        assert_eq!(case.names(), [""; 0], "{kibibytes}");
    }
}

/// A file system without room fails as a limit on the size of files does: in the middle of a write.
#[test]
#[ignore = "slow: runs every command that writes with full disks"]
fn a_full_disk_is_one_error_and_leaves_nothing() {
    let case = Case::new();
    case.settle();
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny-world");
    let checkpoint = checkpoint.to_str().expect("UTF-8");
    let image = words("a.png");
    let job = [&words("a.png")[..], &["--job", "job.json"]].concat();
    let video = ["video", "a tree", "--motion=-4,0", "--frames=3", "--num-inference-steps=1"];
    let small = ["--height=64", "--width=64", "--threads=1", "--package=../package"];
    let video = [&video[..], &small, &["-o", "a.gif"]].concat();
    let grid = ["grid", "a tree", "a boat", "--num-inference-steps=1", "-o", "g.png"];
    let grid = [&grid[..], &small].concat();
    // Words, and the blocks of 512 bytes that a file may have: too few for what each writes.
    let cases: [(&[&str], &[u32]); 7] = [
        (&image, &[0, 1, 8]),
        (&job, &[0, 1, 2]),
        (&video, &[0, 1, 8]),
        (&grid, &[0, 1, 8]),
        (&["export", checkpoint, "-o", "p", "--flavour=f32"], &[0, 8, 1024]),
        (&["synth", "--preset=tiny", "-o", "c"], &[0, 8, 64]),
        (&["package", "../package", "-o", "p.pocketmuse"], &[0, 8, 1024]),
    ];
    for (words, limits) in cases {
        for blocks in limits {
            let mut command = Command::new("sh");
            let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            command.args(["-c", &line, env!("CARGO_BIN_EXE_pocketmuse")]).args(words);
            command.current_dir(case.at("out")).stdin(Stdio::null());
            command.env("XDG_CACHE_HOME", case.at("cache")).env(library::VARIABLE, &case.library);
            let output = command.output().expect("a shell");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{words:?}, {blocks}: {stderr}");
            let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(errors, 1, "{words:?}, {blocks}: {stderr}");
            let left = case.names();
            let is_job = |names: &[String]| names.iter().all(|name| name == "job.json");
            assert!(is_job(&left), "{words:?}, {blocks}: {left:?}");
            case.clear(&[]);
        }
        case.succeed(words); // with room it is made
        case.clear(&[]);
    }
}
