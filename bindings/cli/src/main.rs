//! The `pocketmuse` command.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    #[expect(unsafe_code, reason = "the environment is the only switch that comes early enough")]
    // SAFETY: nothing has started a thread yet, so nobody reads the environment meanwhile.
    unsafe {
        pocketmuse::library::disable_telemetry();
    }
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .init();
    ExitCode::from(pocketmuse_cli::run(env::args_os()))
}
