//! Where ONNX Runtime lies in the user's cache, and which version that is: what the set-up writes
//! and the runtime reads. Knows neither how the library comes there nor how it is loaded.

use std::{env, path::PathBuf};

use etcetera::BaseStrategy as _;

/// The version that the set-up brings.
pub const PINNED_VERSION: &str = "1.32.0";

/// The library's file name on this system: `libonnxruntime.so`, `libonnxruntime.dylib` or
/// `onnxruntime.dll`.
pub fn file_name() -> String {
    format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)
}

/// The project's folder in the user's cache, whether or not it exists; `None` where a user has no
/// home.
pub fn cache_folder() -> Option<PathBuf> {
    let cache = etcetera::choose_base_strategy().ok()?.cache_dir();
    // A relative home would put code into the current folder, whichever that is.
    cache.is_absolute().then(|| cache.join("pocketmuse"))
}

/// Where the set-up puts the library: `onnxruntime-<version>/<file name>` in [`cache_folder`].
pub fn cached() -> Option<PathBuf> {
    Some(cache_folder()?.join(format!("onnxruntime-{PINNED_VERSION}")).join(file_name()))
}
