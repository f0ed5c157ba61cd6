//! OpenVINO's plug-in, from its wheel: pip brings it into the user's cache, once, and checks what it
//! is.

use std::{fs, path::PathBuf, process::Command};

use pocketmuse::library;
use pocketmuse_package::Digest;

/// `pip download onnxruntime-ep-openvino==1.8.1 --no-deps`, sha256sum.
const WHEEL: &str = "onnxruntime-ep-openvino==1.8.1 --hash=sha256:\
                     3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924";
const FOLDER: &str = "onnxruntime-ep-openvino-1.8.1";
const MEMBER: &str = "onnxruntime_ep_openvino/libonnxruntime_providers_openvino_plugin.so";
/// unzip, sha256sum.
const SHA256: &str = "99644306dea90173d2fac5e2ad8d10c9574ecf6e6e71ca30e426531abd5a717f";

/// The plug-in, with the libraries that it needs beside it.
pub(crate) fn plugin() -> PathBuf {
    let cache = library::cache_folder().expect("a cache of this user");
    let (folder, expected) = (cache.join(FOLDER), SHA256.parse().expect("a digest"));
    let plugin = folder.join(MEMBER);
    let is_whole = || Digest::of_file(&plugin).is_ok_and(|found: Digest| found == expected);
    if !is_whole() {
        fs::create_dir_all(&cache).expect("made");
        let work = tempfile::tempdir_in(&cache).expect("a folder");
        let (list, target) = (work.path().join("list.txt"), work.path().join("target"));
        fs::write(&list, WHEEL).expect("written");
        let mut pip = Command::new("python3");
        pip.args([
            "-I",
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--only-binary=:all:",
            "--no-compile",
        ]);
        pip.args(["--require-hashes", "--no-input", "--disable-pip-version-check", "--quiet"]);
        pip.arg("--requirement").arg(&list).arg("--target").arg(&target);
        let output = pip.output().expect("python3 with pip");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{WHEEL} could not be had: {said}");
        let _ = fs::remove_dir_all(&folder); // what is damaged
        // Another process may have put it there meanwhile.
        fs::rename(&target, &folder).unwrap_or_else(|error| assert!(is_whole(), "{error}"));
    }
    assert!(is_whole(), "expected {expected}, found another {}", plugin.display());
    plugin
}
