//! QNN's plug-in, with its simulator of a Hexagon.

use std::path::PathBuf;

#[path = "wheel.rs"]
mod wheel;

use self::wheel::Wheel;

const WHEEL: Wheel = Wheel {
    release: "onnxruntime-qnn==2.7.0",
    sha256: "c56c01562b8534fe8980cfea4601408d950c065f8251fb862ce82101c52c9849",
    // One of several: the libraries in them are the same.
    platform: &[
        "--implementation=cp",
        "--python-version=3.11",
        "--abi=cp311",
        "--platform=manylinux_2_35_x86_64",
    ],
    plugin: "onnxruntime_qnn/libonnxruntime_providers_qnn.so",
    plugin_sha256: "629dfc151fc842bf9aa6ecdba89c0a864cd50e90fda960f9631e234fed5fc457",
};

/// The plug-in, with the libraries that it needs beside it.
pub(crate) fn plugin() -> PathBuf {
    WHEEL.plugin()
}
