//! Kills at any moment, caches that are damaged in any way and disks that are full leave what was
//! there or what was wanted, whole, and nothing else.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use pocketmuse::{Flavour, library};
use tempfile::TempDir;

use crate::support;

/// How often a child that is to be killed is looked at.
const PAUSE: Duration = Duration::from_millis(1);
/// Cases that are killed side by side.
const WORKERS: u32 = 2;

/// A package, a folder to work in, a cache of its own, and ONNX Runtime from the user's.
#[derive(Clone)]
struct Case {
    root: Arc<TempDir>,
    out: PathBuf,
    cache: PathBuf,
    library: PathBuf,
}

impl Case {
    fn new() -> Self {
        let library = pocketmuse_cli::runtime::start(false).expect("ONNX Runtime").path();
        let root = Arc::new(tempfile::tempdir().expect("a folder"));
        support::folders::link_folder(
            &support::folders::flavoured_package(Flavour::F32),
            &root.path().join("package"),
        );
        Self::of(root, library, "")
    }

    fn of(root: Arc<TempDir>, library: &Path, mark: &str) -> Self {
        let at = |name: &str| root.path().join(format!("{name}{mark}"));
        let (out, cache, library) = (at("out"), at("cache"), library.to_owned());
        fs::create_dir_all(&out).expect("made");
        Self { root, out, cache, library }
    }

    /// Another folder to work in and another cache, with the same package.
    fn beside(&self, number: u32) -> Self {
        Self::of(self.root.clone(), &self.library, &format!("-{number}"))
    }

    /// A command in the folder `out`.
    fn command(&self, words: &[&str]) -> Command {
        self.set_up(Command::new(env!("CARGO_BIN_EXE_pocketmuse")), words)
    }

    /// A command that a shell first limits.
    fn limited(&self, limit: &str, words: &[&str]) -> Output {
        let mut command = Command::new("sh");
        let line = format!("{limit}; exec \"$0\" \"$@\"");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_pocketmuse")]);
        self.set_up(command, words).output().expect("a shell")
    }

    fn set_up(&self, mut command: Command, words: &[&str]) -> Command {
        command.current_dir(&self.out).args(words).envs([support::ONE_THREAD]).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", &self.cache).env(library::VARIABLE, &self.library);
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
        fs::read(self.out.join(name)).expect(name)
    }

    /// What lies in `out`.
    fn names(&self) -> Vec<String> {
        support::names(&self.out)
    }

    /// Removes from `out` all but `kept`.
    fn clear(&self, kept: &[&str]) {
        for name in self.names().iter().filter(|name| !kept.contains(&name.as_str())) {
            let path = self.out.join(name);
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

/// A small image of few steps.
fn words(output: &str) -> Vec<&str> {
    let image = ["generate", "a tree", "--seed=3", "--num-inference-steps=3", "--threads=1"];
    let small = ["--height=64", "--width=64", "--package=../package", "-o", output];
    [&image[..], &small].concat()
}

/// Runs `start` to its end, and then kills it `kills` times at moments spread over as long, each
/// time looking at what is left. Some of it side by side, in folders and caches of their own.
fn kill_at_every_moment(
    kills: u32,
    case: &Case,
    start: impl Fn(&Case) -> Child + Sync,
    look: impl Fn(&Case, &str) + Sync,
) {
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (case, start, look) = (case.beside(worker), &start, &look);
            scope.spawn(move || {
                let end = || assert!(start(&case).wait().expect("ended").success());
                end(); // what only a first time takes is over
                let started = Instant::now();
                end();
                let whole = started.elapsed();
                look(&case, "not killed");
                for moment in (worker..kills).step_by(WORKERS as usize) {
                    kill_after(whole * moment / kills, start(&case));
                    look(&case, &format!("killed at moment {moment} of {kills}"));
                }
            });
        }
    });
}

