//! The `pocketmuse` command.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    keep_to_itself();
    pocketmuse_cli::logging::init();
    ExitCode::from(pocketmuse_cli::run(env::args_os()))
}

/// Switches off ONNX Runtime's usage reports, whose first is made before its interface for that can
/// be reached. A user who sets the variable decides otherwise.
fn keep_to_itself() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    if env::var_os(VARIABLE).is_none() {
        #[expect(
            unsafe_code,
            reason = "the environment is the only switch that comes early enough"
        )]
        // SAFETY: nothing has started a thread yet, so nobody reads the environment meanwhile.
        unsafe {
            env::set_var(VARIABLE, "1");
        }
    }
}
