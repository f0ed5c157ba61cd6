//! What this build is, and what it runs with.

use pocketmuse::{Runtime, internals::instruction_sets};

/// A line with the version; if `is_verbose`, others with the commit, the target, ONNX Runtime as it is
/// found here, and what the processor can multiply with.
pub(crate) fn lines(is_verbose: bool) -> Vec<String> {
    let mut lines = vec![format!("pocketmuse {}", env!("CARGO_PKG_VERSION"))];
    if is_verbose {
        let commit =
            option_env!("POCKETMUSE_COMMIT").unwrap_or("unknown: built outside its repository");
        let runtime = match Runtime::start(None) {
            Ok(runtime) => format!("{}, {}", runtime.build_info(), runtime.path().display()),
            Err(error) => {
                format!("not there: {}", error.detail().lines().next().unwrap_or_default())
            }
        };
        lines.extend([
            format!("commit {commit}"),
            format!("target {}", env!("POCKETMUSE_TARGET")),
            format!("ONNX Runtime {runtime}"),
            format!("instruction sets {}", instruction_sets().join(" ")),
        ]);
    }
    lines
}
