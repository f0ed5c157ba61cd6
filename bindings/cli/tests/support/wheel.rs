//! Plug-ins from their wheels: pip brings one into the user's cache, once, and checks what it is.

use std::{fs, path::PathBuf, process::Command};

use pocketmuse::library;
use pocketmuse_package::Digest;

/// A wheel with a plug-in.
pub(crate) struct Wheel {
    /// Name and version, as pip takes them.
    pub(crate) release: &'static str,
    /// `pip download --no-deps`, sha256sum.
    pub(crate) sha256: &'static str,
    /// Which of several wheels, as words for pip.
    pub(crate) platform: &'static [&'static str],
    /// The plug-in in it.
    pub(crate) plugin: &'static str,
    /// unzip, sha256sum.
    pub(crate) plugin_sha256: &'static str,
}

impl Wheel {
    /// The plug-in, with the libraries that it needs beside it.
    pub(crate) fn plugin(&self) -> PathBuf {
        let cache = library::cache_folder().expect("a cache of this user");
        let folder = cache.join(self.release.replace("==", "-"));
        let (expected, plugin) =
            (self.plugin_sha256.parse().expect("a digest"), folder.join(self.plugin));
        let is_whole = || Digest::of_file(&plugin).is_ok_and(|found: Digest| found == expected);
        if !is_whole() {
            fs::create_dir_all(&cache).expect("made");
            let work = tempfile::tempdir_in(&cache).expect("a folder");
            let (list, target) = (work.path().join("list.txt"), work.path().join("target"));
            let wheel = format!("{} --hash=sha256:{}", self.release, self.sha256);
            fs::write(&list, &wheel).expect("written");
            let mut pip = Command::new("python3");
            pip.args(["-I", "-m", "pip", "install", "--no-deps", "--only-binary=:all:"]);
            pip.args(["--no-compile", "--require-hashes", "--no-input", "--quiet"]);
            pip.arg("--disable-pip-version-check").args(self.platform);
            pip.arg("--requirement").arg(&list).arg("--target").arg(&target);
            let output = pip.output().expect("python3 with pip");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{wheel} could not be had: {said}");
            let _ = fs::remove_dir_all(&folder); // what is damaged
            // Another process may have put it there meanwhile.
            fs::rename(&target, &folder).unwrap_or_else(|error| assert!(is_whole(), "{error}"));
        }
        assert!(is_whole(), "expected {expected}, found another {}", plugin.display());
        plugin
    }
}