fn kill_after(time: Duration, mut child: Child) {
    let started = Instant::now();
    while started.elapsed() < time && child.try_wait().expect("a child").is_none() {
        thread::sleep(PAUSE);
    }
    let _ = child.kill(); // which may be done
    child.wait().expect("ended");
}

/// What killed processes leave has a temporary name.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".part")
}

/// Kills jobs whose images are files of each format.
fn kill_jobs(kills: u32) {
    let case = Case::new();
    for (image, kills) in
        [("a.png", kills / 2), ("a.jpg", kills.div_ceil(4)), ("a.webp", kills / 4)]
    {
        case.succeed(&words(image));
        let whole = case.read(image);
        let start = |case: &Case| {
            case.clear(&[]);
            case.start(&[&words(image)[..], &["--job", "job.json"]].concat())
        };
        kill_at_every_moment(kills, &case, start, |case, moment| {
            if case.out.join("job.json").exists() {
                case.succeed(&["resume", "job.json", "--threads=1"]);
                assert!(case.read(image) == whole, "{image} {moment}");
                case.succeed(&["resume", "job.json", "--threads=1"]); // its own may be replaced
            }
            let others = case.names().into_iter().filter(|name| !is_leftover(name));
            let known = [image, "job.json"];
            assert!(others.into_iter().all(|name| known.contains(&name.as_str())), "{moment}");
        });
    }
}

#[test]
fn jobs_that_were_killed_go_on_to_the_same_bytes() {
    kill_jobs(4);
}

#[test]
#[ignore = "slow: kills fifty jobs"]
fn fifty_jobs_that_were_killed_go_on_to_the_same_bytes() {
    kill_jobs(50);
}

