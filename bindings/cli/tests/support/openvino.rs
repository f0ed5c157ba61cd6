//! OpenVINO's plug-in.

use std::{fs, path::PathBuf};

#[path = "wheel.rs"]
mod wheel;

use self::wheel::Wheel;

const WHEEL: Wheel = Wheel {
    release: "onnxruntime-ep-openvino==1.8.1",
    sha256: "3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924",
    platform: &[],
    plugin: "onnxruntime_ep_openvino/libonnxruntime_providers_openvino_plugin.so",
    plugin_sha256: "99644306dea90173d2fac5e2ad8d10c9574ecf6e6e71ca30e426531abd5a717f",
};

/// The plug-in, with the libraries that it needs beside it.
pub(crate) fn plugin() -> PathBuf {
    WHEEL.plugin()
}

/// Why the plug-in offers no device here, if it does not: it knows processors of Intel alone.
pub(crate) fn missing() -> Option<&'static str> {
    let is_intel =
        fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| cpu.contains("GenuineIntel"));
    (!is_intel).then_some("OpenVINO's plug-in has no device but Intel's")
}
