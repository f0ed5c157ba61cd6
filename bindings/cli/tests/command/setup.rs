//! `pocketmuse setup` as people run it.

use std::{fs, ops::ControlFlow, path::Path};

use pocketmuse_setup::Event;

use crate::support::{self, pocketmuse, succeed};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn offline_it_succeeds_if_the_library_is_there() {
    let watch = |_: Event<'_>| ControlFlow::Continue(());
    let library = pocketmuse_setup::ensure(false, watch).expect("ONNX Runtime");
    let said = succeed(folder().path(), &["setup", "--offline"]);
    let expected =
        format!("{}: ONNX Runtime {}, already there\n", library.path.display(), library.version);
    assert_eq!(said, expected);
}

#[test]
fn offline_it_says_where_the_library_is_missing() {
    let (root, cache) = (folder(), folder());
    let mut command = pocketmuse(root.path(), &["setup", "--offline"]);
    let output = command.env("XDG_CACHE_HOME", cache.path()).output().expect("started");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&*cache.path().to_string_lossy()), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(fs::read_dir(cache.path()).expect("readable").count(), 0);
}

#[test]
fn without_a_home_it_names_the_way_out() {
    let root = folder();
    let words: [&[&str]; 3] = [&["setup"], &["setup", "--offline"], &["generate", "a tree"]];
    for words in words {
        let mut command = pocketmuse(root.path(), words);
        let output = command.env_clear().env("HOME", ".").output().expect("started");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        let last = stderr.lines().last().unwrap_or_default();
        let is_named = last.contains(
            "expected a cache folder of this user, found no home: set \
                                      XDG_CACHE_HOME",
        );
        assert!(output.status.code() == Some(1) && is_named, "{words:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
}

#[cfg(unix)]
#[test]
fn where_a_home_cannot_be_written_it_names_the_way_out() {
    let root = folder();
    let watch = |_: Event<'_>| ControlFlow::Continue(());
    let library = pocketmuse_setup::ensure(false, watch).expect("ONNX Runtime").path;
    let words: [(&[&str], Option<&Path>); 2] =
        [(&["setup"], None), (&["generate", "a tree"], Some(&library))];
    for (words, library) in words {
        let mut command = pocketmuse(root.path(), words);
        command.env_clear().env("HOME", "/dev/null");
        command.envs(library.map(|library| ("ORT_DYLIB_PATH", library)));
        let output = command.output().expect("started");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        let advice = "; set XDG_CACHE_HOME to a folder that can be written";
        assert!(stderr.lines().last().is_some_and(|last| last.ends_with(advice)), "{stderr}");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
    }
    assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
}

/// Unless told not to, ONNX Runtime's packages keep an identifier of the device in the user's
/// cache, in a folder `Microsoft`.
#[cfg(target_os = "linux")]
#[test]
fn onnx_runtime_leaves_nothing_in_a_home() {
    let watch = |_: Event<'_>| ControlFlow::Continue(());
    let library = pocketmuse_setup::ensure(false, watch).expect("ONNX Runtime").path;
    let (root, home) = (folder(), folder());
    support::fill_cache(&home.path().join(".cache"), pocketmuse::Flavour::F32);
    let words = ["generate", "a tree", "--num-inference-steps", "1", "-o", "tree.png"];
    let mut command = pocketmuse(root.path(), &words);
    command.env_clear().env("HOME", home.path()).env("ORT_DYLIB_PATH", &library);
    let output = command.output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(support::names(home.path()), [".cache"]);
    assert_eq!(support::names(&home.path().join(".cache")), ["pocketmuse"]);
    assert_eq!(support::names(root.path()), ["tree.png"]);
}

/// The machine's own pip, in front of a folder whose `pip.py` would be run before it.
#[cfg(unix)]
#[test]
fn a_pip_of_the_current_folder_does_not_run() {
    use std::process::Command;
    let pip = ["-I", "-c", "import sys, pip; print(sys.executable)"];
    let Ok(output) = Command::new("python3").args(pip).output() else { return };
    if !output.status.success() {
        return; // no pip on this machine
    }
    let python = String::from_utf8(output.stdout).expect("UTF-8");
    for words in [&["setup"][..], &["generate", "x", "-o", "x.png"]] {
        let root = folder();
        let owned = root.path().join("OWNED");
        let code = format!("open({:?}, 'w')\nraise SystemExit('ERROR: refused')\n", &owned);
        fs::write(root.path().join("pip.py"), code).expect("written");
        fs::create_dir(root.path().join("bin")).expect("made");
        let link = root.path().join("bin/python3");
        std::os::unix::fs::symlink(python.trim(), link).expect("linked");
        let mut command = pocketmuse(root.path(), words);
        command.env_clear().env("HOME", root.path()).env("PATH", root.path().join("bin"));
        command.env("XDG_CACHE_HOME", root.path().join("cache")).env("PIP_NO_INDEX", "1");
        let output = command.output().expect("started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("the requirement onnxruntime==1.32.0"), "{stderr}");
        assert!(!owned.exists(), "{words:?}: {stderr}");
    }
}
