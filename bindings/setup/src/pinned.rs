//! Which ONNX Runtime is brought for which platform, and what it must be: the one table of
//! packages, platform names and digests.

use std::env;

use pocketmuse_package::{Digest, Error, ErrorKind, Result, library};

/// A release of ONNX Runtime as a package client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// What the registry calls it.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What pip is asked for.
pub const WHEEL: Release = Release { name: "onnxruntime", version: library::PINNED_VERSION };

/// What npm is asked for: it has no release of the pinned version, this is its newest.
pub const NPM_PACKAGE: Release = Release { name: "onnxruntime-node", version: "1.30.0" };

/// The library of one platform.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// `std::env::consts::OS`.
    pub os: &'static str,
    /// `std::env::consts::ARCH`.
    pub arch: &'static str,
    /// The platform tag of the wheel that pip is asked for.
    pub tag: &'static str,
    /// The library in that wheel of [`WHEEL`].
    pub wheel: Source,
    /// The library in [`NPM_PACKAGE`], where it carries one that works alone.
    pub npm: Option<Source>,
}

/// A library within what a client brings.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its path within the package, `{version}` for the release's version.
    pub member: &'static str,
    /// Its SHA-256.
    pub sha256: &'static str,
}

impl Source {
    /// The library's path within a package of `release`.
    pub fn member(&self, release: Release) -> String {
        self.member.replace("{version}", release.version)
    }

    /// What the library must be.
    ///
    /// # Panics
    ///
    /// If the table's digest is none.
    pub fn digest(&self) -> Digest {
        self.sha256.parse().expect("the table holds digests, and a test says so")
    }
}

/// pip download onnxruntime==1.32.0 --no-deps --only-binary=:all: --python-version 3.12 --abi cp312
/// --platform TAG, unzip, sha256sum; npm pack onnxruntime-node@1.30.0, tar, sha256sum.
pub const PINNED: &[Pinned] = &[
    Pinned {
        os: "linux",
        arch: "x86_64",
        tag: "manylinux_2_28_x86_64",
        wheel: Source {
            member: "onnxruntime/capi/libonnxruntime.so.{version}",
            sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
        },
        npm: Some(Source {
            member: "bin/napi-v6/linux/x64/libonnxruntime.so.1",
            sha256: "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23",
        }),
    },
    Pinned {
        os: "linux",
        arch: "aarch64",
        tag: "manylinux_2_28_aarch64",
        wheel: Source {
            member: "onnxruntime/capi/libonnxruntime.so.{version}",
            sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
        },
        npm: Some(Source {
            member: "bin/napi-v6/linux/arm64/libonnxruntime.so.1",
            sha256: "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76",
        }),
    },
    Pinned {
        os: "macos",
        arch: "aarch64",
        tag: "macosx_14_0_arm64",
        wheel: Source {
            member: "onnxruntime/capi/libonnxruntime.{version}.dylib",
            sha256: "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
        },
        npm: Some(Source {
            member: "bin/napi-v6/darwin/arm64/libonnxruntime.{version}.dylib",
            sha256: "685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d",
        }),
    },
    Pinned {
        os: "windows",
        arch: "x86_64",
        tag: "win_amd64",
        wheel: Source {
            member: "onnxruntime/capi/onnxruntime.dll",
            sha256: "443c0065fcdba17618ddef05050308f4b471893c5c7da0337d6957c9073ad8a7",
        },
        npm: None, // its build also wants DirectML beside it
    },
    Pinned {
        os: "windows",
        arch: "aarch64",
        tag: "win_arm64",
        wheel: Source {
            member: "onnxruntime/capi/onnxruntime.dll",
            sha256: "a5c1951a7d495fa0c22a0865fe36981fe67f9d5dc7ba3893c20fa7266dd1e994",
        },
        npm: None,
    },
];

/// The library for this machine.
///
/// # Errors
///
/// `EngineMissing` if no build is pinned for it.
pub fn for_this_machine() -> Result<&'static Pinned> {
    let (os, arch) = (env::consts::OS, env::consts::ARCH);
    PINNED.iter().find(|pinned| (pinned.os, pinned.arch) == (os, arch)).ok_or_else(|| {
        let known: Vec<_> =
            PINNED.iter().map(|pinned| format!("{} {}", pinned.os, pinned.arch)).collect();
        let detail = format!(
            "expected one of {}, found {os} {arch}: install ONNX Runtime yourself and name it \
             with ORT_DYLIB_PATH",
            known.join(", ")
        );
        Error::new(ErrorKind::EngineMissing, "setup", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digest_is_one_and_stands_once() {
        let sources =
            PINNED.iter().flat_map(|pinned| std::iter::once(pinned.wheel).chain(pinned.npm));
        let mut digests: Vec<_> = sources.map(|source| source.digest().to_string()).collect();
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!((digests.len(), count), (8, 8));
    }

    #[test]
    fn names_within_packages_carry_the_version() {
        let linux = &PINNED[0];
        assert_eq!(linux.wheel.member(WHEEL), "onnxruntime/capi/libonnxruntime.so.1.32.0");
        let macos = PINNED[2].npm.expect("npm has it");
        assert!(macos.member(NPM_PACKAGE).ends_with("/libonnxruntime.1.30.0.dylib"));
    }
}
