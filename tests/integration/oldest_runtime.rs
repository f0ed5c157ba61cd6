//! The oldest ONNX Runtime that is said to work does, and so do two between it and the newest: the
//! oldest with a model editor, and the one that the vendor's Swift package brings. Numbers are the
//! reference's, and packages that would have it read other files are refused. The newest is the
//! pinned one, which all tests run with.

use std::path::Path;

use pocketmuse::{Runtime, library};

use crate::support;

/// A process has one ONNX Runtime: the one that was named, if one was.
#[test]
fn the_runtime_is_the_one_that_is_named() {
    let Some(named) = std::env::var_os(library::VARIABLE).filter(|path| !path.is_empty()) else {
        support::runtime();
        return assert_ne!(Runtime::start(None).expect("brought").build_info(), "");
    };
    let runtime = Runtime::start(None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(runtime.path(), Path::new(&named));
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod oldest {
    use std::{env, ops::ControlFlow, process::Command};

    use pocketmuse::library;
    use pocketmuse_setup::{Event, Pinned, Release, Setup, Source, WHEEL};

    /// A version, and the SHA-256 of its library: `pip download onnxruntime==VERSION --no-deps
    /// --only-binary=:all: --python-version 3.12 --abi cp312 --platform manylinux_2_28_x86_64`,
    /// unzip, sha256sum.
    type Version = (&'static str, &'static str);

    /// The last of the versions that begin with [`library::MINIMUM_VERSION`].
    const OLDEST: Version =
        ("1.21.1", "3c8416b0e39ea0bac523265f681f6db6ec101d9441e12a1472dbc7c4a18bc1ac");
    const WITH_MODEL_EDITOR: Version =
        ("1.22.1", "ad9665887025474170d3e71cd28021e7e811c5bf201bc365f953e34a2c4989cc");
    const OF_SWIFT: Version =
        ("1.24.2", "7d5242d7bfbb8b0a2c6ae4d4883adac34c883129c8091f74f3e1bc9f740b1d62");

    /// What must hold with it, by the names of tests.
    const TESTS: [&str; 4] = ["exactness::", "hostile_packages::", "links::", "oldest_runtime::"];

    #[test]
    #[ignore = "slow: brings another ONNX Runtime, and runs a dozen tests again with it"]
    fn the_oldest_runtime_does_what_the_newest_does() {
        assert!(OLDEST.0.starts_with(library::MINIMUM_VERSION));
        does_what_the_newest_does(OLDEST);
    }

    #[test]
    #[ignore = "slow: brings another ONNX Runtime, and runs a dozen tests again with it"]
    fn version_1_22_does_what_the_newest_does() {
        does_what_the_newest_does(WITH_MODEL_EDITOR);
    }

    #[test]
    #[ignore = "slow: brings another ONNX Runtime, and runs a dozen tests again with it"]
    fn version_1_24_does_what_the_newest_does() {
        does_what_the_newest_does(OF_SWIFT);
    }

    fn does_what_the_newest_does((version, sha256): Version) {
        let release = Release { name: WHEEL.name, version };
        let pinned = Pinned {
            os: "linux",
            arch: "x86_64",
            tag: "manylinux_2_28_x86_64",
            wheel: Source { member: "onnxruntime/capi/libonnxruntime.so.{version}", sha256 },
            npm: None,
        };
        let cache = library::cache_folder().expect("a cache of this user");
        let folder = cache.join(format!("onnxruntime-{version}"));
        let setup = Setup {
            pinned,
            release,
            path: folder.join(library::file_name()),
            may_install: true,
            ..Setup::of_this_machine().expect("a machine with a pinned library")
        };
        let watch = |event: Event<'_>| {
            if let Event::Note(note) = event {
                println!("{note}");
            }
            ControlFlow::Continue(())
        };
        let library = setup.ensure(false, watch).unwrap_or_else(|error| panic!("{error}"));
        let mut tests = Command::new(env::current_exe().expect("these tests"));
        tests.args(TESTS).arg("--nocapture").env(library::VARIABLE, &library.path);
        let output = tests.output().expect("started");
        let stdout = String::from_utf8_lossy(&output.stdout);
        println!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success());
        for name in TESTS {
            let passed = stdout.lines().filter(|line| line.starts_with(&format!("test {name}")));
            assert!(passed.count() > 0, "{name}");
        }
    }
}
