//! The `pocketmuse` command.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    #[expect(unsafe_code, reason = "the environment is the only switch that comes early enough")]
    // SAFETY: nothing has started a thread yet, so nobody reads the environment meanwhile.
    unsafe {
        pocketmuse::library::disable_telemetry();
    }
    pocketmuse_cli::logging::init();
    ExitCode::from(pocketmuse_cli::run(env::args_os()))
}