#[test]
fn resume_replaces_nothing_of_others() {
    let case = Case::new();
    case.succeed(&[&words("a.jpg")[..], &["--job", "job.json"]].concat());
    let made = case.read("a.jpg");
    case.succeed(&["resume", "job.json"]);
    assert!(case.read("a.jpg") == made, "its own may be replaced, whatever the format");
    fs::write(case.out.join("a.jpg"), "a letter").expect("written");
    let refused = case.run(&["resume", "job.json"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("found something else: move it away, or give --force"), "{stderr}");
    assert_eq!(case.read("a.jpg"), b"a letter");
    case.succeed(&["resume", "job.json", "--force"]);
    assert!(case.read("a.jpg") == made);
}

/// Kills one of two processes that prepare a package for the same cache, and one alone.
fn kill_preparing(together: u32, alone: u32) {
    let case = Case::new();
    case.succeed(&words("whole.png"));
    let whole = case.read("whole.png");
    case.settle();
    let start = |case: &Case| {
        let _ = fs::remove_dir_all(&case.cache);
        case.start(&words("killed.png"))
    };
    let start_two = |case: &Case| {
        let child = start(case);
        let mut other = case.start(&words("other.png"));
        assert!(other.wait().expect("ended").success());
        child
    };
    kill_at_every_moment(together, &case, start_two, |case, moment| {
        assert!(case.read("other.png") == whole, "{moment}");
    });
    kill_at_every_moment(alone, &case, start, |case, moment| {
        case.succeed(&words("next.png"));
        assert!(case.read("next.png") == whole, "{moment}");
        let listed = case.prepared();
        assert!(listed.contains("9 files checked, 3 graphs optimised"), "{listed}");
    });
}

#[test]
fn two_that_prepare_a_package_and_one_killed_leave_a_sound_cache() {
    kill_preparing(2, 2);
}

#[test]
#[ignore = "slow: kills sixty-six processes"]
fn sixty_six_that_prepare_a_package_leave_a_sound_cache() {
    kill_preparing(44, 22);
}

fn kill_grids(kills: u32) {
    let case = Case::new();
    let grid = ["grid", "a tree", "a boat", "--columns=seed=1,2", "--seed=1"];
    let small = ["--num-inference-steps=1", "--height=64", "--width=64", "--threads=1"];
    let words = [&grid[..], &small, &["--package=../package", "-o", "g.png"]].concat();
    case.succeed(&words);
    let whole = case.read("g.png");
    let start = |case: &Case| {
        case.clear(&[]);
        case.start(&words)
    };
    kill_at_every_moment(kills, &case, start, |case, moment| {
        for name in case.names().iter().filter(|name| !is_leftover(name)) {
            assert_eq!(name, "g.png", "{moment}");
            assert!(case.read("g.png") == whole, "{moment}");
        }
    });
}

#[test]
fn a_grid_that_is_killed_is_there_whole_or_not_at_all() {
    kill_grids(4);
}

#[test]
#[ignore = "slow: kills fifty-seven grids"]
fn fifty_seven_grids_that_are_killed_are_there_whole_or_not_at_all() {
    kill_grids(57);
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
    let cache = case.cache.join("pocketmuse/prepared");
    let kept = case.root.path().join("kept");
    support::folders::copy_folder(&cache, &kept);
    let mut tried = 0;
    for entry in fs::read_dir(&kept).expect("readable") {
        let source = entry.expect("an entry").path();
        let bytes = fs::read(&source).expect("a file");
        for (name, damage) in damages {
            fs::remove_dir_all(&cache).expect("removed");
            support::folders::copy_folder(&kept, &cache);
            let path = cache.join(source.file_name().expect("a name"));
            damage(&path, &bytes);
            case.succeed(&words("a.png"));
            assert!(case.read("a.png") == whole, "{} is {name}", path.display());
            tried += 1;
        }
    }
    assert!(tried >= 16, "{tried}");
}

/// Little address space is an error of one line, wherever it ends: what is left over the least that
/// a job is known to take is enough, and nothing between ends the process.
#[test]
fn too_little_address_space_is_said() {
    let case = Case::new();
    let image = words("a.png");
    let limits =
        [64_000, 80_000, 90_000, 100_000].into_iter().chain((110_000..800_000).step_by(30_000));
    let (mut refused, mut made) = (0, 0);
    for kibibytes in limits {
        let output = case.limited(&format!("ulimit -v {kibibytes}"), &image);
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            case.clear(&[]);
            made += 1;
            continue;
        }
        assert_eq!(output.status.code(), Some(2), "{kibibytes}: {stderr}");
        assert!(stderr.contains("MB of address space for"), "{kibibytes}: {stderr}");
        assert!(case.names().is_empty(), "{kibibytes}: {:?}", case.names());
        refused += 1;
    }
    assert!(refused >= 10 && made >= 5, "{refused} refused, {made} made");
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
        (&image, &[0, 1, 2, 4, 8]),
        (&job, &[0, 1, 2]),
        (&video, &[0, 1, 2, 4, 8]),
        (&grid, &[0, 1, 2, 4, 8]),
        (&["export", checkpoint, "-o", "p", "--flavour=f32"], &[0, 8, 64, 1024, 4096]),
        (&["synth", "--preset=tiny", "-o", "c"], &[0, 8, 32, 64]),
        (&["package", "../package", "-o", "p.pocketmuse"], &[0, 8, 64, 1024, 4096]),
    ];
    let mut full = 0;
    for (words, limits) in cases {
        for blocks in limits {
            let output = case.limited(&format!("trap '' XFSZ; ulimit -f {blocks}"), words);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{words:?}, {blocks}: {stderr}");
            let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
            assert_eq!(errors, 1, "{words:?}, {blocks}: {stderr}");
            let left = case.names();
            let is_job = |names: &[String]| names.iter().all(|name| name == "job.json");
            assert!(is_job(&left), "{words:?}, {blocks}: {left:?}");
            case.clear(&[]);
            full += 1;
        }
        case.succeed(words); // with room it is made
        case.clear(&[]);
    }
    assert!(full >= 31, "{full}");
}
