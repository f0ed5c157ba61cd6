//! The set-up with package clients that are scripts of ours, and with the machine's own pip and npm
//! in folders that want to be run. Nothing here uses the network.
#![cfg(unix)]

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    ops::ControlFlow,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use pocketmuse_package::{Digest, Error, ErrorKind};
use pocketmuse_setup::{
    Environment, Event, Library, Pinned, Setup, Source, WHEEL, for_this_machine,
};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

const MEMBER: &str = "onnxruntime/capi/libonnxruntime.so";

/// How a child process of these tests is told what to do.
const CACHE: &str = "POCKETMUSE_TEST_CACHE";

/// And how large the library is.
const BYTES: &str = "POCKETMUSE_TEST_BYTES";

const LIBRARY_BYTES: usize = 1 << 14;

/// Large enough for a kill to hit while it is unpacked.
const LARGE_LIBRARY_BYTES: usize = 1 << 20;

fn library(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn pinned(bytes: usize) -> Pinned {
    let sha256 = Digest::of(&library(bytes)).to_string().leak();
    let machine = for_this_machine().expect("a machine with a pinned library");
    Pinned {
        os: "",
        arch: "",
        tag: machine.tag,
        wheel: Source { member: MEMBER, sha256 },
        npm: Some(Source { member: "bin/libonnxruntime.so", sha256 }),
    }
}

/// A variable of a child process.
type Variable = (&'static str, OsString);

/// A set-up of our library of so many bytes in the machine at `root`.
fn setup_in(root: &Path, bytes: usize, environment: Environment) -> Setup {
    Setup {
        pinned: pinned(bytes),
        release: WHEEL,
        path: root.join("cache/onnxruntime/libonnxruntime.so"),
        environment: environment.with_system([root.join("system")]),
        may_install: true,
    }
}

/// A folder with programs, a cache, a wheel that holds the library, and what programs wrote down.
struct Machine {
    root: TempDir,
    library_bytes: usize,
}

impl Machine {
    fn new() -> Self {
        Self::with_library_of(LIBRARY_BYTES)
    }

    fn with_library_of(library_bytes: usize) -> Self {
        let machine = Self { root: tempfile::tempdir().expect("a folder"), library_bytes };
        for folder in ["bin", "system", "wheels", "hostile", "home"] {
            fs::create_dir(machine.at(folder)).expect("made");
        }
        let mut zip = zip::ZipWriter::new(File::create(machine.wheel()).expect("a file"));
        let info = "onnxruntime-1.32.0.dist-info";
        let files: [(&str, &[u8]); 4] = [
            (MEMBER, &library(library_bytes)),
            (
                &format!("{info}/METADATA"),
                b"Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.32.0\n",
            ),
            (&format!("{info}/WHEEL"), b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"),
            (&format!("{info}/RECORD"), b""),
        ];
        for (name, bytes) in files {
            zip.start_file(name, SimpleFileOptions::default()).expect("started");
            zip.write_all(bytes).expect("written");
        }
        zip.finish().expect("finished");
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn wheel(&self) -> PathBuf {
        let tag = for_this_machine().expect("a machine with a pinned library").tag;
        self.at("wheels").join(format!("onnxruntime-1.32.0-cp312-cp312-{tag}.whl"))
    }

    /// Puts a script into a folder; `$root` is the machine's.
    fn script(&self, path: &str, lines: &str) {
        let head = format!("#!/bin/sh\nroot='{}'\n", self.root.path().display());
        let path = self.at(path);
        fs::write(&path, head + lines).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn setup(&self) -> Setup {
        let variables = [("PATH", self.at("bin")), ("HOME", self.at("home"))];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        setup_in(self.root.path(), self.library_bytes, Environment::of(variables, None))
    }

    /// Sets the library up, and says what was told on the way.
    fn ensure(&self) -> (Result<Library, Error>, Vec<String>) {
        let mut notes = Vec::new();
        let result = self.setup().ensure(false, |event| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
            ControlFlow::Continue(())
        });
        (result, notes)
    }

    fn refused(&self) -> Error {
        self.ensure().0.expect_err("nobody brings it")
    }

    /// What lies beside the library.
    fn cache_names(&self) -> Vec<OsString> {
        let Ok(entries) = fs::read_dir(self.at("cache/onnxruntime")) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// A process in `folder` that sets the library up, with these variables and no others.
    fn process(&self, folder: &Path, variables: &[Variable]) -> Command {
        let mut command = Command::new(env::current_exe().expect("this test"));
        command.args(["--exact", "process_of_its_own", "--ignored", "--nocapture"]);
        command.current_dir(folder).env_clear().env(CACHE, self.root.path());
        command.env(BYTES, self.library_bytes.to_string());
        command.envs(variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// What the processes of [`Machine::process`] do. Their folder and environment are their own.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn process_of_its_own() {
    let Some(root) = env::var_os(CACHE) else { return };
    let bytes = env::var(BYTES).expect("set with it").parse().expect("a number");
    let setup = setup_in(Path::new(&root), bytes, Environment::of_this_process());
    setup.ensure(false, |_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{error}"));
}

/// A pip that brings the wheel.
const PIP: &str = r#"
/usr/bin/env > "$root/environment"
/bin/pwd > "$root/folder"
/bin/ls -A > "$root/listing"
echo "$0 $*" >> "$root/calls"
while [ "$1" != --dest ]; do shift; done
/bin/cp "$root"/wheels/*.whl "$2"
"#;

/// An npm that brings the library.
const NPM: &str = r#"
echo "$0 $*" >> "$root/calls"
while [ "$1" != --prefix ]; do shift; done
/bin/mkdir -p "$2/node_modules/onnxruntime-node/bin"
cd "$2/node_modules/onnxruntime-node/bin" && /bin/cat "$root/library" > libonnxruntime.so
"#;

const NO_PIP: &str = "echo \"$0: No module named pip\" >&2; exit 1\n";

#[test]
fn pip_brings_it_once() {
    let machine = Machine::new();
    machine.script("bin/python3", PIP);
    let (brought, notes) = machine.ensure();
    let brought = brought.expect("pip brings it");
    assert_eq!((brought.version, brought.is_new, notes.len()), ("1.32.0", true, 1));
    assert_eq!(fs::read(&brought.path).expect("read"), library(LIBRARY_BYTES));
    assert_eq!(machine.cache_names(), ["libonnxruntime.so", "lock"]);
    let (again, notes) = machine.ensure();
    assert_eq!(again.expect("there"), Library { is_new: false, ..brought });
    assert_eq!((notes.len(), machine.read("calls").lines().count()), (0, 1));
}

#[test]
fn what_is_there_needs_no_client_and_no_lock() {
    let machine = Machine::new();
    machine.script("bin/python3", PIP);
    machine.ensure().0.expect("pip brings it");
    fs::remove_file(machine.at("cache/onnxruntime/lock")).expect("removed");
    let setup = setup_in(machine.root.path(), LIBRARY_BYTES, Environment::of([], None));
    assert!(setup.find().is_some());
    assert!(setup.ensure(false, |_| ControlFlow::Break(())).is_ok());
    assert_eq!(machine.cache_names(), ["libonnxruntime.so"]);
}

#[test]
fn whatever_else_is_there_does_not_count() {
    let machine = Machine::new();
    let setup = machine.setup();
    let folder = setup.path.parent().expect("a folder");
    fs::create_dir_all(folder).expect("made");
    assert!(setup.find().is_none());
    fs::write(&setup.path, &library(LIBRARY_BYTES)[..LIBRARY_BYTES - 1]).expect("written");
    assert!(setup.find().is_none(), "cut short");
    fs::remove_file(&setup.path).expect("removed");
    symlink("/dev/zero", &setup.path).expect("linked");
    assert!(setup.find().is_none(), "no regular file");
    fs::remove_file(&setup.path).expect("removed");
    fs::write(folder.join("libonnxruntime.so.part"), "stray").expect("written");
    machine.script("bin/python3", PIP);
    assert!(machine.ensure().0.expect("pip brings it").is_new);
    assert_eq!(machine.cache_names(), ["libonnxruntime.so", "libonnxruntime.so.part", "lock"]);
}

#[test]
fn a_client_gets_an_empty_folder_and_a_clean_environment() {
    let machine = Machine::new();
    machine.script("bin/python3", PIP);
    machine.ensure().0.expect("pip brings it");
    assert_eq!(machine.read("listing"), "");
    let cache = machine.at("cache").canonicalize().expect("there");
    assert!(Path::new(machine.read("folder").trim()).starts_with(cache));
    let names: Vec<_> = machine
        .read("environment")
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_owned()))
        .filter(|name| !["_", "PWD", "OLDPWD", "SHLVL"].contains(&name.as_str())) // the shell's own
        .collect();
    for name in ["HOME", "PATH", "TEMP", "TMP", "TMPDIR"] {
        assert!(names.iter().any(|found| found == name), "{name} of {names:?}");
    }
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(machine.read("calls").contains("/bin/python3 -I -m pip download onnxruntime==1.32.0"));
}

#[test]
fn clients_follow_each_other() {
    // python, npm, apt-get; then who is called, in order
    type Case = (Option<&'static str>, Option<&'static str>, &'static str, &'static [&'static str]);
    let installs = "echo \"$0 $*\" >> \"$root/calls\"; [ -e \"$root/pip\" ] && \
                    /bin/cp \"$root/pip\" \"$root/bin/python3\"; exit 0\n";
    let cases: [Case; 5] = [
        (Some(PIP), Some(NPM), installs, &["bin/python3"]),
        (None, Some(NPM), installs, &["bin/npm"]),
        (Some(NO_PIP), Some(NPM), installs, &["bin/npm"]),
        (Some("echo ERROR: no route >&2; exit 1\n"), Some(NPM), installs, &["bin/npm"]),
        (Some(NO_PIP), None, installs, &["system/apt-get", "system/apt-get", "bin/python3"]),
    ];
    for (index, (python, npm, apt, expected)) in cases.into_iter().enumerate() {
        let machine = Machine::new();
        fs::write(machine.at("library"), library(LIBRARY_BYTES)).expect("written");
        machine.script("pip", PIP);
        for (path, lines) in [("bin/python3", python), ("bin/npm", npm)] {
            if let Some(lines) = lines {
                machine.script(path, lines);
            }
        }
        machine.script("system/apt-get", apt);
        machine.script("system/sudo", "shift; exec \"$@\"\n");
        machine.ensure().0.unwrap_or_else(|error| panic!("case {index}: {error}"));
        let calls = machine.read("calls");
        let programs: Vec<_> = calls.lines().filter_map(|line| line.split(' ').next()).collect();
        let expected: Vec<_> = expected.iter().map(|program| machine.at(program)).collect();
        assert_eq!(programs, expected.iter().map(|path| path.as_os_str()).collect::<Vec<_>>());
        assert_eq!(machine.cache_names(), ["libonnxruntime.so", "lock"], "case {index}");
    }
}

#[test]
fn nothing_but_the_library_is_installed_unless_asked_for() {
    let machine = Machine::new();
    let lacks = machine.at("bin/python3");
    for script in ["system/apt-get", "system/sudo"] {
        machine.script(script, "echo \"$0\" >> \"$root/calls\"\n");
    }
    let refused = |machine: &Machine| {
        let setup = Setup { may_install: false, ..machine.setup() };
        let error = setup.ensure(false, |_| ControlFlow::Continue(())).expect_err("no client");
        assert_eq!(error.kind(), ErrorKind::EngineMissing);
        error.detail().to_owned()
    };
    let detail = refused(&machine);
    let expected = "; install pip with: sudo apt-get install python3-pip, or run: pocketmuse setup";
    assert!(detail.contains(expected), "{detail}");
    // Where pip is there and fails, another one would, too.
    machine.script("bin/python3", "echo ERROR: no route >&2; exit 1\n");
    assert!(!refused(&machine).contains("apt-get"));
    fs::remove_file(lacks).expect("removed");
    fs::remove_file(machine.at("system/apt-get")).expect("removed");
    assert!(!refused(&machine).contains("apt-get"));
    assert!(!machine.at("calls").exists(), "nobody was called");
}

#[test]
fn an_error_says_what_was_tried_and_what_it_said() {
    let machine = Machine::new();
    machine.script(
        "bin/python3",
        "printf 'x\\nERROR: no \\033[2Jroute\\n' >&2\n\
         /usr/bin/yes n | /usr/bin/head -c 9000000\nexit 1\n",
    );
    machine.script("bin/npm", "echo 'npm error code E404' >&2; exit 1\n");
    let error = machine.refused();
    let (python, npm) = (machine.at("bin/python3"), machine.at("bin/npm"));
    assert_eq!(error.kind(), ErrorKind::EngineMissing);
    let expected = format!(
        "{} install onnxruntime-node@1.30.0: npm error code E404; install pip or npm",
        npm.display()
    );
    assert!(error.detail().contains(&expected), "{error}");
    let expected = format!("; {} -I -m pip download onnxruntime==1.32.0: ", python.display());
    assert!(error.detail().contains(&expected), "{error}");
    assert!(error.to_string().len() < 2000 && !error.to_string().contains('\u{1b}'), "{error}");

    machine.script("bin/python3", "printf 'ERROR: no \\033[2Jroute\\n' >&2; exit 1\n");
    let error = machine.refused();
    assert!(error.detail().contains("ERROR: no \\u{1b}[2Jroute; "), "{error}");
    assert_eq!(machine.cache_names(), ["lock"]);
}

#[test]
fn without_any_client_it_says_what_to_install() {
    let error = Machine::new().refused();
    let expected = "; pip: not found; npm: not found; apt-get: not found; install pip or npm";
    assert!(error.detail().contains(expected), "{error}");
}

#[test]
fn another_library_is_refused_and_the_next_client_tried() {
    let machine = Machine::new();
    machine.script(
        "bin/python3",
        "while [ \"$1\" != --dest ]; do shift; done; echo x > \"$2/a.whl\"\n",
    );
    machine.script("bin/npm", NPM);
    fs::write(machine.at("library"), b"another").expect("written");
    let error = machine.refused();
    assert!(error.detail().contains("expected a wheel, found"), "{error}");
    assert!(error.detail().contains("found "), "{error}");
    assert!(error.detail().contains("over 7 bytes"), "{error}");
    assert_eq!(machine.cache_names(), ["lock"]);
    fs::write(machine.at("library"), library(LIBRARY_BYTES)).expect("written");
    assert_eq!(machine.ensure().0.expect("npm brings it").version, "1.30.0");
}

#[test]
fn a_full_disk_is_said_at_once() {
    for said in ["OSError: [Errno 28] No space left on device", "npm error code ENOSPC"] {
        let machine = Machine::new();
        machine.script("bin/python3", &format!("echo \"ERROR: {said}\" >&2; exit 1\n"));
        machine.script("bin/npm", NPM);
        let error = machine.refused();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.detail().contains("of free disk"), "{error}");
        assert_eq!(
            (machine.read("calls"), machine.cache_names()),
            (String::new(), vec!["lock".into()])
        );
    }
}

#[test]
fn a_client_stops_when_asked() {
    let machine = Machine::new();
    machine.script("bin/python3", "exec /bin/sleep 600\n");
    let (started, mut waits) = (Instant::now(), 0);
    let error = machine.setup().ensure(false, |event| {
        waits += usize::from(event == Event::Waiting);
        if waits < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!(error.expect_err("stopped").kind(), ErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(60)); // it would sleep ten times as long
    assert_eq!(machine.cache_names(), ["lock"]);
}

#[test]
fn processes_side_by_side_bring_it_once() {
    let machine = Machine::new();
    machine.script("bin/python3", PIP);
    let folder = machine.at("home");
    let path = [("PATH", machine.at("bin").into())];
    let children: Vec<_> =
        (0..4).map(|_| machine.process(&folder, &path).spawn().expect("started")).collect();
    for child in children {
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(machine.read("calls").lines().count(), 1);
    assert_eq!(machine.cache_names(), ["libonnxruntime.so", "lock"]);
}

/// Kills at moments spread over the whole run, the unpacking included.
#[test]
fn a_kill_leaves_the_library_whole_or_not_at_all() {
    let machine = Machine::with_library_of(LARGE_LIBRARY_BYTES);
    machine.script("bin/python3", PIP);
    let (folder, path) = (machine.at("home"), [("PATH", machine.at("bin").into())]);
    let remove = || drop(fs::remove_dir_all(machine.at("cache")));
    let started = Instant::now();
    assert!(machine.process(&folder, &path).output().expect("ran").status.success());
    let whole = started.elapsed();
    for moment in 0..16 {
        remove();
        let mut child = machine.process(&folder, &path).spawn().expect("started");
        std::thread::sleep(whole * moment / 16);
        child.kill().expect("killed");
        child.wait().expect("ended");
        let library_path = machine.setup().path;
        if library_path.exists() {
            assert!(machine.setup().find().is_some(), "a half library at moment {moment}");
        }
    }
    machine.ensure().0.expect("whatever was left, it is brought");
    assert!(machine.setup().find().is_some());
}

#[test]
fn what_a_killed_process_left_is_swept_when_it_is_old() {
    let machine = Machine::new();
    machine.script("bin/python3", "echo x > \"$root/calls\"\nexec /bin/sleep 2\n");
    let path = [("PATH", machine.at("bin").into())];
    let mut child = machine.process(&machine.at("home"), &path).spawn().expect("started");
    while machine.read("calls").is_empty() {
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let left = machine.cache_names();
    assert_eq!(left.len(), 2, "{left:?}");

    machine.script("bin/python3", PIP);
    machine.ensure().0.expect("pip brings it");
    assert_eq!(machine.cache_names().len(), 3, "what is young stays");
    fs::remove_file(machine.setup().path).expect("removed");
    let folder = machine.at("cache/onnxruntime").join(&left[0]);
    make_old(&folder);
    machine.ensure().0.expect("pip brings it");
    assert_eq!(machine.cache_names(), ["libonnxruntime.so", "lock"]);
}

/// Lets a folder and all that is in it be of two hours ago.
fn make_old(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten() {
        make_old(&entry.expect("an entry").path());
    }
    let before = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    File::open(path).and_then(|file| file.set_modified(before)).expect("set");
}

/// Files that run if anything reads the folder in which they lie. All write `OWNED` beside
/// themselves.
fn make_hostile(folder: &Path) {
    let owned = folder.join("OWNED").display().to_string();
    let python = format!("open('{owned}', 'a').write(__file__ + '\\n')\n");
    let shell = format!("#!/bin/sh\necho \"$0\" >> '{owned}'\nexit 1\n");
    let node = format!("require('fs').appendFileSync('{owned}', __filename + '\\n')\n");
    let modules = [
        "pip.py",
        "pip/__init__.py",
        "pip/__main__.py",
        "sitecustomize.py",
        "usercustomize.py",
        "site.py",
        "os.py",
        "runpy.py",
        "encodings/__init__.py",
        "lib/python3/site-packages/pip.py",
    ];
    let scripts =
        ["evil.js", "node_modules/onnxruntime-node/index.js", "node_modules/npm/index.js"];
    let programs = [
        "python3",
        "python",
        "pip3",
        "npm",
        "node",
        "apt-get",
        "sudo",
        "bash",
        "env",
        "bin/python3",
        "bin/npm",
        "node_modules/.bin/node",
        "node_modules/.bin/npm",
    ];
    let package = r#"{"name": "x", "scripts":
        {"preinstall": "./npm", "install": "./npm", "postinstall": "./npm"}}"#;
    let texts = [
        ("evil.pth", "import evil"),
        ("evil.py", &python),
        (
            ".npmrc",
            "node-options=--require ./evil.js\nscript-shell=./npm\nignore-scripts=false\n\
             registry=http://127.0.0.1:9/\n",
        ),
        ("package.json", package),
        ("pip.conf", "[global]\nindex-url = http://127.0.0.1:9/\n"),
        ("setup.cfg", "[easy_install]\nindex_url = http://127.0.0.1:9/\n"),
    ];
    let all = modules.map(|name| (name, python.as_str())).into_iter();
    let all = all.chain(scripts.map(|name| (name, node.as_str()))).chain(texts);
    for (name, text) in all.chain(programs.map(|name| (name, shell.as_str()))) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }
}

/// What stands in front of the machine's own `PATH`, and other variables that lead to `hostile`.
fn kinds(hostile: &Path) -> Vec<(&'static str, OsString, Vec<Variable>)> {
    let here = || hostile.as_os_str().to_owned();
    let path = |text: &str| OsString::from(text);
    let none = Vec::new;
    vec![
        ("nothing but the folder", path("/nowhere:"), none()),
        ("a dot", path(".:"), none()),
        ("an empty entry", path(":"), none()),
        ("two empty entries", path("::"), none()),
        ("a relative folder", path("bin:"), none()),
        ("a relative folder with a dot", path("./bin:../hostile:"), none()),
        ("the folder by its name", joined(here(), ":"), none()),
        ("PYTHONPATH", path("/nowhere:"), vec![("PYTHONPATH", here())]),
        ("an empty PYTHONPATH", path("/nowhere:"), vec![("PYTHONPATH", path(":"))]),
        ("PYTHONHOME", path("/nowhere:"), vec![("PYTHONHOME", here())]),
        ("PYTHONUSERBASE", path("/nowhere:"), vec![("PYTHONUSERBASE", here())]),
        ("PYTHONSTARTUP", path("/nowhere:"), vec![("PYTHONSTARTUP", path("evil.py"))]),
        ("NODE_OPTIONS", path("/nowhere:"), vec![("NODE_OPTIONS", path("--require ./evil.js"))]),
        ("NODE_PATH", path("/nowhere:"), vec![("NODE_PATH", here())]),
        ("BASH_ENV", path("/nowhere:"), vec![("BASH_ENV", path("./npm")), ("ENV", path("./npm"))]),
    ]
}

/// One list of folders after another.
fn joined(mut first: OsString, second: impl AsRef<OsStr>) -> OsString {
    first.push(second);
    first
}

#[test]
fn nothing_of_the_current_folder_runs_beside_clients_of_ours() {
    let machine = Machine::new();
    machine.script("bin/python3", PIP);
    let hostile = machine.at("hostile");
    make_hostile(&hostile);
    for (kind, before, more) in kinds(&hostile) {
        let _ = fs::remove_dir_all(machine.at("cache"));
        let path = joined(before, machine.at("bin"));
        let variables = [vec![("PATH", path)], more].concat();
        let output = machine.process(&hostile, &variables).output().expect("started");
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(machine.read("hostile/OWNED"), "", "{kind}");
        assert_eq!(machine.read("listing"), "", "{kind}");
    }
    assert_eq!(machine.read("calls").lines().count(), kinds(&hostile).len());
}

/// All kinds at once, in front of the machine's own `PATH`, with `more`: what is left finds its
/// packages in our folder or nowhere.
fn process_with_all_kinds(machine: &Machine, hostile: &Path, front: Option<&str>) -> Command {
    let (mut path, mut variables) = (OsString::new(), Vec::new());
    for (_, before, more) in kinds(hostile) {
        path.push(before);
        variables.extend(more);
    }
    if let Some(front) = front {
        path.push(machine.at(front));
        path.push(":");
    }
    path.push(machine_path());
    variables.extend([
        ("PATH", path),
        ("HOME", machine.at("home").into()),
        ("PIP_NO_INDEX", "1".into()),
        ("PIP_FIND_LINKS", machine.at("wheels").into()),
        ("npm_config_registry", "http://127.0.0.1:9/".into()),
        ("npm_config_fetch_retries", "0".into()),
    ]);
    machine.process(hostile, &variables)
}

/// The folders of the machine's `PATH`, as the tests themselves were given them.
fn machine_path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

fn is_on_this_machine(program: &str) -> bool {
    Environment::of([("PATH".into(), machine_path())], None).find(program).is_some()
}

/// With the machine's own pip, where there is one, and a wheel of ours.
#[test]
fn nothing_of_the_current_folder_runs_in_a_real_pip() {
    if !is_on_this_machine("python3") {
        return;
    }
    let machine = Machine::new();
    let hostile = machine.at("hostile");
    make_hostile(&hostile);
    let output = process_with_all_kinds(&machine, &hostile, None).output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("pip: not found"), "{said}");
    assert_eq!(machine.read("hostile/OWNED"), "", "{said}");
}

/// With the machine's own npm, where there is one, and a registry that is not there.
#[test]
fn nothing_of_the_current_folder_runs_in_a_real_npm() {
    if !is_on_this_machine("npm") {
        return;
    }
    let machine = Machine::new();
    let hostile = machine.at("hostile");
    make_hostile(&hostile);
    for pip in ["python3", "python", "pip3", "pip"] {
        machine.script(&format!("bin/{pip}"), NO_PIP);
    }
    let mut process = process_with_all_kinds(&machine, &hostile, Some("bin"));
    let output = process.output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("npm install onnxruntime-node@1.30.0: npm error"), "{said}");
    assert_eq!(machine.read("hostile/OWNED"), "", "{said}");
}
