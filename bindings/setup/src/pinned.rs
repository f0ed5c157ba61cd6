//! Which ONNX Runtime is brought for which platform, and what it must be: the
//! one table of versions, packages and digests.

use pocketmuse_package::{Error, ErrorKind, Result};

/// The library of one platform.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// `std::env::consts::OS` and `ARCH`.
    pub platform: (&'static str, &'static str),
    /// The wheel of [`WHEEL`] that pip is asked for.
    pub wheel: Source,
    /// The folder of [`NPM_PACKAGE`], where it carries a library that works alone.
    pub npm: Option<Source>,
}

/// Where a library lies within what a client brings.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// pip: the platform tag. npm: unused.
    pub tag: &'static str,
    /// The library's path within the package.
    pub member: &'static str,
    /// The library's SHA-256.
    pub sha256: &'static str,
}

/// What pip is asked for; its version is the pinned one.
pub const WHEEL: (&str, &str) = ("onnxruntime", "1.32.0");

/// What npm is asked for: it has no release of the pinned version, this is its newest.
pub const NPM_PACKAGE: (&str, &str) = ("onnxruntime-node", "1.30.0");

/// pip download onnxruntime==1.32.0 --no-deps --only-binary=:all: --python-version 3.12 --abi cp312
/// --platform TAG, unzip, sha256sum; npm pack onnxruntime-node@1.30.0, tar, sha256sum.
pub const PINNED: &[Pinned] = &[
    Pinned {
        platform: ("linux", "x86_64"),
        wheel: Source {
            tag: "manylinux_2_28_x86_64",
            member: "onnxruntime/capi/libonnxruntime.so.1.32.0",
            sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
        },
        npm: Some(Source {
            tag: "",
            member: "bin/napi-v6/linux/x64/libonnxruntime.so.1",
            sha256: "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23",
        }),
    },
    Pinned {
        platform: ("linux", "aarch64"),
        wheel: Source {
            tag: "manylinux_2_28_aarch64",
            member: "onnxruntime/capi/libonnxruntime.so.1.32.0",
            sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
        },
        npm: Some(Source {
            tag: "",
            member: "bin/napi-v6/linux/arm64/libonnxruntime.so.1",
            sha256: "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76",
        }),
    },
    Pinned {
        platform: ("macos", "aarch64"),
        wheel: Source {
            tag: "macosx_14_0_arm64",
            member: "onnxruntime/capi/libonnxruntime.1.32.0.dylib",
            sha256: "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
        },
        npm: Some(Source {
            tag: "",
            member: "bin/napi-v6/darwin/arm64/libonnxruntime.1.30.0.dylib",
            sha256: "685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d",
        }),
    },
    Pinned {
        platform: ("windows", "x86_64"),
        wheel: Source {
            tag: "win_amd64",
            member: "onnxruntime/capi/onnxruntime.dll",
            sha256: "443c0065fcdba17618ddef05050308f4b471893c5c7da0337d6957c9073ad8a7",
        },
        npm: None, // its build also wants DirectML beside it
    },
    Pinned {
        platform: ("windows", "aarch64"),
        wheel: Source {
            tag: "win_arm64",
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
/// `Runtime` if no build is pinned for it.
pub fn for_this_machine() -> Result<&'static Pinned> {
    let platform = (std::env::consts::OS, std::env::consts::ARCH);
    PINNED.iter().find(|pinned| pinned.platform == platform).ok_or_else(|| {
        let known: Vec<_> =
            PINNED.iter().map(|pinned| format!("{} {}", pinned.platform.0, pinned.platform.1)).collect();
        let detail = format!(
            "expected one of {}, found {} {}: install ONNX Runtime yourself and name it with ORT_DYLIB_PATH",
            known.join(", "),
            platform.0,
            platform.1
        );
        Error::new(ErrorKind::Runtime, "setup", detail)
    })
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::Digest;

    use super::*;

    #[test]
    fn every_digest_is_one_and_stands_once() {
        let sources =
            PINNED.iter().flat_map(|pinned| std::iter::once(pinned.wheel).chain(pinned.npm));
        let mut digests: Vec<_> = sources
            .map(|source| source.sha256.parse::<Digest>().expect("a digest").to_string())
            .collect();
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!((digests.len(), count), (8, 8));
    }

    #[test]
    fn the_wheel_is_the_version_that_the_runtime_looks_for() {
        assert_eq!(WHEEL.1, pocketmuse_package::library::PINNED_VERSION);
    }
}
